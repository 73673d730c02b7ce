"""Draws the embedded sample: simple scenes under upstream's paths, with the questions upstream would ask.

Nothing here is a photograph or the work of an image model. The three domains only differ in manner: `real` is
shaded like a photo, `sdxl` like a render on a plain backdrop, `dalle` comes in four styles and in a plain
one. The ids are high ones, above those of Visual Genome, so that no drawing bears the name of a real photo.
What is in a scene stands in draw_scenes.py, how it is painted in draw_manners.py.

`PYTHONPATH=. python tests/drawing/draw_sample.py` draws the sample anew and puts it in place: data/, schema/,
dataset_infos.json, checksums.json, the generated blocks of README.md and the contact sheet that it shows.
"""

from __future__ import annotations

import json
import random
import shutil
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path

import upload
from mmrel_kit.build.finish import make_index
from mmrel_kit.card.readme import read_card, render_card
from mmrel_kit.files import SCHEMAS
from mmrel_kit.questions.records import Triplet, make_question
from tests.drawing.draw_manners import MANNERS, paint
from tests.drawing.draw_scenes import SIZES, SPATIAL, arrange

REPOSITORY = Path(__file__).resolve().parents[2]
SHEET = "tests/data/sample.png"
NOTE = "A drawn sample in the layout of a release, not the benchmark: simple scenes that a script drew."
# What of a release stands in this repository; its card and loader are this project's own.
PLACED = ("data", *SCHEMAS, "dataset_infos.json", "croissant.json")
SPLITS = ("train", "test", "adversarial")
INSTRUCTION = " Please answer with one word."
STYLES = ("photo-realistic", "watercolor", "abstract", "oil-painting", "")
# What each domain shows in each split. In sdxl one entry is one folder of upstream's SPEC, as many pictures:
# "*" left, over, right and under, "~" smaller and bigger.
SCENES = {
    "real": {
        "train": """cat left car, dog right tree, airplane above house, cup on table, cat in box,
            dog under table, person ride horse, man kick ball, dog chase cat, woman hold umbrella,
            elephant bigger dog, apple smaller chair, house bigger flower, bird smaller horse""",
        "test": """horse left house, bird right flower, balloon above car, apple on chair,
            person in boat, ball under bed, man ride bicycle, woman throw ball, person fly kite,
            woman push box, car bigger ball, cup smaller table, tree bigger cat, fish smaller boat""",
        "adversarial": """elephant left cup, apple right airplane, car above house, fish on tree,
            horse in cup, elephant under chair, elephant ride bicycle, person lift elephant,
            cat pull car, dog wear hat, apple bigger elephant, house smaller cat, banana bigger boat,
            tree smaller ball""",
    },
    "sdxl": {
        "train": "cat * box, apple * umbrella, dog ~ ball, car ~ cup",
        "test": "bird * chair, ball * house, elephant ~ bird, banana ~ table",
        "adversarial": "fish * car, elephant * apple, flower ~ house, airplane ~ cat",
    },
    "dalle": {
        "train": """bird left tree, umbrella right chair, kite above house, cat on bed, apple in basket,
            horse under tree, woman ride elephant, man eat apple, cat push ball, person pull boat,
            woman wear hat, man sit chair""",
        "test": """ball left dog, boat right bird, bird above boat, flower on box, apple in cup,
            woman under umbrella, man lift box, woman carry basket, dog chase bird, woman fly kite,
            dog push ball, person throw apple""",
        "adversarial": """fish left airplane, chair right elephant, boat above tree, house on elephant,
            car in basket, fish under umbrella, dog ride horse, fish ride bicycle,
            elephant hold umbrella, bird pull car, man carry house, cat chase elephant""",
    },
}
# A verb that the picture plainly does not show.
FALSE_VERBS = {
    "ride": "push", "kick": "throw", "chase": "ride", "hold": "throw", "throw": "kick", "fly": "kick",
    "push": "carry", "lift": "push", "pull": "push", "wear": "eat", "eat": "throw", "sit": "carry",
    "carry": "kick",
}  # fmt: skip


