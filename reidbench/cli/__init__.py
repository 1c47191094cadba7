"""The command line: verbs as functions; torch and the plugins are imported inside a verb, so that help is instant."""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.resources
import os
import signal
import sys
import tomllib
from collections.abc import Iterable
from types import FrameType
from typing import Annotated, Any

import typer

import reidbench
from reidbench.cli.output import echo, safe_streams
from reidbench.errors import Interrupted, OptionError, ReidbenchError
from reidbench.utils.processes import SIGNALS

# The module of a verb holds a function of its name, or ``app``, a group of verbs.
VERBS = ("run", "study", "report", "compare", "embed", "export", "evaluate",
         "leaderboard", "plugins", "data", "suites", "work")  # fmt: skip
HIDDEN = ("work",)  # for executors, and to run a task of a batch by hand


def _version(requested: bool) -> None:
    if requested:
        echo(f"reidbench {reidbench.__version__}")
        raise typer.Exit


def make_app(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """Return the command line with some verbs; only their modules are imported."""
    app = typer.Typer(
        name="reidbench",
        help="Benchmark metric-learning losses on person re-identification.",
        epilog="Exit codes: 0 all ok, 1 a run failed, 2 the request was wrong, 130 interrupted.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for verb in verbs:
        module = importlib.import_module(f"reidbench.cli.{verb}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
            for command in module.app.registered_commands:
                command.epilog = _examples(f"{verb} {command.name or command.callback.__name__}")
        else:
            app.command(verb, hidden=verb in HIDDEN, epilog=_examples(verb))(getattr(module, verb))
    return app


def _examples(command: str) -> str:
    """Return the end of a command's help."""
    examples = _texts()["examples"].get(command)
    return "\n".join(["\b", "Examples:", *(f"  {each}" for each in examples)]) if examples else ""


@functools.cache
def _texts() -> dict[str, Any]:
    """Return the file of defaults, without the import of plugins."""
    return tomllib.loads(importlib.resources.files("reidbench").joinpath("defaults.toml").read_text(encoding="utf-8"))


def _refuse_foreign_options(words: Iterable[str]) -> None:
    """Raise OptionError for an option of another toolbox, with what to type instead."""
    instead = _texts()["instead"]
    for name in (word.partition("=")[0] for word in words):
        if name in instead:
            raise OptionError(f"there is no option {name}; type {instead[name]}")


_VERSION = typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")


def _root(version: Annotated[bool, _VERSION] = False) -> None:
    pass


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the command by Interrupted, or at once where there is nothing to save or it would get lost."""
    while frame:
        # Libraries survive the failure of an import in any way, and then work without the module.
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _exit_at_once(number, frame)
        frame = frame.f_back
    for later in SIGNALS:  # while this one is handled, a second Ctrl-C ends the process
        signal.signal(later, _exit_at_once if later == signal.SIGINT else signal.SIG_IGN)
    raise Interrupted("interrupted; finished work is stored, and the same command resumes from there")


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _plain(text: str) -> str:
    """Return text with control and formatting characters escaped, so that no terminal interprets them."""
    escaped = (char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
    return "".join(escaped)


def main() -> None:
    """Run the command line; an error of reidbench ends with its message and its exit code, without a traceback.

    SIGINT, SIGTERM and SIGUSR1 end it cleanly at any moment; the training loop handles them to finish its step first.
    """
    with safe_streams():
        _run_verb()


def _run_verb() -> None:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, _interrupt)
        verb = sys.argv[1] if len(sys.argv) > 1 else ""
        if verb in ("run", "study"):
            _refuse_foreign_options(sys.argv[2:])
        make_app([verb] if verb in VERBS else VERBS)(prog_name="reidbench")
    except (ReidbenchError, Interrupted) as error:
        # Of several processes that torchrun started, those after the first name themselves.
        sender = f"process {os.environ['RANK']}: " if os.environ.get("RANK", "0") != "0" else ""
        sys.stderr.write(f"reidbench: {sender}{_plain(str(error))}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sys.stderr.write(f"reidbench: {_plain(str(error.filename)[:80])}…: is too long for a file name\n")
        sys.exit(2)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
