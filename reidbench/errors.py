"""The errors that a user can cause or fix; the command line prints them without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ReidbenchError(Exception):
    """An error whose message names the thing, what was expected, what was found and what to do.

    ``exit_code``: the exit code of the command line: 2 for a wrong request, 1 for a failed run.
    """

    exit_code = 2


class OptionError(ReidbenchError):
    """A name, an option or a value in a spec, a suite or a flag that cannot be used."""


class PluginError(ReidbenchError):
    """A plugin, or one of its items, that breaks the contract of its hook."""


class ContractError(ReidbenchError, AssertionError):
    """A plugin item that fails a contract check of ``reidbench.testing``; ``check`` is the name of that check."""

    exit_code = 1

    def __init__(self, message: str, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class DataError(ReidbenchError):
    """A file or a folder (of a dataset, a record, a results folder) that is missing, damaged or of other content."""


class TrainingError(ReidbenchError):
    """A training that cannot continue: a loss that is not finite, a batch without a positive, no memory."""

    exit_code = 1


class OutOfMemory(TrainingError):
    """A training that ran out of memory; the message says what to lower."""


class PeerError(ReidbenchError):
    """A process that stops because another process of the same training failed and reports the reason."""

    exit_code = 1


class Interrupted(BaseException):
    """A signal ends the command; what is finished is stored. No ``except Exception`` catches it, such as a plugin's."""

    exit_code = 130


def describe_problem(problem: ErrorDetails) -> str:
    """Return what is wrong with a value as one clause that begins with its place, such as "job[0].seed"."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    plain = {"missing": "is missing", "unexpected_keyword_argument": "is unknown", "extra_forbidden": "is unknown"}
    message = (
        problem["msg"]
        .replace("Input should be", "must be")
        .replace("List should", "must")
        .removeprefix("Value error, ")
    )
    if problem["type"] not in ("json_invalid", "value_error"):
        message = plain.get(problem["type"], f"{message}, got {problem['input']!r:.80}")
    return f"{place.removeprefix('.')} {message}".strip()
