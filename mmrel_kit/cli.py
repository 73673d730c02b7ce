# SPDX-License-Identifier: Apache-2.0
"""Run a command, so that errors, missing packages, Ctrl-C and closed pipes take one line at most.

The one runner of upload.py, semidc, recipes and release.cluster. It loads in no time, so that it is
there before what takes seconds (`guard_start`). `mmrel.py` and `relation_accuracy.py` work without
this package and have a few such lines of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from mmrel_kit.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
AGAIN = "the same command starts again from the beginning"

# What `pip install` needs to be given for a module, in a clone: "." is the core, the others are
# the extras of pyproject.toml.
SOURCES = {
    **dict.fromkeys(("datasets", "fsspec", "huggingface_hub", "jsonschema", "numpy", "PIL"), "."),
    **dict.fromkeys(("pyarrow", "tqdm", "yaml"), "."),
    **dict.fromkeys(("openai", "fastapi", "uvicorn", "pydantic"), ".[semidc]"),
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "accelerate"), ".[finetune]"),
    "datatrove": ".[cluster]",
    "ray": "datatrove[ray]",
    "imagehash": ".[audit]",
    "inspect_ai": ".[inspect]",
    "jsonschema_rs": ".[fast]",
    "matplotlib": ".[plot]",
    "mlcroissant": ".[croissant]",
}
# Packages whose name is not that of their module.
PACKAGES = {
    "PIL": "Pillow",
    "imagehash": "ImageHash",
    "inspect_ai": "inspect-ai",
    "jsonschema_rs": "jsonschema-rs",
    "yaml": "PyYAML",
}


def run_command(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run what the arguments ask for, and return the exit status.

    Args:
        parser: its defaults give `run`, which takes the parsed arguments and returns the exit
            status; `prog`, what messages begin with (default: the parser's own); and `go_on`, how
            to go on after Ctrl-C (default: `AGAIN`).
        argv: the arguments; None takes those of the process.
        errors: what a user can fix, beside OSError; printed in one line, exit status 1. Any other
            exception is a bug and keeps its traceback.

    Returns:
        The command's own status; 1 after an error or when nobody reads the output any more; 130
        after Ctrl-C.
    """
    prog, go_on = parser.prog, AGAIN
    expected: tuple[type[Exception], ...] = (OSError, *errors)
    with _CtrlC() as ctrl_c:
        try:
            args = parser.parse_args(argv)
            prog, go_on = getattr(args, "prog", prog), getattr(args, "go_on", go_on)
            status = int(args.run(args))
            _flush()
            return status
        except SystemExit:  # argparse has printed help, or what is wrong
            _settle_output()
            raise
        except KeyboardInterrupt:
            return _stop(prog, go_on)
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
            return _stop(prog, go_on)


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


def explain_import(error: ImportError) -> str | None:
    """Return which package is missing or broken and what to install; None if none of `SOURCES` is.

    A module that an installed package misses (torch without its sympy) is that package's problem,
    and the line names both.
    """
    if isinstance(error, ModuleNotFoundError) and error.name in SOURCES:
        package, source = PACKAGES.get(error.name, error.name), SOURCES[error.name]
        return f"{package} is not installed; install what it needs: pip install {_quote(source)}"
    if (module := _find_importing(error)) is None:
        return None
    package = PACKAGES.get(module, module)
    again = f"pip install --force-reinstall {package}"
    return f"{package} is installed and cannot be imported: {error}; install it anew: {again}"


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


def _find_importing(error: ImportError) -> str | None:
    """Return the module of `SOURCES` in whose code an import failed, or that lacks a name."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module in SOURCES:
            return module
    module = str(error.name).partition(".")[0]
    return module if module in SOURCES else None


def _quote(source: str) -> str:
    return f"'{source}'" if "[" in source else source


def _stop(prog: str, go_on: str) -> int:
    after_echo = "\n" if sys.stderr and sys.stderr.isatty() else ""  # the terminal has written ^C
    _say(f"{after_echo}{prog}: stopped; {go_on}\n")
    _settle_output()
    return INTERRUPTED


def _fail(prog: str, text: str) -> int:
    _say(f"{prog}: {text}\n")
    _settle_output()
    return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr:
            sys.stderr.write(printable(text))
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
