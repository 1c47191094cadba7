"""The paper's numbers, from ``leaderboards/paper/tableN.csv``: one row for each number, with its job."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from reidbench import DataError, Job, leaderboards_folder

TABLES = (1, 2, 3, 4, 5)
_JOB = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")


@dataclass(frozen=True)
class PublishedNumber:
    """One published number.

    ``row``, ``column``: its place in the table.
    ``score``: the key of its score.
    ``value``: the number, in percent.
    ``printed``: the number with the digits and the star of the paper.
    ``mark``: "bold" and "*", where the paper has them.
    ``job``: what reproduces it here, with seed 0; None for work of others.
    """

    row: str
    column: str
    score: str
    value: float
    printed: str
    mark: str
    job: Job | None


def published_numbers(table: int) -> list[PublishedNumber]:
    """Return the numbers of one of the paper's tables, in its order; raises DataError where its file is damaged."""
    file = leaderboards_folder() / "paper" / f"table{table}.csv"
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened, strict=True))
        return [
            PublishedNumber(
                row=row["row"],
                column=row["column"],
                score=row["score"],
                value=float(row["value"]),
                printed=row["value"] + "*" * ("*" in row["mark"]),
                mark=row["mark"],
                job=Job(*(row[kind] for kind in _JOB), seed=0) if row["loss"] else None,
            )
            for row in rows
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as published numbers: {error}") from None
