# SPDX-License-Identifier: Apache-2.0
"""Run every fenced command and snippet of the documentation as a reader would.

Each block runs in its own folder outside the repository, with an empty cache, relative paths, and a
Hub and an endpoint on the loopback. The tables below name a block by its first line. A block that
no table names fails the tests, and so does a row that names no block.
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
from mmrel_kit.sources.hub import parse_hub_path
from mmrel_kit.sources.upstream import HOSTS, QUESTIONS
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
    "benchmarks/README.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDPOINT = "http://127.0.0.1:8000/v1"  # the address that the documentation gives an endpoint
CLONE = "MMRel-source"


class Block(NamedTuple):
    """A fenced block of a document: its language and its text."""

    document: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """The first line."""
        return self.text.partition("\n")[0]


class Case(NamedTuple):
    """How to run a block.

    Attributes:
        first: the beginning of the block, long enough that no other block has it.
        prints: text that standard output contains.
        needs: a module that extra `[test]` does not install; such a case has the mark `recipes` and
            runs in the environment that has the module.
        is_long: whether it takes more than a few seconds; it then has the mark `commands`.
    """

    first: str
    prints: str
    needs: str = ""
    is_long: bool = False


# Blocks run with the files that the wheel installs, in a folder with a release named mmrel.
CASES = [
    Case('mmrel score "$(mmrel path answers)/made_up_80.jsonl"', "real/spatial"),
    Case("mmrel get --out mmrel", 'load it with: load_dataset("mmrel", "real")', is_long=True),
    Case("mmrel fetch mmrel.pictures --dry-run", "GB needed", is_long=True),
    Case("hf download jiahaonie/MMRel", "mmrel: 0 problems", is_long=True),
    Case("mmrel audit mmrel --card", "written to sheet.png", is_long=True),
    Case("hf download NS/MMRel --repo-type dataset --local-dir mmrel", "mmrel"),
    Case("from datasets import load_dataset\n\n# NS is", "Is there a"),
    Case("import mmrel\n\nrows =", "10 Is a"),
    Case("import mmrel\n\nembedded =", "True"),
    Case("from datasets import load_dataset\n\nonly =", "{'spatial'}"),
    Case("mmrel score answers.jsonl --repo-id NS/MMRel --split test", "GPT-4o", is_long=True),
    Case(
        "from datasets import load_dataset\nfrom relation_accuracy import compute", "0.5 0.0 0.66"
    ),
    Case("import mmrel\nfrom mmrel_kit.questions.records", "0.", needs="transformers"),
    Case("mmrel answer --root mmrel --base-url", "64 of 64 answered"),
    Case("MMREL_RELEASE=NS/MMRel python -m lmms_eval", "mmrel_accuracy", needs="lmms_eval"),
    Case("export LOCAL_BASE_URL=http://127.0.0.1:8000/v1", "pair_accuracy", needs="inspect_ai"),
    Case("mmrel export --root mmrel --drop-leaks", "false positives", needs="trl"),
    Case('mmrel report "$(mmrel path answers)/made_up_80.jsonl"', "McNemar"),
    Case('mmrel score --root "$(mmrel path sample)" --config real', "open-ended"),
    Case("from relation_accuracy import compute\n\nreport =", "0.5"),
    Case("import mmrel\nimport relation_accuracy", "0.5 0.0"),
    Case("import mmrel\nfrom mmrel_kit.pictures import Picture", "Is "),
    Case("mmrel label demo\n", "accuracy", is_long=True),
    Case("mmrel label demo --out demo", "accuracy", is_long=True),
    Case("mmrel label select --images pictures", "0 items to verify written to proposals.jsonl"),
    Case("mmrel label ask project.sqlite", "3 records written to records/train.jsonl"),
    Case("mmrel label audit project.sqlite", "0 of"),
    Case("sample=$(mmrel path sample)", "release: 0 problems", is_long=True),
    Case(
        "mmrel build --annotations json --images pictures --out mmrel --domains real",
        "mmrel check mmrel",
    ),
    Case(
        "mmrel build --annotations json --images pictures --out mmrel --shard 1/2",
        "mmrel check mmrel",
    ),
    Case(
        "mmrel fetch pictures --annotations json --domains sdxl", "written to mmrel", is_long=True
    ),
    Case("mmrel cluster local --tasks 2", "mmrel check mmrel", needs="datatrove"),
    Case("mmrel push mmrel --repo-id NS/MMRel --tag", "dry run: nothing was changed", is_long=True),
]
VENV = "python3 -m venv .venv && . .venv/bin/activate && "
# Blocks that are not run here, and why.
NOT_RUN = {
    "git clone ": "the address of the source is a placeholder; CI installs a clone",
    f"{VENV}pip install . &&": "it installs from a package index; CI runs it",
    f"{VENV}pip install '.[test]'": "it runs these tests; CI runs it",
    "A drawn sample in the layout of a release": "output, which another test here compares",
    "@article{nie2024mmrel,": "BibTeX",
    "def count(args: argparse.Namespace) -> int:": "a part of a file of mmrel_kit/commands/",
    "python -m venv peers": "takes an hour; test_benchmarks.py and CI run its parts",
    "PYTHONPATH=. python -m tests.drawing.draw_sample": (
        "it writes into the clone; test_project.py runs its parts"
    ),
    "mmrel label generate triplets.jsonl": "needs an image model; tests of the step have a stub",
    "mmrel label verify project.sqlite": "it serves until Ctrl-C; test_commands.py starts it",
}


def read_blocks() -> list[Block]:
    """Read the fenced blocks of all documents."""
    blocks = []
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text("utf-8")
        matches = BLOCK.findall(text)
        assert text.count("\n```") == 2 * len(matches), f"{document}: a fence is indented or open"
        blocks += [Block(document, language, content) for language, content in matches]
    return blocks


def find_block(first: str) -> Block:
    """Return the only block with this beginning."""
    blocks = [block for block in read_blocks() if block.text.startswith(first)]
    assert len(blocks) == 1, f"{len(blocks)} blocks begin with {first!r}"
    return blocks[0]


def test_every_block_is_in_exactly_one_table() -> None:
    known = [*(case.first for case in CASES), *NOT_RUN]
    for block in read_blocks():
        matches = [first for first in known if block.text.startswith(first)]
        assert len(matches) == 1, f"{block.document}: {block.first!r}: {len(matches)} rows name it"
    for first in known:
        find_block(first)


def test_no_command_is_in_an_indented_block() -> None:
    for document in DOCUMENTS:
        text = BLOCK.sub("", (REPOSITORY / document).read_text("utf-8"))
        assert not re.findall(
            r"^(?: {4}|\t)(?:python|pip|hf|inspect|import|from) .*", text, re.MULTILINE
        ), document


def test_examples_in_help_texts_are_valid_commands() -> None:
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


def test_commands_in_docstrings_are_valid() -> None:
    parser = cli.make_parser()
    count = 0
    for path in [*REPOSITORY.glob("*.py"), *REPOSITORY.glob("mmrel_kit/**/*.py")]:
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        for command in re.findall(r"^    mmrel ((?:.+\\\n)*.+)$", text, re.MULTILINE):
            words = shlex.split(command.replace("\\\n", " "))
            if "--" in words:
                words = words[: words.index("--")]
            parser.parse_args(words)
            count += 1
    assert count >= 5


class Reader:
    """A reader's machine: a folder, a clone, an empty cache, a Hub and an endpoint."""

    def __init__(self, folder: Path, hub: LoopbackHub, endpoint: StubEndpoint) -> None:
        folder.mkdir()
        self.folder = folder
        self.hub = hub
        self.clone = folder / CLONE
        self.endpoint = endpoint
        client = Client(hub, folder / "home")
        self.environment = client.environment()
        self.environment["HOME"] = str(client.home)
        self.environment["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
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
        """Run a block, which must succeed, and return its standard output.

        Args:
            block: the block.
            where: a folder that holds the code; by default, code is installed as by the wheel.
        """
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
    """Write the command `mmrel` as the wheel installs it."""
    path.parent.mkdir()
    run = f'#!/bin/sh\nexec "{sys.executable}" -c "from mmrel_kit.cli import run; run()" "$@"\n'
    path.write_text(run)
    path.chmod(0o755)


def copy_installed(target: Path) -> None:
    """Copy the files that the wheel installs, by the list in setup.py."""
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


def write_zip(target: Path, root: Path, folders: str) -> None:
    """Write the pictures of some folders into a zip, as upstream does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.glob(f"{folders}/**/*.*")):
            archive.write(path, path.relative_to(root))


@pytest.fixture
def reader(built: Path, sources: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader with the files and the repositories that the documentation takes for granted."""
    with LoopbackHub(tmp_path / "hub") as hub, StubEndpoint(lambda request: "Yes.") as endpoint:
        hub.publish("NS/MMRel", built)
        hub.create("jiahaonie/MMRel")
        publish_upstream(hub, sources, tmp_path / "archives")
        reader = Reader(tmp_path / "reader", hub, endpoint)
        copy_clone(reader.clone)
        copy_installed(reader.folder / "installed")
        yield reader
        # The first host of the real pictures does not answer here; the Hub has a copy of them.
        assert set(hub.external) <= {"CONNECT cs.stanford.edu:443"}
        assert hub.leaks == []


def publish_upstream(hub: LoopbackHub, sources: Path, folder: Path) -> None:
    """Publish questions and pictures on the Hub, as upstream does; no other host is reached."""
    write_zip(folder / "images.zip", sources / "vg", "VG_100K")
    write_zip(folder / "images2.zip", sources / "vg", "VG_100K_2")
    write_zip(folder / "data.zip", sources / "SPEC", "*")
    upstream = [*sources.glob("json/*"), *sources.glob("Dall-E_generated/**/*.png")]
    files = {path.relative_to(sources).as_posix(): path.read_bytes() for path in upstream}
    archives = {path.name: path.read_bytes() for path in folder.iterdir()}
    spec = {"data.zip": archives.pop("data.zip")}
    for where, content in (
        (QUESTIONS, files),
        (HOSTS["sdxl"][0], spec),
        (HOSTS["real"][-1], archives),
    ):
        repo_id, revision, _ = parse_hub_path(where)
        repository = hub.create(repo_id)
        commit = hub.commit(repo_id, content)
        if revision:
            repository.tags[revision] = commit.id


def prepare(reader: Reader, block: Block, built: Path, sources: Path) -> None:
    """Create the files that earlier steps of the documentation create."""
    where = reader.beside
    if "--out mmrel" not in block.text and "--local-dir mmrel" not in block.text:
        shutil.copytree(built, where / "mmrel")
    if "downloads/images.zip" in block.text:
        (where / "downloads").mkdir()
        write_zip(where / "downloads" / "images.zip", sources / "vg", "VG_100K")
        write_zip(where / "downloads" / "images2.zip", sources / "vg", "VG_100K_2")
        write_zip(where / "downloads" / "data.zip", sources / "SPEC", "*")
    if "mmrel push" in block.text:
        reader.hub.repos.clear()  # the release is not published yet
    if "--images pictures" in block.text and "mmrel fetch pictures" not in block.text:
        (where / "pictures").symlink_to(sources)
    if "--annotations json" in block.text:
        (where / "json").symlink_to(sources / "json")
    if "project.sqlite" in block.text:
        verify_a_relation(where / "project.sqlite", sources)
    if "score answers.jsonl" in block.text:
        write_answers(where / "answers.jsonl", built)
    if "path/to/model" in block.text:
        from tests.helpers.tiny_models import make_model

        make_model("llava", where / "path" / "to" / "model")


def write_answers(path: Path, built: Path) -> None:
    """Write an answer file for the test split of a release: "Yes" to each question."""
    with path.open("w") as file:
        for records in built.glob("data/*/test.jsonl"):
            for line in records.read_text("utf-8").splitlines():
                row = {"question_id": json.loads(line)["question_id"], "answer": "Yes"}
                file.write(json.dumps(row) + "\n")


def verify_a_relation(path: Path, sources: Path) -> None:
    """Make a labelling project in which two people have accepted a triplet."""
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


def list_marks(case: Case) -> list[pytest.MarkDecorator]:
    if case.needs:
        return [pytest.mark.recipes]
    return [pytest.mark.commands] if case.is_long else []


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=list_marks(case), id=case.first[:60]) for case in CASES]
)
def test_a_block_runs(case: Case, reader: Reader, built: Path, sources: Path) -> None:
    if case.needs:
        pytest.importorskip(case.needs, reason=f"{case.needs} is not in this environment")
    block = find_block(case.first)
    prepare(reader, block, built, sources)
    assert case.prints in reader.run(block)


def test_the_output_in_the_readme_is_that_of_the_command(reader: Reader) -> None:
    documented = find_block("A drawn sample in the layout of a release")
    command = f'"{sys.executable}" mmrel.py real\n'
    output = reader.run(Block("README.md", "bash", command), reader.clone)
    lines = [line.rstrip() for line in output.splitlines()]
    for line in documented.text.splitlines():
        assert line.rstrip() in lines or not line
    assert lines[0] == documented.first, "the first line must call the sample a sample"
