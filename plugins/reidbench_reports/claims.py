"""The falsifiable sentences of the paper with the verdicts of scaled runs, from ``leaderboards/paper/claims.toml``."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reidbench import Column, DataError, Part, RunFiles, RunRecord, Table, hookimpl, leaderboards_folder, read_text

NOT_RUN = "not run"
Verdict = Literal["holds", "does not hold here", "not told apart", "not run"]


def _commands(key: str) -> Callable[[Mapping[str, Any]], str]:
    """Return the format of a cell of commands, one a line: as one line that a shell runs."""
    return lambda row: " && ".join(row[key].split("\n"))


COLUMNS = [
    Column("claim"),
    Column("section", description="where the paper says it"),
    Column("verdict", description="what the scaled run made here says, nothing more"),
    Column("measured", description="what the scaled run gave, with its interval"),
    Column("published", description="the paper's own numbers", minor=1),
    Column("note", minor=2),
    Column("command", "at the paper's scale", format=_commands("command"), minor=3),
    Column("scaled", "the scaled run", format=_commands("scaled"), minor=4),
]
_Text = Annotated[str, Field(pattern=r"\S")]


class Claim(BaseModel):
    """One falsifiable sentence of the paper.

    ``name``: a unique identifier in snake_case.
    ``section``: where the paper says it.
    ``claim``: the sentence in our own words.
    ``published``: the paper's own numbers for it, "" where it gives none.
    ``command``: the commands that test it at the paper's scale, "" where none exists here.
    ``scaled``: the command of the scaled run made here, "" where the verdict is "not run".
    ``verdict``: what the scaled run says.
    ``measured``: what it gave, with its interval, "" where the verdict is "not run".
    ``note``: contradictions inside the paper, and what the scaled run cannot say.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    section: _Text
    claim: _Text
    published: str
    command: str
    scaled: str
    verdict: Verdict
    measured: str
    note: str = ""

    @model_validator(mode="after")
    def _check_run(self) -> Claim:
        """Raise ValueError where the verdict is of no run, or a run has none."""
        for key in ("scaled", "measured"):
            if bool(getattr(self, key)) == (self.verdict == NOT_RUN):
                expected = "must be empty" if self.verdict == NOT_RUN else "is empty"
                raise ValueError(f"{key}: {expected} where the verdict is {self.verdict!r}")
        return self


class _File(BaseModel):
    """The content of ``claims.toml``: the tables ``[[claim]]``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    claim: Annotated[list[Claim], Field(min_length=1)]


def read_claims(file: Path | None = None) -> list[Claim]:
    """Return the claims of a file, by default ``leaderboards/paper/claims.toml``, in its order.

    Raises DataError with the file, the claim and the key of every mistake.
    """
    file = file or leaderboards_folder() / "paper" / "claims.toml"
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(read_text(file))
        claims = _File.model_validate(content).claim
    except ValidationError as error:
        problems = [_describe(each, content) for each in error.errors()]
        raise DataError("\n".join(f"{file}: {problem}" for problem in problems)) from None
    except ValueError as error:
        raise DataError(f"{file}: is not TOML: {error}") from None
    names = Counter(claim.name for claim in claims)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise DataError(f"{file}: claim {repeated[0]}: name: is that of {names[repeated[0]]} claims")
    return claims


def _describe(problem: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Return a mistake behind its place, in which a claim has its name, or its number from 1 where it has none."""
    place = [str(part) for part in problem["loc"]]
    if len(place) > 1:
        number = problem["loc"][1]
        table = content["claim"][number]
        name = table.get("name") if isinstance(table, dict) else None
        place[:2] = [f"claim {name or number + 1}"]
    return ": ".join([*place, problem["msg"].removeprefix("Value error, ")])


class Claims:
    """The falsifiable sentences of the paper, each with the verdict of a scaled run made here.

    It shows the same whatever runs are given.
    """

    needs_runs = False

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table of the claims below the count of each verdict."""
        claims = read_claims()
        counts = Counter(claim.verdict for claim in claims)
        counted = ", ".join(f"{verdict} {counts[verdict]}" for verdict in get_args(Verdict))
        table = Table([claim.model_dump() for claim in claims], COLUMNS, f"{len(claims)} claims: {counted}")
        note = "A verdict is of the scaled run made here, nothing more (docs/reproducing.md)."
        return Part("Claims of the paper", tables=[table], notes=[note])


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Claims]]:
    return {"claims": Claims}
