# SPDX-License-Identifier: Apache-2.0
"""Every fenced command and snippet of the documentation, run as its reader would run it.

Each block runs in a folder of its own outside the repository, with an empty cache and relative
paths, against a Hub and an endpoint on the loopback. A block is known by its first line; one that
stands in no table here fails, and so does a row of a table whose block is gone.
"""

from __future__ import annotations

import ast
import hashlib
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

from mmrel_kit import cli
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.semidc.people.store import Decision, Project
from tests.conftest import REPOSITORY
from tests.helpers.clones import copy_clone
from tests.helpers.stub_endpoint import StubEndpoint
from tests.helpers.verbs import list_runnable
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = (
    "README.md",
    "docs/labelling.md",
    "docs/maintaining.md",
    "docs/metric.md",
    "benchmarks/BUILD.md",
)
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


# Blocks run in a folder that holds a release called mmrel, with what the wheel installs; those that
# name a file of the clone run in a clone of another name.
CASES = [
    Case('mmrel score "$(mmrel path answers)/made_up_80.jsonl"', "real/spatial"),
    Case("mkdir downloads && mmrel fetch downloads", "images.zip"),
    Case(
        "mmrel build --annotations downloads/questions/json --out mmrel --workers 2 --images \\",
        "mmrel: 0 problems",
        is_long=True,
    ),
    Case("hf download NS/MMRel --repo-type dataset --local-dir mmrel", "mmrel"),
    Case("from datasets import load_dataset\n\n# NS stands", "Is there a"),
    Case("import mmrel\n\nrows =", "10 Is a"),
    Case("from datasets import load_dataset\n\nonly =", "{'spatial'}"),
    Case("mmrel score answers.jsonl --repo-id NS/MMRel --split test", "GPT-4o", is_long=True),
    Case(
        "from datasets import load_dataset\nfrom relation_accuracy import compute", "0.5 0.0 0.66"
    ),
    Case("import mmrel\nfrom relation_accuracy import compute", "0.", needs="transformers"),
    Case("mmrel answer --root mmrel --base-url", "64 of 64 answered"),
    Case("MMREL_RELEASE=NS/MMRel python -m lmms_eval", "mmrel_accuracy", needs="lmms_eval"),
    Case("export LOCAL_BASE_URL=http://127.0.0.1:8000/v1", "pair_accuracy", needs="inspect_ai"),
    Case("mmrel export --root mmrel --drop-leaks", "false positives", needs="trl"),
    Case('mmrel report "$(mmrel path answers)/made_up_80.jsonl"', "McNemar"),
    Case('mmrel score --root "$(mmrel path sample)" --config real', "open-ended"),
    Case("from relation_accuracy import compute\n\nreport =", "0.5"),
    Case("import mmrel\nimport relation_accuracy", "0.5 0.0"),
    Case("import mmrel\nfrom mmrel_kit.pictures import Picture", "(200, 150)"),
    Case("mmrel label demo\n", "accuracy", is_long=True),
    Case("mmrel label demo --out demo", "accuracy", is_long=True),
    Case("mmrel label select --images pictures", "0 items to verify written to proposals.jsonl"),
    Case("mmrel label ask project.sqlite", "3 records written to records/train.jsonl"),
    Case("mmrel label audit project.sqlite", "0 of"),
    Case("sample=$(mmrel path sample)", "release: 0 problems", is_long=True),
    Case(
        "mmrel build --annotations json --images pictures --out mmrel --shard 1/2",
        "mmrel check mmrel",
    ),
    Case("mmrel cluster local --tasks 2", "mmrel check mmrel", needs="datatrove"),
    Case("mmrel push mmrel --repo-id NS/MMRel --tag", "dry run: nothing was changed", is_long=True),
]
# What is not run here, and why.
NOT_RUN = {
    "git clone ": "the address of the source is a placeholder; CI installs a clone",
    "python3 -m venv .venv && . .venv/bin/activate && pip install . &&": "it installs from a package index; CI runs it",
    "python3 -m venv .venv && . .venv/bin/activate && pip install '.[test]'": "it runs these tests; CI runs it",
    "A drawn sample in the layout of a release": "the output of a command; `test_the_output_that_is_shown` compares it",
    "@article{nie2024mmrel,": "BibTeX",
    "def count(args: argparse.Namespace) -> int:": "a part of a file of mmrel_kit/commands/",
    "PYTHONPATH=. python benchmarks/standin.py": "it takes many minutes; tests/test_scale.py runs its parts",
    "PYTHONPATH=. python -m tests.drawing.draw_sample": "it writes into the clone; test_project.py runs its parts",
    "mmrel label generate triplets.jsonl": "the stub has no image model; tests of the step have one",
    "mmrel label verify project.sqlite": "it serves until Ctrl-C; tests/test_commands.py starts and stops it",
}


