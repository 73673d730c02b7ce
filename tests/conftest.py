"""Fixtures: a small release that is built once from drawn sources, without a network."""

from __future__ import annotations

import json
import os
import random
import shutil
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Set before any import of datasets or huggingface_hub, which read them once.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="mmrel-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import hypothesis
import pytest
from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.questions.records import Triplet, make_question
from mmrel_kit.sources.local import PictureFolder
from tests.helpers.picture_host import PictureHost

# A test may be slow on a busy machine; hypothesis would report that as a failure.
hypothesis.settings.register_profile("mmrel", deadline=None)
hypothesis.settings.load_profile("mmrel")

collect_ignore = ["helpers/browser.py"]  # it needs selenium, and has no doctests
REPOSITORY = Path(__file__).resolve().parent.parent
INSTRUCTION = "Please answer with one word."


class Drawing(NamedTuple):
    """A picture of noise with a question whose answer is yes, and one whose answer is no."""

    domain: str
    path: str
    width: int  # pixels; `check` warns of widths that differ by 1 in a split
    split: str
    category: str
    true: Triplet
    false: Triplet


DRAWINGS = [
    Drawing(
        "real",
        "vg/VG_100K/{}.jpg",
        15,
        "test",
        "spatial",
        Triplet("cat", "above", "orange"),
        Triplet("orange", "above", "cat"),
    ),
    Drawing(
        "real",
        "vg/VG_100K_2/{}.jpg",
        17,
        "test",
        "action",
        Triplet("man", "look at", "dog"),
        Triplet("man", "kick", "dog"),
    ),
    Drawing(
        "real",
        "vg/VG_100K/{}.jpg",
        18,
        "train",
        "comparative",
        Triplet("bus", "bigger", "cup"),
        Triplet("cup", "bigger", "bus"),
    ),
    Drawing(
        "sdxl",
        "SPEC/relative_size/{:08d}/2.jpg",
        19,
        "test",
        "comparative",
        Triplet("ox", "bigger", "egg"),
        Triplet("egg", "bigger", "ox"),
    ),
    Drawing(
        "sdxl",
        "SPEC/relative_spatial/{:08d}/1.jpg",
        20,
        "adversarial",
        "spatial",
        Triplet("car", "over", "elm"),
        Triplet("elm", "over", "car"),
    ),
    Drawing(
        "dalle",
        "Dall-E_generated/spatial/{:05d}_watercolor.png",
        21,
        "test",
        "spatial",
        Triplet("bee", "left", "owl"),
        Triplet("owl", "left", "bee"),
    ),
    Drawing(
        "dalle",
        "Dall-E_generated/action/{:05d}.png",
        22,
        "adversarial",
        "action",
        Triplet("ant", "ride", "fox"),
        Triplet("ant", "eat", "fox"),
    ),
]


def make_sources(folder: Path, copies: int = 8, seed: int = 0) -> Path:
    """Write sources as upstream publishes them, and return their folder.

    Args:
        folder: the folder to which `json/<split>.jsonl` and pictures of noise are written.
        copies: how many pictures are made of each entry of DRAWINGS.
        seed: the seed of pixels and question ids.
    """
    rng = random.Random(seed)
    alphabet = string.ascii_lowercase + string.digits
    lines: dict[str, list[str]] = {}
    for copy in range(copies):
        for number, drawing in enumerate(DRAWINGS):
            path = drawing.path.format(copy * 10 + number)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.randbytes(20 * drawing.width * 3)
            Image.frombytes("RGB", (drawing.width, 20), pixels).save(target)
            for question, label in make_questions(drawing):
                record = {
                    "question_id": "".join(rng.choices(alphabet, k=15)),
                    "image": path,
                    "text": f"{question} {INSTRUCTION}",
                    "label": label,
                    "split": drawing.split,
                }
                lines.setdefault(drawing.split, []).append(json.dumps(record) + "\n")
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for split, records in lines.items():
        (folder / "json" / f"{split}.jsonl").write_text("".join(records))
    return folder


def make_questions(drawing: Drawing) -> list[tuple[str, str]]:
    """Return the questions about a drawing with their labels: yes, no, and open-ended."""
    domain, category, true = drawing.domain, drawing.category, drawing.true
    return [
        (make_question(domain, category, true), "yes"),
        (make_question(domain, category, drawing.false), "no"),
        (make_question(domain, category, true, "generative"), true.relation),
    ]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations and pictures as upstream publishes them; do not change them."""
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with several shards in a split; do not change it."""
    out = tmp_path_factory.mktemp("built") / "release"
    job = Job([sources / "json"], PictureFolder(sources), out, note="Noise.", shard_bytes=6000)
    build_release(job)
    return out


@pytest.fixture
def release(built: Path, tmp_path: Path) -> Path:
    """A copy of the release that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "release"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of MMRel's real records; its tests are skipped without one."""
    folder = os.environ.get("MMREL_REAL_DATA")
    if not folder:
        pytest.skip("MMREL_REAL_DATA is not set: tests on MMRel's real records are skipped")
    return Path(folder)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry requests to an endpoint without waiting."""
    monkeypatch.setattr("mmrel_kit.endpoint.batch.FIRST_WAIT", 0.01)


@pytest.fixture(scope="session")
def served(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of `sources` in every way in which they are fetched; do not change them."""
    from tests.helpers.fetching import serve_pictures

    return serve_pictures(sources, tmp_path_factory.mktemp("served") / "host")


@pytest.fixture
def host(served: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PictureHost]:
    """A host of these pictures, which also plays the Hub; waits of the client are short."""
    # Imported here, because a training repository has no client of hosts.
    from tests.helpers.fetching import shorten_waits, use_hub

    shorten_waits(monkeypatch)
    repositories = {"ns/pictures": served, "ns/spec": served / "spec"}
    with PictureHost(served, repositories=repositories) as host:
        use_hub(monkeypatch, host.url)
        yield host
