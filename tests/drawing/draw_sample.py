"""Draw the embedded sample: simple scenes at upstream's paths, with questions like upstream's.

No picture is a photograph or comes from an image model. The domains differ in manner alone: `real`
is shaded like a photo, `sdxl` like a render on a plain backdrop, and `dalle` has four styles and a
plain one. The ids are larger than those of Visual Genome, so that no drawing has the name of a real
photo. draw_scenes.py arranges the scenes, draw_manners.py paints them.

`PYTHONPATH=. python -m tests.drawing.draw_sample` draws the sample and replaces data/, schema/,
dataset_infos.json, checksums.json, the generated blocks of README.md and its contact sheet.
"""

from __future__ import annotations

import json
import random
import shutil
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import upload
from mmrel_kit.build.finish import make_index
from mmrel_kit.card.readme import read_card, render_card
from mmrel_kit.files import SCHEMAS
from mmrel_kit.questions.records import Triplet, make_question
from tests.drawing.draw_manners import MANNERS, paint
from tests.drawing.draw_scenes import SIZES, SPATIAL, arrange

REPOSITORY = Path(__file__).resolve().parents[2]
SHEET = "tests/data/sample.png"
NOTE = (
    "A drawn sample in the layout of a release, not the benchmark: "
    "simple scenes that a script drew."
)
# The parts of the release that are copied into this repository, which has its own card and loader.
PLACED = ("data", *SCHEMAS, "dataset_infos.json", "croissant.json")
SPLITS = ("train", "test", "adversarial")
INSTRUCTION = " Please answer with one word."
STYLES = ("photo-realistic", "watercolor", "abstract", "oil-painting", "")
# The scenes of each domain and split. In sdxl an entry is a folder of upstream's SPEC with several
# pictures: "*" is left, over, right and under, "~" is smaller and bigger.
SCENES = {
    "real": {
        "train": """cat left car, dog right tree, airplane above house, cup on table, cat in box,
            dog under table, person ride horse, man kick ball, dog chase cat, woman hold umbrella,
            elephant bigger dog, apple smaller chair, house bigger flower, bird smaller horse""",
        "test": """horse left house, bird right flower, balloon above car, apple on chair,
            person in boat, ball under bed, man ride bicycle, woman throw ball, person fly kite,
            woman push box, car bigger ball, cup smaller table, tree bigger cat,
            fish smaller boat""",
        "adversarial": """elephant left cup, apple right airplane, car above house, fish on tree,
            horse in cup, elephant under chair, elephant ride bicycle, person lift elephant,
            cat pull car, dog wear hat, apple bigger elephant, house smaller cat,
            banana bigger boat, tree smaller ball""",
    },
    "sdxl": {
        "train": "cat * box, apple * umbrella, dog ~ ball, car ~ cup",
        "test": "bird * chair, ball * house, elephant ~ bird, banana ~ table",
        "adversarial": "fish * car, elephant * apple, flower ~ house, airplane ~ cat",
    },
    "dalle": {
        "train": """bird left tree, umbrella right chair, kite above house, cat on bed,
            apple in basket, horse under tree, woman ride elephant, man eat apple, cat push ball,
            person pull boat, woman wear hat, man sit chair""",
        "test": """ball left dog, boat right bird, bird above boat, flower on box, apple in cup,
            woman under umbrella, man lift box, woman carry basket, dog chase bird, woman fly kite,
            dog push ball, person throw apple""",
        "adversarial": """fish left airplane, chair right elephant, boat above tree,
            house on elephant, car in basket, fish under umbrella, dog ride horse,
            fish ride bicycle, elephant hold umbrella, bird pull car, man carry house,
            cat chase elephant""",
    },
}
SPEC_RELATIONS = {
    "*": {0: "left", 1: "over", 2: "right", 3: "under"},
    "~": {0: "smaller", 2: "bigger"},
}
# For each verb, one that its picture plainly does not show.
FALSE_VERBS = {
    "ride": "push",
    "kick": "throw",
    "chase": "ride",
    "hold": "throw",
    "throw": "kick",
    "fly": "kick",
    "push": "carry",
    "lift": "push",
    "pull": "push",
    "wear": "eat",
    "eat": "throw",
    "sit": "carry",
    "carry": "kick",
}


class Scene(NamedTuple):
    """A picture of the sample: its path, its triplet, and its manner, a key of MANNERS."""

    path: str
    triplet: Triplet
    manner: str


