"""Options: a factory's keyword-only parameters are its declaration, and values are checked against their types."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from reidbench.errors import DataError, OptionError, PluginError, did_you_mean, printable, quoted
from reidbench.plugins.spec import Item, write_value
from reidbench.utils.machine import user_path
from reidbench.utils.syntax import docstring_of, unwrap
from reidbench.utils.untrusted_files import ARRAY_BYTES, LIST_BYTES, file_digest, kind_of, parse_json, read_text

if TYPE_CHECKING:
    from pathlib import Path as PlatformPath
else:
    PlatformPath = type(Path())  # before Python 3.12 only the platform's own class of paths can be subclassed

MOST_SEARCHED = 3  # options of one item
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_SOURCES = {"given": "", "protocol": "the protocol's default: ", "default": "the item's default: "}

_FILES_BELOW: ContextVar[Path | None] = ContextVar("files below", default=None)


@contextmanager
def files_below(folder: Path) -> Iterator[None]:
    """Look for files of options below ``folder`` where they are not below the current folder."""
    token = _FILES_BELOW.set(folder)
    try:
        yield
    finally:
        _FILES_BELOW.reset(token)


class File(PlatformPath):
    """An option's annotation: the path of an existing file, relative to the current folder, else to the data root.

    The value is a ``pathlib.Path``. Ids contain the file's sha256, never its path.
    """

    address = ""

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of the file's content. Raises DataError where it cannot be read or is too large."""
        return file_digest(self, LIST_BYTES if self.suffix == ".csv" else ARRAY_BYTES)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._existing)

    @classmethod
    def _existing(cls, value: object) -> File:
        if not isinstance(value, str | Path):
            raise ValueError("not a path")
        path = cls(user_path(value))
        files: list[Path] = [path]
        if below := _FILES_BELOW.get():  # where its folder was moved, it is there
            files += [below / path, below / path.parent.name / path.name]
        if existing := next((file for file in files if file.is_file()), None):
            return cls(existing)
        tried = list(dict.fromkeys(file.absolute() for file in files))
        others = [f"{file} is {kind}" for file in tried if (kind := kind_of(file))]
        reason = "; ".join(others) or f"there is no file {' nor '.join(map(str, tried))}"
        raise PydanticCustomError("no_file", "{reason}", {"reason": reason})


class Weights(File):
    """An option's annotation: a safetensors file of weights, or the folder of a training or run, for its weights.

    The value is the path of the file. ``https://…#sha256=DIGEST`` and ``hf://OWNER/NAME/FILE#sha256=DIGEST`` are
    downloaded into the cache; ``address`` of the value is then this text, which records hold in place of the path.
    """

    @classmethod
    def _existing(cls, value: object) -> File:
        if isinstance(value, str) and "://" in value:
            from reidbench.utils.download import cached_weights  # noqa: PLC0415 - most weights are files here

            try:
                file = cls(cached_weights(value))
            except DataError as error:
                raise PydanticCustomError("no_file", "{reason}", {"reason": str(error)}) from None
            file.address = value
            return file
        folder = user_path(value) if isinstance(value, str | Path) else None
        if folder is None or not folder.is_dir():
            return super()._existing(value)
        try:
            if (folder / "record.json").is_file():
                training = PurePosixPath(parse_json(read_text(folder / "record.json"), str(folder))["training"])
                folder = folder.absolute().parents[1] / training.parent.name / training.name
            return super()._existing(folder / "weights.safetensors")
        except (DataError, KeyError, TypeError, PydanticCustomError) as error:
            reason = f"{value} is no folder of a training, or of a run whose trained weights are here: {error}"
            raise PydanticCustomError("no_file", "{reason}", {"reason": reason}) from None


@dataclass(frozen=True)
class Searched:
    """The values that a study searches of a loss's option, within its annotation: ``Annotated[float, Searched(…)]``.

    ``low``, ``high``: the smallest and the largest value; whole numbers for an option that takes only these.
    ``log``: whether values are spread evenly over their logarithms.
    ``choices``: the values, all equally likely, instead of ``low`` and ``high``.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(write_value, self.choices))
        return f"{self.low:g} to {self.high:g}{' (log)' * self.log}"


class LaterOption:
    """An option's annotation: the item is older than the option, whose default enters no id: old results stay valid."""


