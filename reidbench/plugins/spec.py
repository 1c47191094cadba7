"""The grammar of specs: ``batch_hard(margin=0.2)`` as text and as a value; nothing is ever evaluated.

    spec   = term {"+" term}                                  sums are for losses
    term   = [NUMBER "*"] item
    item   = NAME ["(" [option {"," option} [","]] ")"]
    option = IDENT "=" value                                  given twice is an error
    value  = NUMBER | true | false | none | STRING | "[" [value {"," value} [","]] "]" | item with "()" | WORD
    NAME   = [A-Za-z][A-Za-z0-9_]*, and the same once more behind a "/"
    WORD   = [A-Za-z0-9_./:@][A-Za-z0-9_./:@~%-]*, not a NUMBER
    STRING = double quoted, with the escapes of JSON

``none`` alone is the empty spec. Every text written here is printable, so logs and tables may contain it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple, NoReturn, TypeAlias

from reidbench.errors import OptionError, quoted

MAX_TEXT = 2000
MAX_DEPTH = 4
RESERVED = {"true": True, "false": False, "none": None}
EMBEDDING = "embedding"  # of the training features of a network, the one that is tested

Value: TypeAlias = "int | float | bool | str | tuple[Value, ...] | Item | None"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)?")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_./:@][A-Za-z0-9_./:@~%-]*")
# A number is followed by no character of a word, so 1.5.2 and 64x32 are words; "+" is a sign only in an exponent.
_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_./:@~%-])")
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+) | (?P<number>{_NUMBER.pattern}) | (?P<word>{_WORD.pattern})
    | (?P<string>"(?:[^"\\]|\\.)*") | (?P<mark>[()\[\]=,+*])""",
    re.VERBOSE,
)


def is_name(text: str) -> bool:
    """Return whether ``text`` can name an item: it matches NAME and is no reserved word."""
    return bool(_NAME.fullmatch(text)) and text not in RESERVED


def write_value(value: object) -> str:
    """Return the text of an option's value; a path is written as its text, a downloaded file as its address.

    Raises OptionError for numbers that are not finite and for types that no option has.
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, str | PurePath):
        text = getattr(value, "address", "") or str(value)
        bare = _WORD.fullmatch(text) and not _NUMBER.fullmatch(text) and text not in RESERVED
        return text if bare else quoted(text)
    if isinstance(value, tuple):
        return f"[{', '.join(write_value(part) for part in value)}]"
    if isinstance(value, Item):
        return str(value) if value.options else f"{value.name}()"
    raise OptionError(f"{value!r} cannot be written as an option's value")


@dataclass(frozen=True)
class Item:
    """A name with options; ``str`` writes it.

    ``name``: the item's name.
    ``options``: (name, value) of each option, in the order in which they are written.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={write_value(value)}" for name, value in self.options)
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True)
class Term:
    """An item of a sum; ``str`` writes it.

    ``weight``: a finite number.
    ``item``: the item.
    """

    weight: float
    item: Item

    def __str__(self) -> str:
        if self.weight == 1:
            return str(self.item)
        short = self.weight.is_integer() and abs(self.weight) < 1e15
        return f"{int(self.weight) if short else self.weight!r}*{self.item}"