def read_blocks() -> list[Block]:
    """Read the fenced blocks of all documents."""
    blocks = []
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text("utf-8")
        blocks += [Block(document, language, content) for language, content in BLOCK.findall(text)]
        assert text.count("\n```") == 2 * len(BLOCK.findall(text)), (
            f"{document}: a fence is indented or open"
        )
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
        assert len(matches) == 1, (
            f"{block.document}: {block.first!r} stands in {len(matches)} rows of the tables"
        )
    for first in known:
        find_block(first)


def test_no_command_is_indented_where_it_would_not_be_seen() -> None:
    for document in DOCUMENTS:
        text = BLOCK.sub("", (REPOSITORY / document).read_text("utf-8"))
        assert not re.findall(
            r"^(?: {4}|\t)(?:python|pip|hf|inspect|import|from) .*", text, re.MULTILINE
        ), document


def test_the_examples_of_help_are_commands_that_are_understood() -> None:
    parser = cli.make_parser()
    verbs = list_runnable(parser)
    assert len(verbs) > 20
    for name, verb in verbs:
        example = re.fullmatch(r"example: mmrel (.+)", str(verb.epilog), re.DOTALL)
        assert example, name
        words = shlex.split(example[1])
        assert " ".join(words[: len(name.split())]) == name
        if "--" in words:  # cli.main takes what follows
            words = words[: words.index("--")]
        assert parser.parse_args(words).prog == f"mmrel {name}"