class LabelOption:
    """A text option's annotation: it names the item for people and enters no id; empty, it is its file's folder."""


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    File: "the path of an existing file",
    Weights: "the path of an existing file or run folder, or an address with a sha256",
}


@dataclass(frozen=True)
class Option:
    """One option of a plugin item.

    ``name``: the keyword-only parameter's name.
    ``expected``: its type in words, such as ``"soft" or a number``.
    ``default``: its default value, as its type says (1 becomes 1.0 for a float).
    ``doc``: its line below ``Options:`` of the factory's docstring, or an empty text.
    ``choices``: the single values among what its type allows.
    ``takes_text``: whether its type allows any text.
    ``adapter``: pydantic's validator of its type.
    ``searched``: the values that a study searches, where the item declares them.
    ``in_ids``: whether its default enters ids.
    ``is_label``: whether it names the item for people, and never enters ids.
    """

    name: str
    expected: str
    default: Any
    doc: str
    choices: tuple[Any, ...]
    takes_text: bool
    adapter: TypeAdapter[Any]
    searched: Searched | None = None
    in_ids: bool = True
    is_label: bool = False

    def read(self, value: Any) -> Any:
        """Return ``value`` as the type says; raises ValueError that says what was expected and found."""
        if isinstance(value, Item):
            value = write_value(value)  # an option that is a spec of another item takes it as text
        if value is None and "none" in self.choices and None not in self.choices:
            value = "none"  # the reserved word, where the type has a choice of that name
        reason = ""
        try:
            checked = self.adapter.validate_python(value)
            if isinstance(checked, bool) == isinstance(value, bool):  # pydantic takes true for a literal 1
                return checked
        except ValidationError as error:
            reason = "".join(f" ({part['msg']})" for part in error.errors() if part["type"] == "no_file")
        if isinstance(value, str):
            names = {choice if isinstance(choice, str) else write_value(choice): choice for choice in self.choices}
            reason = did_you_mean(value, names, lambda name: _show(names[name])) + reason
        elif self.takes_text and isinstance(value, int | float):
            reason = f"; write it in double quotes: {quoted(write_value(value))}"
        raise ValueError(f"expected {self.expected}, got {_show(value)}{reason}")


def positional_parameters(factory: Callable[..., Any]) -> list[str]:
    """Return the names of a factory's positional parameters: what the runner supplies."""
    parameters = inspect.signature(factory).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def options_of(factory: Callable[..., Any]) -> dict[str, Option]:
    """Return a factory's options in the order of its signature.

    Raises PluginError, with everything that is wrong, where it takes ``*args`` or ``**kwargs``, an option lacks a type
    or a default or has values that do not fit its type, or a type that no spec can write, or too many are searched.
    """
    docs = _option_docs(factory)
    problems: list[str] = []
    options: dict[str, Option] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind == parameter.KEYWORD_ONLY:
            try:
                options[name] = _option(factory, parameter, docs.get(name, ""))
            except Exception as error:  # reading an annotation runs code of the plugin
                problems.append(f"option {name}: {error}")
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = str(parameter).partition(":")[0]
            problems.append(f"takes {stars}, which hides its options; write each as a keyword-only parameter")
    if len(searched := [name for name, option in options.items() if option.searched]) > MOST_SEARCHED:
        problems.append(f"searched options: expected at most {MOST_SEARCHED}, got {', '.join(searched)}")
    if problems:
        raise PluginError("; ".join(problems))
    return options


