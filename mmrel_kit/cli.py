# SPDX-License-Identifier: Apache-2.0
"""The command `mmrel`: the parser of all verbs, and errors in one line.

A user's errors, missing packages, Ctrl-C and closed pipes print one line at most. Imports at module
level are fast, so that `guard_start` can run before the slow ones.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from mmrel_kit.commands.options import RESTARTS, Verbs
from mmrel_kit.extras import explain_import
from mmrel_kit.files import InputError, escape_unprintable

ABOUT = "Load, score, build and publish MMRel, a benchmark of relations between objects in images."
INTERRUPTED = 130  # exit status after Ctrl-C, as in shells
MODULES = ("load", "score", "fetch", "release", "recipes", "label")  # of mmrel_kit.commands
# The modules with the verbs of each door: a door starts faster if it does not import the others.
DOORS = {
    "mmrel.py": ("load",),
    "relation_accuracy.py": ("score",),
    "upload.py": ("fetch", "release"),
}


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run the function that the arguments choose, and return the exit status.

    Args:
        parser: must set the default `run`, which takes the parsed arguments and returns the exit
            status; may set `prog`, the start of messages, and `after_interrupt`, which says how to
            continue after Ctrl-C.
        argv: the arguments; default: those of the process.
        errors: a user's errors beside OSError; printed in one line, exit status 1. Any other
            exception is a bug and keeps its traceback.

    Returns:
        The function's status; 1 after an error or when the reader of the output has left; 130 after
        Ctrl-C.
    """
    prog, after_interrupt = parser.prog, RESTARTS
    expected: tuple[type[Exception], ...] = (OSError, *errors)
    with _CtrlC() as ctrl_c:
        try:
            args = parser.parse_args(argv)
            prog = getattr(args, "prog", prog)
            after_interrupt = getattr(args, "after_interrupt", after_interrupt)
            status = int(args.run(args))
            _flush()
            return status
        except SystemExit:  # argparse has printed help or an error
            _flush_or_discard()
            raise
        except KeyboardInterrupt:
            return _stop(prog, after_interrupt)
        except BrokenPipeError:  # the reader, such as `head`, has left
            _flush_or_discard()
            return 1
        except ImportError as error:
            explanation = explain_import(error)
            if explanation is None:
                raise
            return _fail(prog, explanation)
        except expected as error:
            return _fail(prog, describe(error))
        except Exception:
            if not ctrl_c.was_pressed:
                raise
            return _stop(prog, after_interrupt)


def guard_start(prog: str) -> None:
    """Report Ctrl-C and missing packages in one line while a command's modules are loading.

    Call it at the top of a script, and only where `__name__` is `"__main__"`: it sets
    `sys.excepthook` for the whole process.
    """

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.exit(_stop(prog, "it had not begun; run the same command again"))
        explanation = explain_import(error) if isinstance(error, ImportError) else None
        if explanation is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.exit(_fail(prog, explanation))

    def report_unraisable(problem: Any) -> None:
        # A second Ctrl-C while Python waits for threads at exit.
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(problem)

    sys.excepthook = report
    sys.unraisablehook = report_unraisable


def describe(error: BaseException) -> str:
    """Return the message of an error for a user."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


class _CtrlC:
    """Record Ctrl-C, because code such as SQLite's callbacks may turn it into another error."""

    def __init__(self) -> None:
        self.was_pressed = False
        self._previous: Any = None

    def __enter__(self) -> _CtrlC:
        is_main = threading.current_thread() is threading.main_thread()
        # If SIGINT is ignored, as in a script's background job, it stays ignored.
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous:
            signal.signal(signal.SIGINT, self._previous)

    def _raise(self, *_: object) -> None:
        self.was_pressed = True
        raise KeyboardInterrupt


def _stop(prog: str, after_interrupt: str) -> int:
    after_echo = "\n" if sys.stderr and sys.stderr.isatty() else ""  # the terminal has printed ^C
    _print_error(f"{after_echo}{prog}: stopped; {after_interrupt}\n")
    _flush_or_discard()
    return INTERRUPTED


def _fail(prog: str, message: str) -> int:
    _print_error(f"{prog}: {message}\n")
    _flush_or_discard()
    return 1


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr:
            sys.stderr.write(escape_unprintable(message))
            sys.stderr.flush()


def _flush() -> None:
    if sys.stdout:
        sys.stdout.flush()


def _flush_or_discard() -> None:
    """Flush standard output; discard the rest if that fails, which Python would report at exit."""
    try:
        _flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser(
    prog: str = "mmrel", only: Collection[str] | None = None
) -> argparse.ArgumentParser:
    """Return the parser of all verbs, or of those in `only`."""
    import mmrel

    about = ABOUT if only is None else f"The verbs of `mmrel` of this door: {', '.join(only)}."
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--version", action="version", version=mmrel.__version__)
    verbs = Verbs(parser, only)
    for name in DOORS.get(prog, MODULES):
        importlib.import_module(f"mmrel_kit.commands.{name}").add_verbs(verbs)
    return parser


def main(
    argv: Sequence[str] | None = None, verbs: Collection[str] | None = None, prog: str = "mmrel"
) -> int:
    """Run a verb and return the exit status; offer only those in `verbs`, unless it is None."""
    import mmrel
    import relation_accuracy

    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser(prog, verbs)
    if words[:1] == ["cluster"] and "--" in words:
        # argparse would not pass on what follows options and "--".
        separator = words.index("--")
        parser.set_defaults(arguments=words[separator + 1 :])
        words = words[:separator]
    errors = (InputError, mmrel.ReleaseError, relation_accuracy.AnswerError)
    return run_command(parser, words, errors)


def run() -> NoReturn:
    """Run the command of the process."""
    guard_start("mmrel")
    sys.exit(main())


if __name__ == "__main__":
    run()
