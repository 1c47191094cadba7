"""Published numbers and how our runs of them differ, from the CSV files in ``leaderboards/paper``."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reidbench import DataError, Job, leaderboards_folder, load_suite, resolved_items
from reidbench_reports.combinations import KINDS

TABLES = (1, 2, 3, 4, 5)  # of the paper
Published = Literal["baselines"] | int


@dataclass(frozen=True)
class PublishedNumber:
    """One published number.

    ``row``, ``column``: its place in the table.
    ``score``: the key of its score.
    ``value``: the number, in percent.
    ``printed``: the number with the digits and the star of the paper.
    ``mark``: "bold" and "*", where the paper has them.
    ``note``: what is to be known of the published number.
    ``job``: what reproduces it here, with seed 0; None for work of others that does not run here.
    """

    row: str
    column: str
    score: str
    value: float
    printed: str
    mark: str
    note: str
    job: Job | None


def name_of(table: Published) -> str:
    """Return the name of a table's files."""
    return f"table{table}" if isinstance(table, int) else table


def stand_ins(table: Published) -> dict[Job, tuple[Job, str]]:
    """Return the jobs of a table's suite at its smaller scales: the paper's job (seed 0) of each, and the scale."""
    suite = load_suite(leaderboards_folder() / "paper" / f"{name_of(table)}.toml")
    return {
        replace(small, seed=0): (replace(job, seed=0), scale.name)
        for scale in suite.scales.values()
        for job, small in scale.jobs.items()
    }


def resolved(job: Job) -> tuple[str, ...]:
    """Return a job as it resolves here: its items with every option, and the version of its protocol."""
    items, version = resolved_items(job)
    return (*(items[kind] for kind in KINDS), str(version))


def published_numbers(table: Published) -> list[PublishedNumber]:
    """Return the numbers of a table, in its order; raises DataError where its file is damaged."""
    file = _file(name_of(table))
    try:
        return [
            PublishedNumber(
                row=row["row"],
                column=row["column"],
                score=row["score"],
                value=float(row["value"]),
                printed=row["value"] + "*" * ("*" in row["mark"]),
                mark=row["mark"],
                note=row["note"],
                job=Job(*(row[kind] for kind in KINDS), seed=0) if row["loss"] else None,
            )
            for row in _rows(file)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as published numbers: {error}") from None


def known_deviations(job: Job) -> list[str]:
    """Return what ``leaderboards/paper/deviations.csv`` lists for the items of a job; raises DataError."""
    rows = _rows(_file("deviations"))
    return [row["deviation"] for row in rows if getattr(job, row["kind"]).partition("(")[0] == row["item"]]


def _file(name: str) -> Path:
    return leaderboards_folder() / "paper" / f"{name}.csv"


def _rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; raises DataError where it cannot be read."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return list(csv.DictReader(opened, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
