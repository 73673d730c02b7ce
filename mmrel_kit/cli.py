# SPDX-License-Identifier: Apache-2.0
"""The command `mmrel`: one parser for all verbs, one place where an error becomes one line.

Errors that a user can mend, missing packages, Ctrl-C and closed pipes take one line at most. The
module loads in no time, so that `guard_start` is there before what takes seconds. `mmrel.py` works
without this package and has a few such lines of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from mmrel_kit.commands.options import RESTARTS, Verbs
from mmrel_kit.extras import explain_import
from mmrel_kit.files import InputError, escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ABOUT = "Load, score, build and publish MMRel, a benchmark of relations between objects in images."
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run what the arguments ask for, and return the exit status.

    Args:
        parser: its defaults give `run`, which takes the parsed arguments and returns the exit
            status; `prog`, what messages begin with (default: the parser's own); and `after_interrupt`, how
            to go on after Ctrl-C (default: `RESTARTS`).
        argv: the arguments; None takes those of the process.
        errors: what a user can fix, beside OSError; printed in one line, exit status 1. Any other
            exception is a bug and keeps its traceback.

    Returns:
        The command's own status; 1 after an error or when nobody reads the output any more; 130
        after Ctrl-C.
    """
    prog, after_interrupt = parser.prog, RESTARTS
    expected: tuple[type[Exception], ...] = (OSError, *errors)
    with _CtrlC() as ctrl_c:
        try:
            args = parser.parse_args(argv)
            prog, after_interrupt = (
                getattr(args, "prog", prog),
                getattr(args, "after_interrupt", after_interrupt),
            )
            status = int(args.run(args))
            _flush()
            return status
        except SystemExit:  # argparse has printed help, or what is wrong
            _settle_output()
            raise
        except KeyboardInterrupt:
            return _stop(prog, after_interrupt)
        except BrokenPipeError:  # the reader, `head` for example, has seen enough
            _settle_output()
            return 1
        except ImportError as error:
            if (text := explain_import(error)) is None:
                raise
            return _fail(prog, text)
        except expected as error:
            return _fail(prog, describe(error))
        except Exception:
            if not ctrl_c.came:
                raise
            return _stop(prog, after_interrupt)


def guard_start(prog: str) -> None:
    """Report Ctrl-C and a missing package in one line while a command's modules are loading.

    Call it at the top of a file that is run, and only where `__name__` is `"__main__"`: it sets
    `sys.excepthook` for the whole process.
    """

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.exit(_stop(prog, "it had not begun; run the same command again"))
        text = explain_import(error) if isinstance(error, ImportError) else None
        if text is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.exit(_fail(prog, text))

    def report_unraisable(problem: Any) -> None:
        # Ctrl-C once more while Python waits for threads at its end.
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(problem)

    sys.excepthook = report
    sys.unraisablehook = report_unraisable


def describe(error: BaseException) -> str:
    """Return the line that tells a user about an error."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


class _CtrlC:
    """Remembers Ctrl-C, since what runs may make another error of it, as functions in SQLite do."""

    def __init__(self) -> None:
        self.came = False
        self._previous: Any = None

    def __enter__(self) -> _CtrlC:
        is_main = threading.current_thread() is threading.main_thread()
        # Where SIGINT is ignored, as in a script's background job, it stays ignored.
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous:
            signal.signal(signal.SIGINT, self._previous)

    def _raise(self, *_: object) -> None:
        self.came = True
        raise KeyboardInterrupt


def _stop(prog: str, after_interrupt: str) -> int:
    after_echo = "\n" if sys.stderr and sys.stderr.isatty() else ""  # the terminal has written ^C
    _say(f"{after_echo}{prog}: stopped; {after_interrupt}\n")
    _settle_output()
    return INTERRUPTED


def _fail(prog: str, text: str) -> int:
    _say(f"{prog}: {text}\n")
    _settle_output()
    return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr:
            sys.stderr.write(escape_unprintable(text))
            sys.stderr.flush()


def _flush() -> None:
    if sys.stdout:
        sys.stdout.flush()


def _settle_output() -> None:
    """Flush standard output, or drop what cannot be written, which Python would complain of."""
    try:
        _flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser(
    prog: str = "mmrel", only: Collection[str] | None = None
) -> argparse.ArgumentParser:
    """Return the parser of all verbs, or of a door's."""
    import mmrel
    from mmrel_kit.commands import label, load, recipes, release, score

    about = ABOUT if only is None else f"The verbs of `mmrel` of this door: {', '.join(only)}."
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--version", action="version", version=mmrel.__version__)
    verbs = Verbs(parser, only)
    for module in (load, score, release, recipes, label):
        module.add_verbs(verbs)
    return parser


def main(
    argv: Sequence[str] | None = None,
    verbs: Collection[str] | None = None,
    prog: str = "mmrel",
) -> int:
    """Run a verb and return the exit status.

    Args:
        argv: the arguments; None takes those of the process.
        verbs: the verbs of the door that is used; None takes all.
        prog: what messages begin with.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser(prog, verbs)
    if given[:1] == ["cluster"] and "--" in given:
        # argparse gives no verb what follows options and "--".
        cut = given.index("--")
        parser.set_defaults(arguments=given[cut + 1 :])
        given = given[:cut]
    import mmrel
    import relation_accuracy

    errors = (InputError, mmrel.ReleaseError, relation_accuracy.AnswerError)
    return run_command(parser, given, errors)


def run() -> NoReturn:
    """Run the command of the process."""
    guard_start("mmrel")
    sys.exit(main())


if __name__ == "__main__":
    run()
