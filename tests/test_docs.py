# SPDX-License-Identifier: Apache-2.0
"""Every fenced command and snippet of the documentation, run as its reader would run it.

Each block runs in a folder of its own outside the repository, with an empty cache and relative
paths, against a Hub and an endpoint on the loopback. A block is known by its first line; one that
stands in no table here fails, and so does a row of a table whose block is gone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import mmrel_kit.commands.label
import mmrel_kit.recipes.answer
import mmrel_kit.recipes.export
import mmrel_kit.recipes.finetune
import relation_accuracy
import upload
from tests.conftest import REPOSITORY
from tests.helpers.stub_endpoint import StubEndpoint
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterator

DOCUMENTS = ("README.md", "METRIC.md", "benchmarks/BUILD.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDPOINT = "http://127.0.0.1:8000/v1"  # the address that the documentation gives an endpoint
CLONE = "MMRel-source"


class Block(NamedTuple):
    """A fenced block: where it stands, its language and its text."""

    document: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """The first line, by which the tables below know the block."""
        return self.text.partition("\n")[0]


class Case(NamedTuple):
    """How a block is run.

    Attributes:
        first: the block's first line; of a block that begins like another one, its second too.
        prints: what standard output contains.
        needs: the module that it needs beside what `[test]` installs; such blocks have the mark
            `recipes` and run in the environment that has it.
        is_long: it takes more than some seconds, and runs with `-m commands`.
    """

    first: str
    prints: str
    needs: str = ""
    is_long: bool = False


# Commands of the clone run in a clone of another name elsewhere; those of the card, which goes to the
# Hub, and all snippets run in a folder that holds a release called mmrel, with the wheel's files.
CASES = [
    Case("python relation_accuracy.py recipes/sample_answers/made_up_80.jsonl", "real/spatial"),
    Case("python upload.py sources downloads", "images.zip"),
    Case(
        "python upload.py build --annotations downloads/questions/json --out mmrel --workers 2 --images \\",
        "mmrel: 0 problems",
        is_long=True,
    ),
    Case("hf download NS/MMRel --repo-type dataset --local-dir mmrel", "mmrel"),
    Case("from datasets import load_dataset\n\nrows =", "Is there a"),
    Case("import mmrel\n\nrows =", "10 Is a"),
    Case("from datasets import load_dataset\n\nonly =", "{'spatial'}"),
    Case("python -m relation_accuracy answers.jsonl --repo-id NS/MMRel --split test", "GPT-4o", is_long=True),
    Case("from datasets import load_dataset\nfrom relation_accuracy import compute", "0.5 0.0 0.66"),
    Case("import mmrel\nfrom relation_accuracy import compute", "0.", needs="transformers"),
    Case("python -m recipes.answer --root mmrel --base-url", "64 of 64 answered"),
    Case("MMREL_RELEASE=NS/MMRel python -m lmms_eval", "mmrel_accuracy", needs="lmms_eval"),
    Case("export LOCAL_BASE_URL=http://127.0.0.1:8000/v1", "pair_accuracy", needs="inspect_ai"),
    Case("python -m recipes.export --root mmrel --drop-leaks", "false positives", needs="trl"),
    Case("python relation_report.py recipes/sample_answers/made_up_80.jsonl", "McNemar"),
    Case("python relation_accuracy.py --root . --config real", "open-ended"),
    Case("from relation_accuracy import compute\n\nreport =", "0.5"),
    Case("import mmrel\nimport relation_accuracy", "0.5 0.0"),
    Case("import mmrel\nfrom decode_once import Picture", ""),
    Case("python -m semidc demo", "accuracy", is_long=True),
    Case("python upload.py push mmrel --repo-id NS/MMRel --tag", "dry run: nothing was changed", is_long=True),
]
# What is not run here, and why.
NOT_RUN = {
    "git clone ": "the address of the source is a placeholder; CI installs a clone",
    "python3 -m venv .venv && . .venv/bin/activate && pip install . &&": "it installs from a package index; CI runs it",
    "python3 -m venv .venv && . .venv/bin/activate && pip install '.[test]'": "it runs these tests; CI runs it",
    "A drawn sample in the layout of a release": "the output of a command; `test_the_output_that_is_shown` compares it",
    "@article{nie2024mmrel,": "BibTeX",
    "PYTHONPATH=. python benchmarks/standin.py": "it takes many minutes; tests/test_scale.py runs its parts",
}


def read_blocks() -> list[Block]:
    """Read the fenced blocks of all documents."""
    blocks = []
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text("utf-8")
        blocks += [Block(document, language, content) for language, content in BLOCK.findall(text)]
        assert text.count("\n```") == 2 * len(BLOCK.findall(text)), f"{document}: a fence is indented or open"
    return blocks


def find_block(first: str) -> Block:
    """Find the one block that begins so."""
    found = [block for block in read_blocks() if block.text.startswith(first)]
    assert len(found) == 1, f"{len(found)} blocks begin with {first!r}"
    return found[0]


def test_every_block_is_run_or_says_why_not() -> None:
    known = [*(case.first for case in CASES), *NOT_RUN]
    for block in read_blocks():
        matches = [first for first in known if block.text.startswith(first)]
        assert len(matches) == 1, f"{block.document}: {block.first!r} stands in {len(matches)} rows of the tables"
    for first in known:
        find_block(first)


def test_no_command_is_indented_where_it_would_not_be_seen() -> None:
    for document in DOCUMENTS:
        text = BLOCK.sub("", (REPOSITORY / document).read_text("utf-8"))
        assert not re.findall(r"^(?: {4}|\t)(?:python|pip|hf|inspect|import|from) .*", text, re.MULTILINE), document


def is_of_clone(block: Block) -> bool:
    """Tell whether a block is a command of the clone; those of the card, and all snippets, are not."""
    if block.language == "python":
        return False
    text = (REPOSITORY / "README.md").read_text("utf-8")
    card = re.sub(r"<!-- project:begin -->.*?<!-- project:end -->", "", text, flags=re.DOTALL)
    return block.text not in card


@pytest.mark.parametrize(
    "make_parser", [upload.make_parser, mmrel_kit.commands.label.make_parser], ids=["upload", "semidc"]
)
def test_the_examples_of_help_are_commands_that_are_understood(make_parser: Callable[[], ArgumentParser]) -> None:
    parser = make_parser()
    commands = next(action.choices for action in parser._actions if action.choices)
    assert commands is not None
    for name, command in dict(commands).items():
        example = re.fullmatch(r"example: python (?:upload\.py|-m semidc) (.+)", command.epilog, re.DOTALL)
        assert example, name
        words = shlex.split(example[1])
        assert words[0] == name
        assert parser.parse_args(words).run.__name__ == name


# Whose docstrings hold commands: module -> its parser.
PARSERS = {
    "relation_accuracy": lambda: relation_accuracy.make_parser("relation_accuracy", ""),
    "recipes.answer": lambda: mmrel_kit.recipes.answer.make_parser(),
    "recipes.export": lambda: mmrel_kit.recipes.export.make_parser(),
    "recipes.finetune": lambda: mmrel_kit.recipes.finetune.make_parser(),
}


@pytest.mark.parametrize("module", PARSERS)
def test_the_commands_of_docstrings_are_understood(module: str) -> None:
    text = sys.modules[module].__doc__ or ""
    commands = re.findall(r"^    python (?:-m )?([\w.]+?)(?:\.py)? (.+)$", text, re.MULTILINE)
    assert module in [name for name, _ in commands]
    for name, arguments in commands:
        PARSERS[name]().parse_args(shlex.split(arguments))


class Reader:
    """Somebody who follows the documentation: a folder, a clone, an empty cache, a Hub and an endpoint."""

    def __init__(self, folder: Path, hub: LoopbackHub, endpoint: StubEndpoint) -> None:
        folder.mkdir()
        self.folder, self.hub = folder, hub
        self.clone = folder / CLONE
        self.endpoint = endpoint
        client = Client(hub, folder / "home")
        self.environment = client.environment()
        self.environment["HOME"] = str(client.home)
        self.environment["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"  # hf would look for its newest version
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment["PATH"] = os.pathsep.join(programs)
        self.environment.pop("PYTHONPATH", None)

    def find_folder(self, block: Block) -> Path:
        """Return the folder in which a block runs: the clone, or one beside it that holds no code."""
        folder = self.clone if is_of_clone(block) else self.folder / "beside"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, block: Block) -> str:
        """Run a block, which must succeed, and return what it printed."""
        text = block.text.replace(ENDPOINT, self.endpoint.url)
        command = ["bash", "-euo", "pipefail", "-c", text]
        if block.language == "python":
            command = [sys.executable, "-c", text]
        environment = self.environment
        if not is_of_clone(block):
            environment = {**environment, "PYTHONPATH": str(self.folder / "installed")}
        where = self.find_folder(block)
        done = subprocess.run(
            command, cwd=where, env=environment, text=True, capture_output=True, timeout=900, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def copy_clone(target: Path) -> None:
    """Copy what git has of the repository, and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)