def write_picture(path: Path, triplet: Triplet, manner: str, rng: random.Random) -> None:
    """Draws the scene of a triplet in a manner and stores it, as JPEG or PNG by its name."""
    size = MANNERS[manner][1]
    wet = (
        "boat" in triplet and triplet[1] not in ("pull", "on") and triplet[:2] != ("boat", "above")
    )
    image = paint(arrange(*triplet, (100 * size[0] // size[1], 100), rng), manner, wet, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True, quality=80)  # PNG has no quality


def scenes(domain: str, split: str, rng: random.Random) -> Iterator[tuple[str, Triplet, str]]:
    """Path, triplet and manner of each picture of a domain and split."""
    start = 10 * SPLITS.index(split)
    for number, text in enumerate(SCENES[domain][split].split(",")):
        subject, relation, other = text.split()
        if domain == "sdxl":
            kind, relations = {
                "*": ("spatial", {0: "left", 1: "over", 2: "right", 3: "under"}),
                "~": ("size", {0: "smaller", 2: "bigger"}),
            }[relation]
            for k, word in relations.items():
                path = f"SPEC/relative_{kind}/{90000000 + start + number}/{k}.jpg"
                yield path, Triplet(subject, word, other), "sdxl"
        elif domain == "real":
            folder, base = rng.choice((("VG_100K", 9000000), ("VG_100K_2", 9500000)))
            yield (
                f"vg/{folder}/{base + 100 * start + number}.jpg",
                Triplet(subject, relation, other),
                "real",
            )
        else:
            style = STYLES[(number + SPLITS.index(split)) % len(STYLES)]
            kind = "spatial" if relation in SPATIAL else "action"
            name = f"{90000 + 10 * start + number}{'_' * bool(style)}{style}.png"
            yield f"Dall-E_generated/{kind}/{name}", Triplet(subject, relation, other), style


def questions(domain: str, triplet: Triplet, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Question and label: the true one, a false one and the open one."""
    subject, relation, other = triplet
    category = (
        "spatial" if relation in SPATIAL else "comparative" if relation in SIZES else "action"
    )
    swapped = Triplet(other, relation, subject)
    false = (
        swapped if category == "spatial" else Triplet(subject, FALSE_VERBS.get(relation, ""), other)
    )
    if category == "comparative":
        false = rng.choice((swapped, Triplet(subject, SIZES[relation == "bigger"], other)))
    yield make_question(domain, category, triplet), "yes"
    yield make_question(domain, category, false), "no"
    yield make_question(domain, category, triplet, "generative"), relation


def draw_sources(folder: Path, seed: int = 0) -> None:
    """Writes what upstream would give: pictures under its paths and a file of questions for each split.

    Args:
        folder: Where they go; made if need be.
        seed: Same seed and same Pillow, same bytes.
    """
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        lines = []
        for domain in SCENES:
            rng = random.Random(f"{seed} {domain} {split}")
            for path, triplet, manner in list(scenes(domain, split, rng)):
                write_picture(folder / path, triplet, manner, random.Random(f"{seed} {path}"))
                for question, label in questions(domain, triplet, rng):
                    name = "".join(rng.choices(string.ascii_lowercase + string.digits, k=15))
                    text = question + INSTRUCTION
                    record = {
                        "question_id": name,
                        "image": path,
                        "text": text,
                        "label": label,
                        "split": split,
                    }
                    lines.append(json.dumps(record) + "\n")
        (folder / "json" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def build_sample(folder: Path) -> Path:
    """Draws the sample's sources and builds a release from them; returns its folder."""
    draw_sources(folder / "sources")
    arguments = [
        "--annotations",
        folder / "sources" / "json",
        "--images",
        folder / "sources",
        "--note",
        NOTE,
    ]
    if upload.main(["build", *map(str, arguments), "--out", str(folder / "release")]):
        raise SystemExit("the sample could not be built")
    return folder / "release"


def make_placed_index(release: Path) -> str:
    """checksums.json of what stands in this repository."""
    index = json.loads((release / "checksums.json").read_text("utf-8"))
    files = {name: file for name, file in index["files"].items() if name.startswith(PLACED)}
    return make_index(files, index["note"])


def make_readme(release: Path) -> str:
    """This project's README.md with the generated parts of a release's card."""
    generated = read_card((release / "README.md").read_text("utf-8"))
    return render_card((REPOSITORY / "README.md").read_text("utf-8"), generated, keep_project=True)


def place_sample(release: Path) -> None:
    """Puts the parts of a release that stand in this repository in their places."""
    for name in PLACED:
        target = REPOSITORY / name
        if target.is_dir():
            shutil.rmtree(target)
        shutil.move(release / name, target)
    (REPOSITORY / "checksums.json").write_text(make_placed_index(release), "utf-8", newline="\n")
    (REPOSITORY / "README.md").write_text(make_readme(release), "utf-8", newline="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        built = build_sample(Path(scratch))
        upload.main(["sheet", str(built), "--out", str(REPOSITORY / SHEET)])
        place_sample(built)
