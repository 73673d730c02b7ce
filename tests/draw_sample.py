"""Draws the embedded sample: simple scenes under upstream's paths, with the questions upstream would ask.

Nothing here is a photograph or the work of an image model. The three domains only differ in manner: `real` is
shaded like a photo, `sdxl` like a render on a plain backdrop, `dalle` comes in four styles and in a plain
one. The ids are high ones, above those of Visual Genome, so that no drawing bears the name of a real photo.
What is in a scene stands in draw_scenes.py, how it is painted in draw_manners.py.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path

from draw_manners import MANNERS, paint
from draw_scenes import SIZES, SPATIAL, arrange

Triplet = tuple[str, str, str]

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
    wet = "boat" in triplet and triplet[1] not in ("pull", "on") and triplet[:2] != ("boat", "above")
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
                yield path, (subject, word, other), "sdxl"
        elif domain == "real":
            folder, base = rng.choice((("VG_100K", 9000000), ("VG_100K_2", 9500000)))
            yield f"vg/{folder}/{base + 100 * start + number}.jpg", (subject, relation, other), "real"
        else:
            style = STYLES[(number + SPLITS.index(split)) % len(STYLES)]
            kind = "spatial" if relation in SPATIAL else "action"
            name = f"{90000 + 10 * start + number}{'_' * bool(style)}{style}.png"
            yield f"Dall-E_generated/{kind}/{name}", (subject, relation, other), style


def ask(domain: str, triplet: Triplet) -> str:
    """The yes/no question about a triplet, in the grammar of its domain."""
    subject, relation, other = triplet
    one, two = (("an " if name[0] in "aeiou" else "a ") + name for name in (subject, other))
    if relation in SIZES:
        return f"Is {one} {relation} than {two} in the image?"
    if relation not in SPATIAL:
        return f"Does {one} {relation} {two} in the image?"
    to = " to" if domain == "real" or (domain == "dalle" and relation in ("left", "right")) else ""
    return f"Is there {one} {relation}{to} {two} in the image?"


def questions(domain: str, triplet: Triplet, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Question and label: the true one, a false one and the open one."""
    subject, relation, other = triplet
    category = "spatial" if relation in SPATIAL else "comparative" if relation in SIZES else "action"
    swapped = (other, relation, subject)
    false = swapped if category == "spatial" else (subject, FALSE_VERBS.get(relation, ""), other)
    if category == "comparative":
        false = rng.choice((swapped, (subject, SIZES[relation == "bigger"], other)))
    yield ask(domain, triplet), "yes"
    yield ask(domain, false), "no"
    one, two = (("an " if name[0] in "aeiou" else "a ") + name for name in (subject, other))
    yield f"What is the {category} relation of {one} to {two} in the image?", relation


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
