"""Check that the project agrees with itself: versions, paths, commands, sample and prose."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
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

MOST_COLUMNS = 100
# Words that make prose hard to read; say "reported", "is", "instead", "unchanged", "matches".
STOP_LIST = (
    "told",
    "stands there",
    "in its stead",
    "as they came",
    "holds against",
    "comes to be",
)

if sys.version_info >= (3, 11):
    import tomllib

    PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (REPOSITORY / name).read_text("utf-8")


def test_mmrel_py_is_short() -> None:
    assert len(read("mmrel.py").splitlines()) < 970


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is in Python 3.11 and later")
def test_all_files_state_one_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    changelog = re.findall(r"^## \[?(\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    versions = {PROJECT["project"]["version"], citation["version"], changelog[0], mmrel.__version__}
    versions.add(relation_accuracy.__version__)
    assert versions == {mmrel.__version__}
    assert f"Version {mmrel.__version__}." in read("README.md")


# Paths of this project; those in a release or in a user's folder begin otherwise.
CITED = re.compile(
    r"(?<![\w./-])(?:docs|mmrel_kit|benchmarks|tests|schema|\.ci)/[\w./-]*\.[a-z]+\b"
)
CITED_PAGE = re.compile(r"(?<![\w./-])[A-Z]+\.md\b")


def list_written_files() -> list[Path]:
    """Return the files of the project that people write."""
    paths = sorted(REPOSITORY.glob("*"))
    for folder in ("docs", "mmrel_kit", "benchmarks", "tests", "schema", ".ci"):
        paths += sorted((REPOSITORY / folder).rglob("*"))
    suffixes = {".py", ".md", ".toml", ".yaml", ".cff", ".html", ".js", ".css", ""}
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


def test_no_file_cites_a_path_that_does_not_exist() -> None:
    # Three files used to cite a page in `docs` at a time when there was no such folder.
    missing = []
    for path in list_written_files():
        text = path.read_text("utf-8")
        for name in CITED.findall(text):
            if not (REPOSITORY / name).exists():
                missing.append(f"{path.relative_to(REPOSITORY)}: {name}")
        if path.name == "CHANGELOG.md":  # it names pages of earlier versions
            continue
        for name in CITED_PAGE.findall(text):
            if not (REPOSITORY / name).exists() and not (path.parent / name).exists():
                missing.append(f"{path.relative_to(REPOSITORY)}: {name}")
    assert missing == []


def list_tracked(pattern: str) -> list[Path]:
    """Return the files that git tracks, or would add, and that match a pattern."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("expected a git repository, got a folder without one")
    names = sorted(set(done.stdout.split("\0")) - {""})
    return [REPOSITORY / name for name in names if (REPOSITORY / name).exists()]


def test_no_line_of_python_is_over_100_columns() -> None:
    long_lines = []
    for path in list_tracked("*.py"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if len(line) > MOST_COLUMNS and not re.search(r"https?://\S+$", line):
                long_lines.append(f"{path.relative_to(REPOSITORY)}:{number}: {len(line)} columns")
    assert not long_lines, "\n".join(long_lines)


def read_prose(path: Path) -> str:
    """Return the text of a file; in Python, everything but comments and strings becomes spaces."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    starts = [0]  # the offset of each line
    for line in io.StringIO(text):
        starts.append(starts[-1] + len(line))
    prose = ["\n" if character == "\n" else " " for character in text]
    # Python 3.12 and later split f-strings into tokens of their own.
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            first = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            prose[first:end] = text[first:end].replace("#", " ")
    return "".join(prose)


def test_no_page_and_no_message_uses_a_word_of_the_stop_list() -> None:
    pattern = "|".join(phrase.replace(" ", r"\s+") for phrase in STOP_LIST)
    pages = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
    places = []
    for path in [*list_tracked("*.py"), *pages]:
        if path == Path(__file__):
            continue
        prose = read_prose(path)
        for match in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE):
            number = prose.count("\n", 0, match.start()) + 1
            phrase = " ".join(match[0].split())
            places.append(f"{path.relative_to(REPOSITORY)}:{number}: {phrase}")
    assert not places, f"{len(places)} places\n" + "\n".join(places)


def list_public(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Yield the public functions, classes and methods of a module with their dotted names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from list_public(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from list_public(node, prefix)


def test_every_public_name_has_a_docstring() -> None:
    missing = []
    for path in list_tracked("*.py"):
        name = path.relative_to(REPOSITORY).as_posix()
        if name.startswith("tests/"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        if not ast.get_docstring(tree):
            missing.append(f"{name}:1: the module")
        for public, node in list_public(tree):
            if not ast.get_docstring(node):
                missing.append(f"{name}:{node.lineno}: {public}")
    assert not missing, "\n".join(missing)


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*$", read("README.md"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("python mmrel.py real")
    assert commands[1].endswith("python -m pytest -n 2")
    assert "readme_command 1" in read(".ci/run")
    assert "readme_command 2" in read(".ci/run")


def test_every_verb_is_documented() -> None:
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    for name, verb in list_runnable(cli.make_parser()):
        assert f"mmrel {name}" in text, name
        assert verb.description
        assert all(action.help for action in verb._actions), name


def test_upload_py_has_its_own_verbs() -> None:
    choices = [action.choices for action in cli.make_parser("upload.py", upload.VERBS)._actions]
    verbs = next(names for names in choices if names)
    assert set(verbs) == set(upload.VERBS)


def test_the_card_says_that_the_data_is_a_sample() -> None:
    card = DatasetCard.load(REPOSITORY / "README.md")
    assert card.data.license == mmrel.LICENSE
    assert [config["config_name"] for config in card.data.configs] == list(mmrel.CONFIGS)
    assert "More Information Needed" not in card.text
    assert "drawn sample" in card.text


def test_the_sample_is_small() -> None:
    size = 0
    for name in PLACED:
        for path in [REPOSITORY / name, *(REPOSITORY / name).rglob("*")]:
            if path.is_file():
                size += path.stat().st_size
    assert size < 3_000_000


def test_each_split_of_the_sample_has_twelve_pictures_with_three_questions() -> None:
    for domain in mmrel.DOMAINS:
        for split in mmrel.SPLITS:
            lines = read(f"data/{domain}/{split}.jsonl").splitlines()
            pictures = {json.loads(line)["image_id"] for line in lines}
            assert len(pictures) >= 12
            assert len(lines) == 3 * len(pictures)


def test_the_sample_is_not_stale(tmp_path: Path) -> None:
    release = build_sample(tmp_path)
    hint = "run: PYTHONPATH=. python -m tests.drawing.draw_sample"
    for domain in mmrel.DOMAINS:
        for split in mmrel.SPLITS:
            name = f"data/{domain}/{split}.jsonl"
            assert (release / name).read_text("utf-8") == read(name), hint
    drawn_by = json.loads(read("checksums.json"))["written_by"]
    if (drawn_by["pillow"], drawn_by["pyarrow"]) != (PIL.__version__, pyarrow.__version__):
        pytest.skip(f"versions other than {drawn_by} write other bytes; the records are correct")
    assert make_placed_index(release) == read("checksums.json"), hint
    assert make_readme(release) == read("README.md"), hint
    for name in json.loads(read("checksums.json"))["files"]:
        assert (release / name).read_bytes() == (REPOSITORY / name).read_bytes(), hint
