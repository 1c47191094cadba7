"""The paper's numbers, from ``leaderboards/paper/tableN.csv``: one row a number, with the job that would make it."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from reidbench import DataError, Job, leaderboards_folder

TABLES = (1, 2, 3, 4, 5)
_JOB = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")


@dataclass(frozen=True)
class Cell:
    """One published number.

    ``value`` is in percent, ``printed`` with the digits and the star that it has there; ``mark`` holds "bold" and "*";
    ``job`` (seed 0) is what makes the same number here, None for work of others.
    """

    row: str
    column: str
    score: str
    value: float
    mark: str
    note: str
    source: str
    job: Job | None
    printed: str


def cells(table: int) -> list[Cell]:
    """Return the numbers of one of the paper's tables, in its order; raises DataError where its file is damaged."""
    file = leaderboards_folder() / "paper" / f"table{table}.csv"
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened, strict=True))
        return [
            Cell(
                row=row["row"],
                column=row["column"],
                score=row["score"],
                value=float(row["value"]),
                mark=row["mark"],
                note=row["note"],
                source=row["source"],
                job=Job(*(row[kind] for kind in _JOB), seed=0) if row["loss"] else None,
                printed=row["value"] + "*" * ("*" in row["mark"]),
            )
            for row in rows
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as published numbers: {error}") from None
