"""Every command: help without extras, missing packages, Ctrl-C, a reader that has gone."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import upload
from mmrel_kit import cli, extras
from tests.conftest import REPOSITORY
from tests.helpers.verbs import list_verbs

pytestmark = pytest.mark.commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOORS = ("mmrel.py", "relation_accuracy.py", "upload.py")
# Every module that an extra brings, those of the tests' oracles among them.
EXTRAS = sorted(name for name, source in extras.SOURCES.items() if source != ".")
ORACLES = ("evaluate", "krippendorff", "scipy", "sklearn", "statsmodels")


@pytest.fixture(autouse=True)
def heed_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C through where these tests run in the background of a script, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Runs commands one after the other in one process in which some modules are not installed:
# [[words, …], [module, …]] -> [[status, standard output, standard error], …].
DRIVER = """
import contextlib, importlib.machinery, io, json, runpy, sys
asked, missing = json.loads(sys.argv[1])
PathFinder = importlib.machinery.PathFinder
class Finder:
    def find_spec(name, path=None, target=None):
        is_missing = name.partition(".")[0] in missing
        return None if is_missing else PathFinder.find_spec(name, path, target)
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
def end(error):
    if isinstance(error.code, str):
        print(error.code, file=sys.stderr)  # as Python does at its end
    return 1 if isinstance(error.code, str) else error.code
results = []
for words in asked:
    out, err = io.StringIO(), io.StringIO()
    is_module = words[0] == "-m"
    sys.argv = words = words[1:] if is_module else words
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            sys.modules.pop("mmrel_kit.cli", None)  # else it would warn that it runs twice
            (runpy.run_module if is_module else runpy.run_path)(words[0], run_name="__main__")
            status = 0
        except SystemExit as error:
            status = end(error)
        except BaseException:
            status = "traceback"
            try:
                sys.excepthook(*sys.exc_info())
            except SystemExit as error:
                status = end(error)
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""

# Makes a process stop where a test wants to interrupt it: it reports there to a socket, and waits.
PAUSE = """
import os, socket, sys
event, _, text = os.environ.get("PAUSE_AT", "").partition(":")
is_here = os.environ.get("PAUSE_IN", "") in " ".join(sys.orig_argv)
kept = []
def pause(name, args):
    if name == event and text in str(args[0]) and not kept:
        kept.append(None)
        kept[0] = socket.create_connection(("127.0.0.1", int(os.environ["PAUSE_PORT"])))
        kept[0].recv(1)
if event and is_here:
    sys.addaudithook(pause)
"""


class Result(NamedTuple):
    """How a command ended."""

    status: int | str
    out: str
    err: str


def make_environment(*folders: Path, **settings: str) -> dict[str, str]:
    path = os.pathsep.join(map(str, (*folders, REPOSITORY)))
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": path, **settings}


def make_words(command: str) -> list[str]:
    """Return what Python is given to run `mmrel VERB`, a door or a module."""
    first, *rest = command.split()
    if first == "mmrel":
        return ["-m", "mmrel_kit.cli", *rest]
    return [str(REPOSITORY / first) if first in DOORS else first, *rest]


def run_without(folder: Path, missing: Sequence[str], asked: Sequence[str]) -> list[Result]:
    """Run commands where modules are missing."""
    words = [make_words(command) for command in asked]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([words, missing])],
        cwd=folder,
        env=make_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [Result(*result) for result in json.loads(done.stdout)]


def list_commands() -> list[str]:
    """Return the three doors, `mmrel` and all of its verbs."""
    verbs = [name for name, _ in list_verbs(cli.make_parser())]
    return [*DOORS, "mmrel", *(f"mmrel {verb}" for verb in verbs), "upload.py build"]


@pytest.fixture
def workplace(tmp_path: Path, sources: Path, built: Path) -> Path:
    """A folder with annotations, pictures, a release and a few answers."""
    for name, target in (("json", sources / "json"), ("pictures", sources), ("release", built)):
        (tmp_path / name).symlink_to(target)
    with open(built / "data" / "real" / "test.jsonl", encoding="utf-8") as lines:
        question = json.loads(next(lines))
    answer = {"question_id": question["question_id"], "answer": "yes"}
    (tmp_path / "answers.jsonl").write_text(json.dumps(answer) + "\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wishes.jsonl").write_text(
        '{"category": "action", "subject": "man", "relation": "ride", "object": "horse"}\n'
    )
    return tmp_path