def check_options(
    options: Mapping[str, Option], item: Item, owner: str, defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the value of each option and where it came from, both in the order of ``options``.

    A value is the item's own ("given"), else that of ``defaults`` ("protocol", where the option's name is in it), else
    the option's default ("default"). ``owner`` names item and plugin in errors.
    Raises OptionError with all of the item's mistakes, one a line.
    """
    given = dict(item.options)
    listed = f"; it has {', '.join(options)}" if options else "; it has none"
    unknown = [name for name in given if name not in options]
    mistakes = [f"{owner}: no option {quoted(name)}{did_you_mean(name, options) or listed}" for name in unknown]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, option in options.items():
        origins[name] = "given" if name in given else "protocol" if name in defaults else "default"
        try:
            values[name] = option.read(given.get(name, defaults.get(name, option.default)))
        except ValueError as error:
            mistakes.append(f"{owner}: option {name}: {_SOURCES[origins[name]]}{error}")
    if mistakes:
        raise OptionError("\n".join(mistakes))
    return values, origins


def _option(factory: Callable[..., Any], parameter: inspect.Parameter, doc: str) -> Option:
    if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
        raise ValueError(f"expected a type and a default; write {parameter.name}: TYPE = DEFAULT")
    annotation, *marks = _annotation(factory, parameter)
    words, choices = _describe(annotation)
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    expected = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_STRICT)
    option = Option(parameter.name, expected, parameter.default, doc, tuple(choices), "a text" in words, adapter)
    if isinstance(option.default, File):  # whether it exists is checked where the option is used, not at loading
        return option
    try:
        option = replace(option, default=option.read(option.default))
    except ValueError as error:
        raise ValueError(f"its default does not fit: {error}") from None
    searched = next((mark for mark in marks if isinstance(mark, Searched)), None)
    option = replace(option, in_ids=LaterOption not in marks, is_label=LabelOption in marks)
    return replace(option, searched=searched and _checked_search(option, searched))


def _checked_search(option: Option, searched: Searched) -> Searched:
    """Return what is searched of an option with values as its type says; raises ValueError where they do not fit."""
    values = [option.read(value) for value in searched.choices or (searched.low, searched.high)]
    low, high, default = values[0], values[-1], option.default
    checked = Searched(choices=tuple(values)) if searched.choices else Searched(low, high, searched.log)
    numbers = {type(low), type(high), type(default)} <= {int, float}
    ordered = numbers and low <= default <= high and low < high and (low > 0 or not searched.log)
    if checked != searched or not (default in values if searched.choices else ordered):
        expected = "low <= default <= high and low < high (above 0 where log=True), or choices with the default"
        raise ValueError(f"{searched!r} does not fit its default {_show(default)}; expected {expected}")
    return checked


def _show(value: object) -> str:
    """Return a value as messages show it: texts in quotes, other values as a spec writes them."""
    try:
        return quoted(value) if isinstance(value, str) else write_value(value)
    except OptionError:
        return repr(value)


def _describe(annotation: Any) -> tuple[list[str], list[Any]]:
    """Return what a type expects, as words to be joined by "or", and the single values among them.

    Raises TypeError for a type whose values no spec can write.
    """
    if annotation is bool:
        return ["true", "false"], [True, False]
    if annotation is type(None):
        return ["none"], [None]
    if annotation in _NAMES:
        return [_NAMES[annotation]], []
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [_show(choice) for choice in arguments], list(arguments)
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_describe(argument) for argument in arguments]
        return [word for words, _ in parts for word in words], [choice for _, choices in parts for choice in choices]
    if get_origin(annotation) is tuple and arguments:
        inner = ["…" if argument is ... else " or ".join(_describe(argument)[0]) for argument in arguments]
        return [f"[{', '.join(inner)}]"], []
    known = "int, float, bool, str, None, Literal, File, a tuple of these, or a union of these"
    raise TypeError(f"its type {annotation!r} cannot be written in a spec; use {known}")


def _annotation(factory: Callable[..., Any], parameter: inspect.Parameter) -> list[Any]:
    """Return a parameter's type, then what ``Annotated`` adds; one written as text is read in the module that wrote it.

    Only options are read: the types of positional parameters may be imported for type checkers alone.
    """
    function: Any = unwrap(factory)
    function = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    if not hasattr(function, "__globals__"):
        function = type(function).__call__

    names = getattr(inspect.unwrap(function), "__globals__", {})
    carrier = type("carrier", (), {"__annotations__": {parameter.name: parameter.annotation}})
    full = get_type_hints(carrier, globalns=names, include_extras=True)[parameter.name]
    return [get_type_hints(carrier, globalns=names)[parameter.name], *getattr(full, "__metadata__", ())]


def _option_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """Return the lines below ``Options:`` of a factory's docstring by option; deeper lines continue the one before."""
    section = re.search(r"^Options:\n((?: .*\n?)*)", docstring_of(factory), re.MULTILINE)
    lines = re.findall(r"^( +)(\w+): +(.*(?:\n\1 +.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: printable(text) for _, name, text in lines}
