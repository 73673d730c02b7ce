"""Fixtures: a small release, built once from drawn sources. Nothing here reaches the network."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

# Before anything imports datasets or huggingface_hub, which read these once.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="mmrel-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import hypothesis
import pytest
from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.pictures.sources import PictureFolder
from mmrel_kit.questions.records import Triplet, make_question

# A busy machine is no failure: no test here asserts a time.
hypothesis.settings.register_profile("mmrel", deadline=None)
hypothesis.settings.load_profile("mmrel")

collect_ignore = ["helpers/browser.py"]  # it needs selenium, and has no doctests
REPOSITORY = Path(__file__).resolve().parent.parent
INSTRUCTION = "Please answer with one word."
# Of each picture: path, split, category, its true triplet, and what its false question asks.
PICTURES = [
    ("vg/VG_100K/{}.jpg", "test", "spatial", "cat above orange", "orange above cat"),
    ("vg/VG_100K_2/{}.jpg", "test", "action", "man look~at dog", "man kick dog"),
    ("vg/VG_100K/{}.jpg", "train", "comparative", "bus bigger cup", "cup bigger bus"),
    ("SPEC/relative_size/{:08d}/2.jpg", "test", "comparative", "ox bigger egg", "egg bigger ox"),
    (
        "SPEC/relative_spatial/{:08d}/1.jpg",
        "adversarial",
        "spatial",
        "car over elm",
        "elm over car",
    ),
    (
        "Dall-E_generated/spatial/{:05d}_watercolor.png",
        "test",
        "spatial",
        "bee left owl",
        "owl left bee",
    ),
    ("Dall-E_generated/action/{:05d}.png", "adversarial", "action", "ant ride fox", "ant eat fox"),
]
DOMAINS = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}


def make_sources(folder: Path, copies: int = 8, seed: int = 0) -> Path:
    """Write what upstream would give: `json/<split>.jsonl` and pictures of noise at upstream's paths."""
    draw = random.Random(seed)
    lines: dict[str, list[str]] = {}
    for copy in range(copies):
        for number, (template, split, category, *triplets) in enumerate(PICTURES):
            true, false = (
                Triplet(*(word.replace("~", " ") for word in text.split())) for text in triplets
            )
            path = template.format(copy * 10 + number)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            width = (
                16 + number if number else 15
            )  # `check` warns of widths that differ by 1 in a split
            pixels = draw.randbytes(20 * width * 3)
            Image.frombytes("RGB", (width, 20), pixels).save(target)
            domain = DOMAINS[path.split("/")[0]]
            asked = [
                (make_question(domain, category, true), "yes"),
                (make_question(domain, category, false), "no"),
            ]
            asked.append((make_question(domain, category, true, "generative"), true.relation))
            for question, label in asked:
                record = {
                    "question_id": "".join(
                        draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=15)
                    ),
                    "image": path,
                    "text": f"{question} {INSTRUCTION}",
                    "label": label,
                    "split": split,
                }
                lines.setdefault(split, []).append(json.dumps(record) + "\n")
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for split, records in lines.items():
        (folder / "json" / f"{split}.jsonl").write_text("".join(records))
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations and pictures as upstream would give them; do not change it."""
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with several shards in a split; do not change it."""
    out = tmp_path_factory.mktemp("built") / "release"
    build_release(
        Job([sources / "json"], PictureFolder(sources), out, note="Noise.", shard_bytes=6000)
    )
    return out


@pytest.fixture
def release(built: Path, tmp_path: Path) -> Path:
    """A copy of the release that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "release"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of MMRel's real records, where there is one."""
    folder = os.environ.get("MMREL_REAL_DATA")
    if not folder:
        pytest.skip("MMREL_REAL_DATA is not set: tests on MMRel's real records are left out")
    return Path(folder)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to an endpoint that fails are sent again at once."""
    monkeypatch.setattr("mmrel_kit.endpoint.batch.FIRST_WAIT", 0.01)