# ---- no extra installed


def test_help_of_every_command_works_without_any_extra(tmp_path: Path) -> None:
    # `finetune --help` and `answer --help` used to end in a traceback, and `propose --help` left
    # out the options of the endpoint.
    asked = list_commands()
    assert len(asked) > 30
    results = run_without(tmp_path, [*EXTRAS, *ORACLES], [f"{words} --help" for words in asked])
    for words, result in zip(asked, results, strict=True):
        assert (result.status, result.err) == (0, ""), words
        assert result.out.startswith("usage: "), words
        if words in ("mmrel label propose", "mmrel label generate", "mmrel answer"):
            for option in ("--base-url", "--model", "--store", "--parameter", "--max-requests"):
                assert option in result.out, words


def test_a_missing_extra_is_one_line_that_names_it(workplace: Path) -> None:
    # Most of these used to be tracebacks.
    before = sorted(workplace.iterdir())
    endpoint = "--base-url http://127.0.0.1:9/v1 --model m --store replies.sqlite"
    images = "--images pictures --out items.jsonl"
    propose = "mmrel label propose empty.jsonl --category action"
    cases = {
        f"mmrel answer --root release --out a.jsonl {endpoint}": ("openai", ".[semidc]"),
        "mmrel finetune --model m --data release --out tuned": ("transformers", ".[finetune]"),
        f"{propose} {images} {endpoint}": ("openai", ".[semidc]"),
        f"mmrel label generate empty.jsonl {images} {endpoint}": ("openai", ".[semidc]"),
        "mmrel label verify project.sqlite --images pictures": ("uvicorn", ".[semidc]"),
        "mmrel label demo --out demo": ("openai", ".[semidc]"),
        "mmrel report answers.jsonl --root release --plot p.png": ("matplotlib", ".[plot]"),
        "mmrel cluster local --tasks 2 -- --out x": ("datatrove", ".[cluster]"),
        "mmrel cluster ray --tasks 2 -- --out x": ("ray", "datatrove[ray]"),
    }
    results = run_without(workplace, EXTRAS, list(cases))
    for (words, (package, source)), result in zip(cases.items(), results, strict=True):
        line = f"{package} is not installed; install what it needs: pip install '{source}'\n"
        assert result.status == 1, (words, result)
        assert result.err.endswith(f": {line}"), (words, result)
        assert result.err.count("\n") == 1, (words, result)
    assert sorted(workplace.iterdir()) == before  # nothing is half written


def test_missing_pillow_is_one_line(tmp_path: Path) -> None:
    # `datasets` does not bring it, and `python mmrel.py real` printed a table and a traceback.
    names = {
        "mmrel.py show": "mmrel.py real",
        "upload.py": "upload.py check x",
        "mmrel": "mmrel export --out x",
    }
    results = run_without(tmp_path, ["PIL"], list(names.values()))
    for name, result in zip(names, results, strict=True):
        line = f"{name}: Pillow is not installed; install what it needs: pip install .\n"
        assert (result.status, result.out, result.err) == (1, "", line)


@pytest.mark.parametrize(
    ("prog", "missing"),
    [("mmrel.py", ["datasets"]), ("mmrel.py show", ["jsonschema", "jsonschema_rs"])],
)
def test_what_mmrel_py_needs_is_one_line(tmp_path: Path, prog: str, missing: list[str]) -> None:
    (result,) = run_without(tmp_path, missing, ["mmrel.py real"])
    line = f"{prog}: {missing[0]} is not installed; install what it needs: pip install .\n"
    assert (result.status, result.out, result.err) == (1, "", line)