def copy_installed(target: Path) -> None:
    """Copy what the wheel installs."""
    target.mkdir()
    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    modules = re.search(r"^py-modules = \[([^\]]*)\]", text, re.MULTILINE)
    assert modules
    for name in re.findall(r'"(\w+)"', modules[1]):
        shutil.copy2(REPOSITORY / f"{name}.py", target)
    (target / "mmrel_schema").mkdir()
    shutil.copy2(REPOSITORY / "schema" / "taxonomy.json", target / "mmrel_schema")


def pack(target: Path, root: Path, folders: str) -> None:
    """Pack the pictures under some folders into a zip, as upstream does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.glob(f"{folders}/**/*.*")):
            archive.write(path, path.relative_to(root))


@pytest.fixture
def reader(built: Path, sources: Path, tmp_path: Path) -> Iterator[Reader]:
    """Give a reader what the text around the blocks says that he has."""
    with LoopbackHub(tmp_path / "hub") as hub, StubEndpoint(lambda asked: "Yes.") as endpoint:
        hub.publish("NS/MMRel", built)
        hub.create("jiahaonie/MMRel")
        theirs = [*sources.glob("json/*"), *sources.glob("Dall-E_generated/**/*.png")]
        files = {path.relative_to(sources).as_posix(): path.read_bytes() for path in theirs}
        hub.commit("jiahaonie/MMRel", files)
        reader = Reader(tmp_path / "reader", hub, endpoint)
        copy_clone(reader.clone)
        copy_installed(reader.folder / "installed")
        yield reader
        assert hub.external == []
        assert hub.leaks == []


def prepare(reader: Reader, block: Block, built: Path, sources: Path) -> None:
    """Put in place what earlier steps of the documentation leave behind."""
    where = reader.find_folder(block)
    if "--out mmrel" not in block.text and "--local-dir mmrel" not in block.text:
        shutil.copytree(built, where / "mmrel")
    if "downloads/images.zip" in block.text:
        pack(where / "downloads" / "images.zip", sources / "vg", "VG_100K")
        pack(where / "downloads" / "images2.zip", sources / "vg", "VG_100K_2")
        pack(where / "downloads" / "data.zip", sources / "SPEC", "*")
        shutil.copytree(sources / "json", where / "downloads" / "questions" / "json")
    if "upload.py push" in block.text:
        reader.hub.repos.clear()  # nothing is published yet
    if re.search(r"relation_accuracy answers\.jsonl", block.text):
        lines = [line for path in built.glob("data/*/test.jsonl") for line in path.open()]
        rows = [{"question_id": json.loads(line)["question_id"], "answer": "Yes"} for line in lines]
        (where / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "path/to/model" in block.text:
        from tests.helpers.tiny_models import make_model

        make_model("llava", where / "path" / "to" / "model")


def marks(case: Case) -> list[pytest.MarkDecorator]:
    if case.needs:
        return [pytest.mark.recipes]
    return [pytest.mark.commands] if case.is_long else []


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case), id=case.first[:60]) for case in CASES])
def test_a_block_runs(case: Case, reader: Reader, built: Path, sources: Path) -> None:
    if case.needs:
        pytest.importorskip(case.needs, reason=f"{case.needs} is not in this environment")
    block = find_block(case.first)
    prepare(reader, block, built, sources)
    assert case.prints in reader.run(block)


def test_the_output_that_is_shown(reader: Reader) -> None:
    shown = find_block("A drawn sample in the layout of a release")
    printed = reader.run(Block("README.md", "bash", "python mmrel.py real\n"))
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in filter(None, shown.text.splitlines()):
        assert line.rstrip() in lines
    assert lines[0] == shown.first, "the sample is called a sample in the first line"
