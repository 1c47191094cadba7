"""The differences below the table of scores: those of ``reidbench compare``, and a reason where there are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reidbench import DataError, Part, RunRecord, identities_of
from reidbench.reports.compare_runs import compare
from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.boards import put, ranking_for, sound
from tests.support.records import make_item

Run = tuple[Path, RunRecord]


def table_of(runs: list[Run]) -> Part:
    (part,) = build_sections(
        ["table"], [record for _, record in runs], RunFiles(runs, local_machine(data=Path("nowhere")))
    )
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


def test_one_combination_of_few_seeds_does_not_speak_for_the_others(tmp_path: Path) -> None:
    losses = {"batch_hard": 3, "many": 3, "few": 1}
    runs = [
        put(tmp_path / f"{loss}{seed}", sound(loss, seed)) for loss, seeds in losses.items() for seed in range(seeds)
    ]
    part = table_of(runs)
    assert dict(zip(part.tables[1]["loss"], part.tables[1]["over"], strict=True)) == {
        "many": "seeds",
        "few": "checkpoints",
    }
    assert "and over seeds where both sides have three; else of these checkpoints" in part.notes[-1]


def test_an_uncompared_combination_of_few_seeds_changes_nothing(tmp_path: Path) -> None:
    """What stands in another track has nothing to be compared with, so its seeds do not matter."""
    runs = [put(tmp_path / f"{loss}{seed}", sound(loss, seed)) for loss in ("batch_hard", "many") for seed in range(3)]
    alone = sound("many", items={"backbone": make_item("other")})
    part = table_of([*runs, put(tmp_path / "alone", alone)])
    assert "over" not in part.tables[1]
    assert part.notes[-1].endswith("query identities, and over seeds.")


def test_rankings_whose_queries_share_their_first_match_alone_are_not_compared(tmp_path: Path) -> None:
    """The same people, so the bootstrap would run, but other matches: ``compare`` refuses these too."""
    ranking = ranking_for(sound("one").job)
    units = ranking.units.copy()
    place = int(units[: ranking.starts[1]].argmax())  # not the first of its query
    units[place] += 1000
    other = dataclasses.replace(ranking, units=units)
    assert (identities_of(other) == identities_of(ranking)).all()
    runs = [put(tmp_path / "a", sound("one"), other)], [put(tmp_path / "b", sound("batch_hard"))]
    with pytest.raises(DataError, match="has other queries or matches than"):
        compare(*runs)
    part = table_of([run for side in runs for run in side])
    assert "the rankings have other queries or matches" in part.notes[-1]