def test_mmrel_py_copied_alone_loads_and_names_what_its_command_needs(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "mmrel.py", tmp_path)
    load = f"mmrel.load('real', split='test', root={str(REPOSITORY)!r})"
    # The package may be installed where the tests run.
    hidden = "import sys; sys.path.insert(0, ''); sys.modules['mmrel_kit'] = None"
    run = "runpy.run_path('mmrel.py', None, '__main__')"
    command = f"import runpy; sys.argv = ['mmrel.py', 'real']; {run}"
    results = []
    for code in (f"import mmrel; print(len({load}))", command):
        environment = {**make_environment(), "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", f"{hidden}; {code}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        results.append(done)
    loaded, refused = results
    assert (loaded.returncode, loaded.stdout) == (0, "42\n"), loaded.stderr
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("mmrel.py: ")
    assert "mmrel_kit" in line
    assert line.endswith(", which the command needs; run 'pip install .' in a clone")


@pytest.mark.parametrize(
    ("door", "verbs"),
    [
        ("mmrel.py", ("show",)),
        ("relation_accuracy.py", ("score", "report")),
        ("upload.py", upload.VERBS),
    ],
)
def test_a_door_imports_the_module_with_its_verbs(door: str, verbs: tuple[str, ...]) -> None:
    assert {name for name, _ in list_verbs(cli.make_parser(door, verbs))} == set(verbs)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        # What a package needs and lacks is not what "is not installed".
        ("import sympy_of_another_name", "No module named 'sympy_of_another_name'"),
        ("from . import _C", r"cannot import name '_C' from .*'trl'.*"),
        ("raise ImportError('libcuda.so.1: cannot open')", "libcuda.so.1: cannot open"),
    ],
)
def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trl", raising=False)
    with pytest.raises(ImportError) as caught:
        __import__("trl")
    again = "install it anew: pip install --force-reinstall trl"
    told = extras.explain_import(caught.value)
    assert re.fullmatch(f"trl is installed and cannot be imported: {problem}; {again}", str(told))


def test_a_broken_import_of_our_own_is_a_bug() -> None:
    with pytest.raises(ImportError) as caught:
        from mmrel_kit.cli import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    assert extras.explain_import(caught.value) is None

    def run(args: argparse.Namespace) -> int:
        raise caught.value

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=run)
    with pytest.raises(ImportError):
        cli.run_command(parser, [])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is in Python 3.11 and later")
def test_every_extra_of_the_project_is_known() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    groups = {f".[{extra}]": needed for extra, needed in project["optional-dependencies"].items()}
    for group in (".[test]", ".[browser]", ".[dev]"):
        groups.pop(group)
    known: dict[str, set[str]] = {}
    for module, source in extras.SOURCES.items():
        name = extras.PACKAGES.get(module, module).lower().replace("_", "-")
        known.setdefault(name, set()).add(source)
    for source, needed in {".": project["dependencies"], **groups}.items():
        for requirement in needed:
            (name,) = re.findall(r"^[\w-]+", requirement.lower().replace("_", "-"))
            # openai is in two extras; the line names the one that most people want.
            expected = ".[semidc]" if name == "openai" else source
            assert expected in known[name], requirement


# ---- Ctrl-C