def test_the_commands_of_docstrings_are_understood() -> None:
    parser = cli.make_parser()
    found = 0
    for path in [*REPOSITORY.glob("*.py"), *REPOSITORY.glob("mmrel_kit/**/*.py")]:
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        for command in re.findall(r"^    mmrel ((?:.+\\\n)*.+)$", text, re.MULTILINE):
            words = shlex.split(command.replace("\\\n", " "))
            parser.parse_args(words[: words.index("--")] if "--" in words else words)
            found += 1
    assert found >= 5


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
        self.environment["HF_HUB_DISABLE_UPDATE_CHECK"] = (
            "1"  # hf would look for its newest version
        )
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment["PATH"] = os.pathsep.join([str(folder / "bin"), *programs])
        self.environment.pop("PYTHONPATH", None)
        write_command(folder / "bin" / "mmrel")

    @property
    def beside(self) -> Path:
        """A folder that holds no code."""
        folder = self.folder / "beside"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, block: Block, where: Path | None = None) -> str:
        """Run a block, which must succeed, and return what it printed."""
        text = block.text.replace(ENDPOINT, self.endpoint.url)
        command = ["bash", "-euo", "pipefail", "-c", text]
        if block.language == "python":
            command = [sys.executable, "-c", text]
        environment = self.environment
        if where is None:
            environment = {**environment, "PYTHONPATH": str(self.folder / "installed")}
        done = subprocess.run(
            command,
            cwd=where or self.beside,
            env=environment,
            text=True,
            capture_output=True,
            timeout=900,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def write_command(path: Path) -> None:
    """Write the command that the wheel installs."""
    path.parent.mkdir()
    run = f'#!/bin/sh\nexec "{sys.executable}" -c "from mmrel_kit.cli import run; run()" "$@"\n'
    path.write_text(run)
    path.chmod(0o755)


def copy_installed(target: Path) -> None:
    """Copy what the wheel installs, by the list of setup.py."""
    target.mkdir()
    for name in ("mmrel.py", "relation_accuracy.py"):
        shutil.copy2(REPOSITORY / name, target)
    shutil.copytree(REPOSITORY / "mmrel_kit", target / "mmrel_kit")
    beside = re.search(r"^BESIDE = (\(.*\))$", (REPOSITORY / "setup.py").read_text("utf-8"), re.M)
    assert beside
    listed = json.loads((REPOSITORY / "checksums.json").read_text("utf-8"))["files"]
    schemas = [f"schema/{path.name}" for path in (REPOSITORY / "schema").glob("*.json")]
    for name in {*listed, *ast.literal_eval(beside[1]), *schemas}:
        copy = target / "mmrel_kit" / "sample" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, copy)


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
    where = reader.beside
    if "--out mmrel" not in block.text and "--local-dir mmrel" not in block.text:
        shutil.copytree(built, where / "mmrel")
    if "downloads/images.zip" in block.text:
        pack(where / "downloads" / "images.zip", sources / "vg", "VG_100K")
        pack(where / "downloads" / "images2.zip", sources / "vg", "VG_100K_2")
        pack(where / "downloads" / "data.zip", sources / "SPEC", "*")
        shutil.copytree(sources / "json", where / "downloads" / "questions" / "json")
    if "mmrel push" in block.text:
        reader.hub.repos.clear()  # nothing is published yet
    if "--images pictures" in block.text:
        (where / "pictures").symlink_to(sources)
        (where / "json").symlink_to(sources / "json")
    if "project.sqlite" in block.text:
        verify_a_relation(where / "project.sqlite", sources)
    if "score answers.jsonl" in block.text:
        lines = [line for path in built.glob("data/*/test.jsonl") for line in path.open()]
        rows = [{"question_id": json.loads(line)["question_id"], "answer": "Yes"} for line in lines]
        (where / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "path/to/model" in block.text:
        from tests.helpers.tiny_models import make_model

        make_model("llava", where / "path" / "to" / "model")


def verify_a_relation(path: Path, sources: Path) -> None:
    """Make a project in which two people have accepted a spatial triplet."""
    proposal = Proposal(
        image_id="vg/VG_100K/0.jpg",
        category="spatial",
        triplet=Triplet("cat", "above", "orange"),
        confidence=0.9,
        spread=None,
        origin="model",
        source="proposals.jsonl:1",
    )
    project = Project(path, make=True)
    sha256 = hashlib.sha256((sources / proposal.image_id).read_bytes()).hexdigest()
    assert project.add([(proposal, sha256)]) == 1
    for name in ("ann", "ben"):
        item = project.next_item(name)
        assert item is not None
        project.decide(Decision(f"{name}-1", item.id, name, "accept"))
    project.close()


def marks(case: Case) -> list[pytest.MarkDecorator]:
    if case.needs:
        return [pytest.mark.recipes]
    return [pytest.mark.commands] if case.is_long else []


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=marks(case), id=case.first[:60]) for case in CASES]
)
def test_a_block_runs(case: Case, reader: Reader, built: Path, sources: Path) -> None:
    if case.needs:
        pytest.importorskip(case.needs, reason=f"{case.needs} is not in this environment")
    block = find_block(case.first)
    prepare(reader, block, built, sources)
    assert case.prints in reader.run(block)


def test_the_output_that_is_shown(reader: Reader) -> None:
    shown = find_block("A drawn sample in the layout of a release")
    command = f'"{sys.executable}" mmrel.py real\n'
    printed = reader.run(Block("README.md", "bash", command), reader.clone)
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in filter(None, shown.text.splitlines()):
        assert line.rstrip() in lines
    assert lines[0] == shown.first, "the sample is called a sample in the first line"
