"""What is written in several places says the same in all of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import PIL
import pyarrow
import pytest
import yaml
from huggingface_hub import DatasetCard

import mmrel
import relation_accuracy
import upload
from mmrel_kit import cli
from tests.conftest import REPOSITORY
from tests.drawing.draw_sample import PLACED, build_sample, make_placed_index, make_readme
from tests.helpers.verbs import list_runnable

if sys.version_info >= (3, 11):
    import tomllib

    PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def test_mmrel_stands_alone_and_is_short() -> None:
    assert len(read("mmrel.py").splitlines()) < 700


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is in Python 3.11 and later")
def test_one_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    changelog = re.findall(r"^## \[?(\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    versions = {PROJECT["project"]["version"], citation["version"], changelog[0], mmrel.__version__}
    versions.add(relation_accuracy.__version__)
    assert versions == {mmrel.__version__}
    assert f"Version {mmrel.__version__}." in read("README.md")


# A path of this project, and not of a release or of a user's folder, which is what tests and examples name.
CITED = re.compile(
    r"(?<![\w./-])(?:docs|mmrel_kit|benchmarks|tests|schema|\.ci)/[\w./-]*\.[a-z]+\b"
)
CITED_PAGE = re.compile(r"(?<![\w./-])[A-Z]+\.md\b")
RELEASES_OWN = re.compile(
    r"release/data/"
)  # `release` is what examples call the folder of a release, too


def texts() -> list[Path]:
    """The files of the project that people write."""
    rooms = ("docs", "mmrel_kit", "benchmarks", "tests", "schema", ".ci")
    found = [path for room in rooms for path in sorted((REPOSITORY / room).rglob("*"))]
    found += sorted(REPOSITORY.glob("*"))
    suffixes = {".py", ".md", ".toml", ".yaml", ".cff", ".html", ".js", ".css", ""}
    return [path for path in found if path.is_file() and path.suffix in suffixes]


def test_no_file_cites_a_path_that_is_not_there() -> None:
    # Three files used to send their readers to a page in `docs`, a folder that was never part of the project.
    missing = []
    for path in texts():
        text = path.read_text("utf-8")
        for name in CITED.findall(text):
            if not RELEASES_OWN.match(name) and not (REPOSITORY / name).exists():
                missing.append(f"{path.relative_to(REPOSITORY)}: {name}")
        pages = [] if path.name == "CHANGELOG.md" else CITED_PAGE.findall(text)  # it names what was
        for name in pages:
            if not any((folder / name).exists() for folder in (REPOSITORY, path.parent)):
                missing.append(f"{path.relative_to(REPOSITORY)}: {name}")
    assert missing == []


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*$", read("README.md"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("python mmrel.py real")
    assert commands[1].endswith("python -m pytest -n 2")
    assert "readme_command 1" in read(".ci/run")
    assert "readme_command 2" in read(".ci/run")


def test_every_verb_is_documented() -> None:
    documents = [
        read("README.md"),
        *(path.read_text("utf-8") for path in REPOSITORY.glob("docs/*.md")),
    ]
    text = "\n".join(documents)
    verbs = list_runnable(cli.make_parser())
    for name, verb in verbs:
        assert f"mmrel {name}" in text, name
        assert verb.description
        assert all(action.help for action in verb._actions), name
    doors = next(
        action.choices
        for action in cli.make_parser("upload.py", upload.VERBS)._actions
        if action.choices
    )
    assert set(doors or ()) == set(upload.VERBS)


def test_the_card_of_the_sample() -> None:
    card = DatasetCard.load(REPOSITORY / "README.md")
    assert card.data.license == mmrel.LICENSE
    assert [config["config_name"] for config in card.data.configs] == list(mmrel.CONFIGS)
    assert "More Information Needed" not in card.text
    assert "drawn sample" in card.text


def test_the_sample_is_small_and_large_enough() -> None:
    files = [
        path
        for name in PLACED
        for path in [REPOSITORY / name, *(REPOSITORY / name).rglob("*")]
        if path.is_file()
    ]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    for domain in mmrel.DOMAINS:
        for split in mmrel.SPLITS:
            lines = read(f"data/{domain}/{split}.jsonl").splitlines()
            records = [json.loads(line) for line in lines]
            assert len({record["image_id"] for record in records}) >= 12
            assert len(records) == 3 * len({record["image_id"] for record in records})


def test_the_sample_is_not_stale(tmp_path: Path) -> None:
    release = build_sample(tmp_path)
    hint = "run: PYTHONPATH=. python tests/drawing/draw_sample.py"
    for domain in mmrel.DOMAINS:
        for split in mmrel.SPLITS:
            name = f"data/{domain}/{split}.jsonl"
            assert (release / name).read_text("utf-8") == read(name), hint
    drawn_by = json.loads(read("checksums.json"))["written_by"]
    if (drawn_by["pillow"], drawn_by["pyarrow"]) != (PIL.__version__, pyarrow.__version__):
        pytest.skip(
            f"other versions than {drawn_by} write other bytes; the records are as they should be"
        )
    assert make_placed_index(release) == read("checksums.json"), hint
    assert make_readme(release) == read("README.md"), hint
    for name in json.loads(read("checksums.json"))["files"]:
        assert (release / name).read_bytes() == (REPOSITORY / name).read_bytes(), hint
