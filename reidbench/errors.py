"""The errors that a user can cause or fix, which the command line prints without a traceback, and checks of plugins.

What a plugin returns is checked where it enters: type, shape, dtype and numbers; every fault is a PluginError.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    import torch
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails
    from torch import Tensor

T = TypeVar("T")


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


class Busy(DataError):
    """A folder that another process uses."""


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
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] not in ("json_invalid", "value_error"):
        message = message.replace("Input should be", "must be").replace("List should", "must")
        message = plain.get(problem["type"], f"{message}, got {problem['input']!r:.80}")
    return f"{place.removeprefix('.')} {message}".strip()


def printable(text: str) -> str:
    """Return ``text`` as one printable line: runs of white space and unprintable characters become one space."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def quoted(text: str) -> str:
    """Return ``text`` as a STRING: double quoted, quotes and everything unprintable escaped as in JSON."""
    inner = (char if char.isprintable() and char not in '"\\' else json.dumps(char)[1:-1] for char in text)
    return f'"{"".join(inner)}"'


def did_you_mean(given: str, names: Iterable[str], show: Callable[[str], str] = quoted, cutoff: float = 0.6) -> str:
    """Return ``; did you mean "soft" or "hard"?`` with the nearest of ``names``, or an empty text.

    ``show`` writes a name; ``cutoff`` is the least similarity, from 0 to 1.
    """
    by_lower_case = {name.lower(): name for name in names}
    near = [show(by_lower_case[name]) for name in difflib.get_close_matches(given.lower(), by_lower_case, 2, cutoff)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def describe_error(error: BaseException) -> str:
    """Return an exception in one line, with the file and line that raised it unless it is an error of reidbench."""
    try:
        message = printable(str(error))
    except Exception:  # the exception's own __str__ may fail
        message = ""
    if isinstance(error, ReidbenchError):
        return message
    frames = traceback.extract_tb(error.__traceback__)
    in_file = frames and not frames[-1].filename.startswith("<")
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if in_file else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def contract_error(owner: str, what: str, expected: str, found: object) -> PluginError:
    """Return the error for a value that a plugin returned; ``owner`` is the item with its plugin."""
    return PluginError(f"{owner}: {what} must be {expected}, got {_describe(found)}")


def checked(owner: str, value: object, kind: type[T]) -> T:
    """Return ``value``, which a factory returned; raises PluginError where it is no ``kind``."""
    if not isinstance(value, kind):
        raise contract_error(owner, "what its factory returns", f"of the type reidbench.{kind.__name__}", value)
    return value


def _describe(value: object) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):  # an array or a tensor
        return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} {value!r:.80}" if isinstance(value, str | int | float | tuple) else repr(value)[:80]


def check_tensor(
    owner: str,
    what: str,
    value: object,
    shape: Sequence[int | None],
    dtypes: Sequence[torch.dtype] = (),
    *,
    finite: bool = True,
) -> Tensor:
    """Return a tensor that a plugin returned; raises PluginError for another type, shape or dtype, and for nan.

    ``shape`` has None for any length, ``dtypes`` are all that are allowed, or empty for any floating one. Where nan is
    looked for (``finite``), infinity is not: it may come of large inputs, which are the caller's.
    """
    import torch  # noqa: PLC0415, a list of plugins must not import it

    if isinstance(value, torch.Tensor) and (value.dtype in dtypes if dtypes else value.is_floating_point()):
        fits = value.ndim == len(shape) and all(a in (None, b) for a, b in zip(shape, value.shape, strict=True))
        if fits and not (finite and bool(torch.isnan(value.detach()).any())):
            return value
        if fits:
            raise PluginError(f"{owner}: {what} must be numbers, got {int(torch.isnan(value).sum())} nan")
    names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes) or "floating-point"
    sizes = ", ".join("n" if size is None else str(size) for size in shape)
    raise contract_error(owner, what, f"a {names} tensor [{sizes}]", value)


def check_fields(owner: str, value: Any) -> None:
    """Raise PluginError, naming all of them, where fields of a dataclass are not of their types."""
    if problems := field_problems(value):
        raise PluginError(f"{owner}: {type(value).__name__}: {'; '.join(problems)}")


def field_problems(value: Any) -> list[str]:
    """Return one clause for each field of a dataclass that is not of its type or not in the range that this names."""
    from pydantic import ValidationError  # noqa: PLC0415, not for every start

    problems: list[str] = []
    kind: Any = type(value)
    for name, adapter in _adapters(kind).items():
        try:
            adapter.validate_python(getattr(value, name))
        except ValidationError as error:
            problems += [describe_problem({**each, "loc": (name, *each["loc"])}) for each in error.errors()]
    return problems


@functools.cache
def _adapters(kind: Hashable) -> dict[str, TypeAdapter[Any]]:
    from pydantic import ConfigDict, InstanceOf, TypeAdapter  # noqa: PLC0415, not for every start

    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    hints = get_type_hints(kind, include_extras=True)
    instance_of: Any = InstanceOf  # subscripted with a value, which type checkers refuse
    return {
        name: TypeAdapter(instance_of[hint]) if dataclasses.is_dataclass(hint) else TypeAdapter(hint, config=config)
        for name, hint in hints.items()
    }


@contextmanager
def plugin_call(owner: str, what: str) -> Iterator[None]:
    """Turn an exception of a plugin's code into a PluginError that names item and plugin, with the exception as cause.

    Errors of reidbench and exhausted memory are left as they are.
    """
    try:
        yield
    except (ReidbenchError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(f"{owner}: {what}: {describe_error(error)}") from error