class Session:
    """A command in a process group of its own, as a terminal starts it."""

    def __init__(self, folder: Path, command: str, **settings: str) -> None:
        (folder / "pause").mkdir(exist_ok=True)
        (folder / "pause" / "sitecustomize.py").write_text(PAUSE)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(300)  # so that a command that ends too early fails the test
        self.port = str(self.server.getsockname()[1])
        environment = make_environment(folder / "pause", PAUSE_PORT=self.port, **settings)
        words = [word.replace("PORT", self.port) for word in make_words(command)]
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**environment, "HF_ENDPOINT": f"http://127.0.0.1:{self.port}"},
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def press_ctrl_c(self) -> None:
        """Send SIGINT to all processes of the command."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> Result:
        out, err = self.process.communicate(timeout=300)
        self.server.close()
        return Result(self.process.returncode, out, err)


BUILD = "upload.py build --annotations json --images pictures --out out"
RESUMES = "the same command resumes where this one stopped"
STARTS_AGAIN = "the same command starts again"
NOT_BEGUN = "run the same command again"
ENDPOINT = "--base-url http://127.0.0.1:PORT/v1 --model m --concurrency 2"


@pytest.mark.parametrize(
    ("command", "where", "go_on"),
    [
        (BUILD, "open:.jpg", RESUMES),
        (f"{BUILD} --shard 1/2", "sqlite3.connect:plan-3.sqlite", RESUMES),
        ("mmrel check release", "open:release/data/", STARTS_AGAIN),
        ("mmrel audit release", "open:release/data/", STARTS_AGAIN),
        ("mmrel sheet release --out sheet.png", "open:release/data/", STARTS_AGAIN),
        ("mmrel.py real --root release", "open:.tar", STARTS_AGAIN),
        ("relation_accuracy.py answers.jsonl --root release", "open:answers", STARTS_AGAIN),
        ("mmrel report answers.jsonl --root release", "open:answers", STARTS_AGAIN),
        ("mmrel export --root release --out export", "open:release/data/", STARTS_AGAIN),
        ("mmrel label select --images pictures --out c.jsonl", "open:.jpg", STARTS_AGAIN),
        # While modules load, which takes seconds.
        (BUILD, "import:datasets", NOT_BEGUN),
        ("mmrel.py real", "import:datasets", NOT_BEGUN),
        ("mmrel label agree x", "import:datasets", NOT_BEGUN),
        ("mmrel answer --out x", "import:datasets", NOT_BEGUN),
        ("mmrel cluster local", "import:datasets", NOT_BEGUN),
        # The server that never answers is the Hub, or the endpoint of a model.
        ("mmrel push release --repo-id ns/MMRel", "", "the same command resumes"),
        ("mmrel verify release --repo-id ns/MMRel", "", STARTS_AGAIN),
        (f"mmrel answer --root release --out a.jsonl {ENDPOINT}", "", RESUMES),
        (f"mmrel label generate wishes.jsonl --images new --out g.jsonl {ENDPOINT}", "", RESUMES),
    ],
)
def test_ctrl_c_is_one_line_that_says_how_to_go_on(
    workplace: Path,
    command: str,
    where: str,
    go_on: str,
) -> None:
    # Most commands used to print a traceback.
    settings = {"PAUSE_AT": where} if where else {"HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_abcdefgh"}
    session = Session(workplace, command, **settings, no_proxy="127.0.0.1", NO_PROXY="127.0.0.1")
    connection, _ = session.server.accept()
    if not where:
        assert connection.recv(1)
    session.press_ctrl_c()
    if not where:
        time.sleep(0.5)  # or the command would meet the broken connection first
    session.server.close()
    connection.close()
    result = session.end()
    assert result.status == 130
    *steps, line = result.err.splitlines()
    assert ": stopped; " in line
    assert go_on in line
    assert "Traceback" not in result.err
    assert not steps or " build " in command  # which says what it does
    assert not (workplace / "out").exists()


def test_a_build_goes_on_after_ctrl_c(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(workplace, BUILD, PAUSE_AT="open:VG_100K_2/")
    session.server.accept()
    session.press_ctrl_c()
    assert session.end().status == 130
    packed = list((workplace / "out.partial" / "parts").iterdir())
    assert packed
    words = BUILD.split()[2:]
    arguments = [word if word.startswith("-") else str(workplace / word) for word in words]
    assert upload.main(["build", *arguments]) == 0
    assert upload.main(["check", str(workplace / "out")]) == 0


@pytest.mark.parametrize(
    ("command", "where", "go_on"),
    [
        (BUILD, "open:.jpg", RESUMES),
        (BUILD, "import:datasets", RESUMES),
        ("upload.py check release", "open:.tar", STARTS_AGAIN),
        ("upload.py audit release", "open:.tar", STARTS_AGAIN),
    ],
)
def test_ctrl_c_ends_the_workers_in_silence(
    workplace: Path, command: str, where: str, go_on: str
) -> None:
    # Each worker used to print a traceback. While they load they are under way, too.
    settings = {"PAUSE_AT": where, "PAUSE_IN": "multiprocessing.spawn"}
    session = Session(workplace, f"{command} --workers 2", **settings)
    workers = [session.server.accept()[0] for _ in range(2)]
    session.press_ctrl_c()
    result = session.end()
    assert result.status == 130
    prog = " ".join(command.split()[:2])
    assert result.err.splitlines()[-1].startswith(f"{prog}: stopped; {go_on}")
    assert "Traceback" not in result.err
    for worker in workers:  # the connections of processes that have ended
        assert worker.recv(1) == b""


def test_ctrl_c_ends_the_verifying_page(workplace: Path) -> None:
    session = Session(workplace, "mmrel label verify p.sqlite --images pictures --port 0")
    assert session.process.stdout is not None
    while "verify at" not in session.process.stdout.readline():
        assert session.process.poll() is None
    session.press_ctrl_c()
    result = session.end()
    assert (result.status, result.err) == (
        130,
        "mmrel label verify: stopped; every decision is kept; the same command resumes\n",
    )


def test_ctrl_c_while_answers_are_typed(workplace: Path) -> None:
    session = Session(workplace, "relation_accuracy.py - --root release")
    assert session.process.stdin is not None
    session.process.stdin.write("\n" * (1 << 20))  # more than a pipe holds: it is being read
    session.press_ctrl_c()
    result = session.end()
    assert result.status == 130
    (line,) = result.err.splitlines()
    assert line.startswith("relation_accuracy.py score: stopped; ")


def test_ctrl_c_that_a_library_turns_into_another_error() -> None:
    # A function in SQLite that is interrupted becomes an OperationalError of the query.
    def run(args: argparse.Namespace) -> int:
        with sqlite3.connect(":memory:") as db:
            db.create_function("interrupt", 0, lambda: signal.raise_signal(signal.SIGINT))
            db.execute("select interrupt()")
        return 0

    parser = argparse.ArgumentParser(prog="x")
    parser.set_defaults(run=run)
    before = signal.getsignal(signal.SIGINT)
    assert cli.run_command(parser, []) == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    # Shells start background jobs of scripts like that.
    def run(args: argparse.Namespace) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    parser = argparse.ArgumentParser(prog="x")
    parser.set_defaults(run=run)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli.run_command(parser, []) == 0
    finally:
        signal.signal(signal.SIGINT, before)


# ---- nobody reads the output


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "command",
    [
        "mmrel.py real --root release",
        "relation_accuracy.py answers.jsonl --root release --partial",
        "upload.py check release",
        "upload.py audit release --quick",
        "mmrel label select --images pictures --out c.jsonl",
        "mmrel export --root release --out export --allow-triplets",
        "upload.py build --help",
        "relation_accuracy.py --help",
        "mmrel.py --help",
    ],
)
def test_a_reader_that_has_gone_is_no_error(workplace: Path, command: str, buffered: bool) -> None:
    # `| head -1` used to end in a traceback, "Broken pipe", or "Exception ignored …" at the end.
    settings = {} if buffered else {"PYTHONUNBUFFERED": "1"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = print_into(writing, workplace, command, **settings)
    finally:
        os.close(writing)
    lines = done.stderr.splitlines()  # an export may reuse the check of an earlier case
    assert [line for line in lines if not line.startswith("checked before, unchanged: ")] == []
    assert done.returncode in ((0, 1) if "--help" in command else (1,))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["upload.py check release", "mmrel.py real"])
def test_output_that_cannot_be_written_is_one_line(workplace: Path, command: str) -> None:
    # Python used to add "Exception ignored in …" at its end.
    with open("/dev/full", "w") as full:
        done = print_into(full, workplace, command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line


def print_into(
    target: Any,
    folder: Path,
    command: str,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is this file or descriptor."""
    return subprocess.run(
        [sys.executable, *make_words(command)],
        cwd=folder,
        env=make_environment(**settings),
        stdout=target,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---- the runner


class Mistake(ValueError):
    """What a user can fix."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Mistake("expected a, got b"), "x: expected a, got b"),
        (FileNotFoundError(2, "No such file", "none"), "x: none: No such file"),
        (OSError(28, "No space left on device"), "x: No space left on device"),
        (ConnectionError("the Hub is away"), "x: the Hub is away"),
        (TimeoutError(), "x: TimeoutError"),
        # What a file holds may steer a terminal.
        (Mistake("got \x1b[2J and \udce9\r"), r"x: got \x1b[2J and \udce9\r"),
    ],
    ids=repr,
)
def test_what_a_user_can_fix_is_one_line(
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser(prog="x")
    parser.set_defaults(run=run)
    assert cli.run_command(parser, [], (Mistake,)) == 1
    assert capsys.readouterr().err == line + "\n"


def test_a_bug_keeps_its_traceback() -> None:
    # The labelling commands used to print every ValueError as if the user had made a mistake.
    def run(args: argparse.Namespace) -> int:
        raise ValueError("a bug")

    parser = argparse.ArgumentParser(prog="x")
    parser.set_defaults(run=run)
    with pytest.raises(ValueError, match="a bug"):
        cli.run_command(parser, [], (Mistake,))


def test_the_status_of_a_command_is_kept(capsys: pytest.CaptureFixture[Any]) -> None:
    parser = argparse.ArgumentParser(prog="x")
    parser.set_defaults(run=lambda args: 3)
    assert cli.run_command(parser, []) == 3
    with pytest.raises(SystemExit) as caught:
        cli.run_command(parser, ["--unknown"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --unknown" in capsys.readouterr().err
