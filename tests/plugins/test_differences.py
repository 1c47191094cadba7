"""The differences below the table of scores: those of ``reidbench compare``, and a reason where there are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reidbench import Part, RunRecord
from reidbench.report import build_sections
from reidbench.run_comparison import compare
from reidbench.run_files import RunFiles
from reidbench.settings import Settings
from tests.boards import put, ranking_for, sound

Run = tuple[Path, RunRecord]


def table_of(runs: list[Run]) -> Part:
    (part,) = build_sections(["table"], [record for _, record in runs], RunFiles(runs, Settings(data=Path("nowhere"))))
    return part


@pytest.mark.parametrize(("seeds", "whose"), [(1, "of these checkpoints, not of the losses"), (3, "and over seeds")])
def test_they_are_the_numbers_of_compare_and_need_no_data(tmp_path: Path, seeds: int, whose: str) -> None:
    one, base = (
        [put(tmp_path / f"{loss}{seed}", sound(loss, seed)) for seed in range(seeds)] for loss in ("one", "batch_hard")
    )
    part = table_of([*one, *base])
    (row,) = part.tables[1].to_dict("records")
    gap = compare(one, base).differences[0]
    assert gap.interval is not None
    low, high = gap.interval
    assert row == {
        "loss": "one", "difference": f"{100 * gap.difference:+.2f}",
        "95 % interval": f"{100 * low:.2f} to {100 * high:.2f}",
    }  # fmt: skip
    assert part.notes[-1] == f"95 % interval: a paired bootstrap over query identities, {whose}."


def test_rankings_of_other_queries_are_not_compared_but_named(tmp_path: Path) -> None:
    ranking = ranking_for(sound("one").job)
    other = dataclasses.replace(ranking, units=ranking.units[::-1].copy())
    part = table_of([put(tmp_path / "a", sound("one"), other), put(tmp_path / "b", sound("batch_hard"))])
    assert len(part.tables) == 1
    assert "Differences to batch_hard are left out: the rankings have other queries" in part.notes[-1]


def test_without_rankings_the_reason_stands_below_the_table(tmp_path: Path) -> None:
    part = table_of([(tmp_path / "a", sound("one")), (tmp_path / "b", sound("batch_hard"))])
    assert len(part.tables) == 1
    assert "Differences to batch_hard are left out: " in part.notes[-1]