def write_picture(path: Path, scene: Scene, rng: random.Random) -> None:
    """Draw a scene and write it as JPEG or PNG, by the extension of the path."""
    width, height = MANNERS[scene.manner].size
    items = arrange(*scene.triplet, (100 * width // height, 100), rng)
    image = paint(items, scene.manner, is_on_water(scene.triplet), rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True, quality=80)  # PNG ignores the quality


def is_on_water(triplet: Triplet) -> bool:
    """Return whether the scene of a triplet has a boat on water."""
    if "boat" not in triplet or triplet.relation in ("pull", "on"):
        return False
    return (triplet.subject, triplet.relation) != ("boat", "above")


def list_scenes(domain: str, split: str, rng: random.Random) -> Iterator[Scene]:
    """Yield the scenes of a domain and split."""
    start = 10 * SPLITS.index(split)
    for number, text in enumerate(SCENES[domain][split].split(",")):
        triplet = Triplet(*text.split())
        if domain == "sdxl":
            kind = "spatial" if triplet.relation == "*" else "size"
            for image_number, relation in SPEC_RELATIONS[triplet.relation].items():
                folder = f"SPEC/relative_{kind}/{90000000 + start + number}"
                yield Scene(
                    f"{folder}/{image_number}.jpg", triplet._replace(relation=relation), "sdxl"
                )
        elif domain == "real":
            folder, base = rng.choice((("VG_100K", 9000000), ("VG_100K_2", 9500000)))
            yield Scene(f"vg/{folder}/{base + 100 * start + number}.jpg", triplet, "real")
        else:
            style = STYLES[(number + SPLITS.index(split)) % len(STYLES)]
            kind = "spatial" if triplet.relation in SPATIAL else "action"
            name = str(90000 + 10 * start + number)
            if style:
                name += f"_{style}"
            yield Scene(f"Dall-E_generated/{kind}/{name}.png", triplet, style)


def find_category(relation: str) -> str:
    """Return the category of a relation."""
    if relation in SPATIAL:
        return "spatial"
    return "comparative" if relation in SIZES else "action"


def make_false(category: str, triplet: Triplet, rng: random.Random) -> Triplet:
    """Return a triplet that is false in the scene of another one."""
    swapped = Triplet(triplet.object, triplet.relation, triplet.subject)
    if category == "spatial":
        return swapped
    if category == "action":
        return triplet._replace(relation=FALSE_VERBS[triplet.relation])
    opposite = "smaller" if triplet.relation == "bigger" else "bigger"
    return rng.choice((swapped, triplet._replace(relation=opposite)))


def make_questions(domain: str, triplet: Triplet, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield the questions about a scene with their labels: yes, no, and open-ended."""
    category = find_category(triplet.relation)
    false = make_false(category, triplet, rng)
    yield make_question(domain, category, triplet), "yes"
    yield make_question(domain, category, false), "no"
    yield make_question(domain, category, triplet, "generative"), triplet.relation


def draw_sources(folder: Path, seed: int = 0) -> None:
    """Write pictures and a file of questions for each split, as upstream publishes them.

    Args:
        folder: the folder to write to, created at need.
        seed: the seed of all drawings; with the same Pillow it gives the same bytes.
    """
    (folder / "json").mkdir(parents=True, exist_ok=True)
    alphabet = string.ascii_lowercase + string.digits
    for split in SPLITS:
        lines = []
        for domain in SCENES:
            rng = random.Random(f"{seed} {domain} {split}")
            for scene in list(list_scenes(domain, split, rng)):
                write_picture(folder / scene.path, scene, random.Random(f"{seed} {scene.path}"))
                for question, label in make_questions(domain, scene.triplet, rng):
                    record = {
                        "question_id": "".join(rng.choices(alphabet, k=15)),
                        "image": scene.path,
                        "text": question + INSTRUCTION,
                        "label": label,
                        "split": split,
                    }
                    lines.append(json.dumps(record) + "\n")
        (folder / "json" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def build_sample(folder: Path) -> Path:
    """Draw the sample's sources, build a release from them, and return its folder."""
    sources, release = folder / "sources", folder / "release"
    draw_sources(sources)
    paths = [
        "--annotations",
        str(sources / "json"),
        "--images",
        str(sources),
        "--out",
        str(release),
    ]
    if upload.main(["build", *paths, "--note", NOTE]):
        raise SystemExit("the sample could not be built")
    return release


def make_placed_index(release: Path) -> str:
    """Return the content of this repository's checksums.json."""
    index = json.loads((release / "checksums.json").read_text("utf-8"))
    files = {name: file for name, file in index["files"].items() if name.startswith(PLACED)}
    return make_index(files, index["note"])


def make_readme(release: Path) -> str:
    """Return this repository's README.md with the generated blocks of a release's card."""
    generated = read_card((release / "README.md").read_text("utf-8"))
    return render_card((REPOSITORY / "README.md").read_text("utf-8"), generated, keep_project=True)


def place_sample(release: Path) -> None:
    """Move the sample's parts of a release into this repository."""
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