@dataclass(frozen=True)
class Spec:
    """A sum of weighted items, mostly a single one, or ``none``; ``parse(str(spec))`` is ``spec``.

    ``terms``: the weighted items; empty for ``none``.
    """

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str, where: str = "") -> Spec:
        """Return the spec in ``text``; ``where`` names its source in errors.

        Raises OptionError, with the position in the text, where it does not follow the grammar.
        """
        return _Parser(text, where).spec()

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)) or "none"

    @property
    def item(self) -> Item:
        """The single item. Raises OptionError where this is none, or a sum, or carries a weight."""
        if len(self.terms) != 1 or self.terms[0].weight != 1:
            raise OptionError(f'expected a single item, got "{self}"')
        return self.terms[0].item


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _Parser:
    """Reads one text from left to right; one method per rule of the grammar."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.place = text, where, 0
        if len(text) > MAX_TEXT:
            self.fail(f"it has {len(text)} characters, at most {MAX_TEXT} are read", 0)
        self.tokens = [*self.lex(), _Token("end", "", len(text))]

    def fail(self, problem: str, start: int) -> NoReturn:
        text = self.text if len(self.text) <= 120 else f"{self.text[:100]}…"
        position = f", at character {start + 1}" if self.text else ""
        raise OptionError(f"{self.where}{': ' if self.where else ''}cannot read {text!r}: {problem}{position}")

    def fail_at(self, token: _Token, expected: str) -> NoReturn:
        got = "the end" if token.kind == "end" else token.text if token.kind == "string" else f'"{token.text}"'
        self.fail(f"expected {expected}, got {got}", token.start)

    def lex(self) -> Iterator[_Token]:
        start = 0
        while start < len(self.text):
            match = _TOKEN.match(self.text, start)
            if match is None:
                hint = ", a quote that is never closed" if self.text[start] == '"' else "; quote text that holds it"
                self.fail(f"{self.text[start]!r} has no meaning here{hint}", start)
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match.group(), start)
            start = match.end()

    def sees(self, mark: str) -> bool:
        return self.tokens[self.place].text == mark

    def next(self) -> _Token:
        token = self.tokens[self.place]
        self.place += token.kind != "end"
        return token

    def take(self, mark: str) -> bool:
        taken = self.sees(mark)
        self.place += taken
        return taken

    def require(self, mark: str, where: str) -> None:
        if not self.take(mark):
            self.fail_at(self.next(), f'"{mark}" {where}')

    def until(self, end: str) -> Iterator[_Token]:
        """Yield the token before each element of a list in brackets, and take the commas and the ``end``."""
        while not self.take(end):
            yield self.tokens[self.place]
            if not self.take(",") and not self.sees(end):
                self.fail_at(self.next(), f'"," or "{end}"')

    def spec(self) -> Spec:
        if [token.text for token in self.tokens] == ["none", ""]:
            return Spec(())
        terms = [self.term()]
        while self.take("+"):
            terms.append(self.term())
        token = self.next()
        if token.kind != "end":
            self.fail_at(token, '"+" or the end' if self.tokens[self.place - 2].text == ")" else '"(", "+" or the end')
        return Spec(tuple(terms))

    def term(self) -> Term:
        weight: float = 1
        if self.tokens[self.place].kind == "number":
            weight = self.number(self.next())
            self.require("*", "behind a weight")
        return Term(float(weight), self.item(depth=1))

    def item(self, depth: int) -> Item:
        name = self.next()
        if name.kind != "word" or not is_name(name.text):
            self.fail_at(name, "a name (letters, digits and _, at most one /)")
        options: dict[str, Value] = {}
        if self.take("("):
            self.check_depth(depth, name)
            for option in self.until(")"):
                self.next()
                if option.kind != "word" or not _IDENT.fullmatch(option.text):
                    self.fail_at(option, 'an option or ")"')
                if option.text in options:
                    self.fail(f'option "{option.text}" of {name.text} is given twice', option.start)
                self.require("=", f"behind option {option.text}")
                options[option.text] = self.value(depth + 1)
        return Item(name.text, tuple(options.items()))

    def value(self, depth: int) -> Value:
        token = self.next()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "string":
            return self.string(token)
        if token.text == "[":
            self.check_depth(depth, token)
            return tuple(self.value(depth + 1) for _ in self.until("]"))
        if token.kind != "word":
            self.fail_at(token, "a value")
        if self.sees("("):
            self.place -= 1
            return self.item(depth)
        return RESERVED.get(token.text, token.text)

    def check_depth(self, depth: int, token: _Token) -> None:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep", token.start)

    def number(self, token: _Token) -> int | float:
        if re.fullmatch("-?[0-9]+", token.text):
            return int(token.text)
        number = float(token.text)
        if not math.isfinite(number):
            self.fail(f"{token.text} is too large a number", token.start)
        return number

    def string(self, token: _Token) -> str:
        if not token.text.isprintable():
            self.fail(r"a quoted text holds a character that cannot be printed; write it as \n or \u0000", token.start)
        try:
            text = str(json.loads(token.text))
            text.encode()
        except ValueError:
            self.fail(f"{token.text} contains an invalid escape; write a backslash twice", token.start)
        return text
