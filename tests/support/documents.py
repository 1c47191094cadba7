"""README and docs as data: code blocks, the commands in them and in the text, and what is said to be printed.

How a page marks its commands stands in CONTRIBUTING.md, "Commands and numbers in the docs".
"""

import re
import shlex
from dataclasses import dataclass, replace

from tests.support.paths import CHECKOUT

PAGES = (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md")))
COMMANDS = ("", "sh", "bash", "console")
ANYTHING = "…"
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_PRINTED = re.compile(r"<!-- \$ (.+) -->\n+\Z")
_SHORT = re.compile(r"(?:leaderboard|plugins|data) [a-z]")  # in the text these verbs go without the program's name
_ENDS = {"&&", "||", "|", ";", ">", ">>", "<"}


@dataclass(frozen=True)
class Command:
    """One command with its words after the program's name; ``text`` as it stands there, ``where`` as PAGE:LINE."""

    where: str
    text: str
    program: str
    words: tuple[str, ...]
    inline: bool = False


@dataclass(frozen=True)
class Shown:
    """A command and the lines that a page shows as its output; ``how`` is "", "slow" or "elsewhere"."""

    where: str
    command: str
    lines: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class _Block:
    line: int
    language: str
    how: str
    text: str
    before: str


def commands(page):
    """Return all commands of a page that are ours to check: of reidbench, pytest, and python with a file or module."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(CHECKOUT))
    found = []
    for block in _blocks(text):
        if block.language in COMMANDS:
            for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
                said = line.strip()
                if block.language == "console":
                    said = said.removeprefix("$ ") if said.startswith("$ ") else ""
                found += commands_in(f"{name}:{number}", said)
    for number, comment in _lines(re.compile(r"<!-- \$ (.+) -->"), text):
        found += commands_in(f"{name}:{number}", comment)
    for number, span in spans(text):
        said = f"reidbench {span}" if _SHORT.match(span) else span
        found += [replace(each, inline=True) for each in commands_in(f"{name}:{number}", said, whole=True)]
    return found


def spans(text: str) -> list[tuple[int, str]]:
    """Return what stands in backticks outside of code blocks, on one line each, with the number of its line."""
    prose = _FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)
    return [(number, " ".join(span.split())) for number, span in _lines(_SPAN, prose)]


def shown(page):
    """Return the commands of a page whose output it shows, in order."""
    found = []
    name = str(page.relative_to(CHECKOUT))
    for block in _blocks(page.read_text(encoding="utf-8")):
        lines = block.text.splitlines()
        printed = _PRINTED.search(block.before)
        if block.language == "text" and printed:
            found.append(Shown(f"{name}:{block.line}", printed[1], tuple(lines), block.how))
        if block.language != "console":
            continue
        starts = [place for place, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            where = f"{name}:{block.line + start + 1}"
            found.append(Shown(where, lines[start][2:], tuple(lines[start + 1 : end]), block.how))
    return found


def same(shown_lines: tuple[str, ...], printed: str) -> bool:
    """Return whether the output is what is shown; "…" is anything within a line, and alone any number of lines."""
    wanted = ""
    for line in shown_lines:
        if line.strip() == ANYTHING:
            wanted += r"(?:.*\n)*?"
        else:
            wanted += ".*?".join(re.escape(part) for part in line.rstrip().split(ANYTHING)) + r"\n"
    lines = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch(wanted, lines) is not None


def _blocks(text):
    for match in _FENCE.finditer(text):
        language, _, how = match[2].strip().partition(" ")
        indent = len(match[1])
        inner = "".join(line[indent:] if line.strip() else line for line in match[3].splitlines(keepends=True))
        inner = inner.replace("\\\n", "")  # commands that go on in the next line
        yield _Block(text.count("\n", 0, match.start()) + 1, language, how, inner, text[: match.start()])


def _lines(pattern, text):
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]


def commands_in(where, text, *, whole=False):
    """Yield the commands in a line of a shell; ``whole``: only one that the line begins with."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError as error:
        if "reidbench " not in text:
            return  # not everything between backticks is a command
        raise ValueError(f"{where}: {text}: {error}") from None
    simple: list[list[str]] = [[]]
    for word in words:
        if word in _ENDS:
            simple.append([])
        else:
            simple[-1].append(word)
    for parts in simple[:1] if whole else simple:
        for place, word in enumerate(parts[:1] if whole else parts):
            program = word.rpartition("/")[2]
            if program in ("reidbench", "pytest", "python", "python3"):
                rest = parts[place + 1 :]
                if program.startswith("python") and rest[:1] == ["-m"] and rest[1:2] in (["reidbench"], ["pytest"]):
                    program, rest = rest[1], rest[2:]
                yield Command(where, text, program, tuple(rest))
                break
