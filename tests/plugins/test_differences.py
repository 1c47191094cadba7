"""The differences below the score table: those of ``reidbench compare``, or a note on why there are none."""

from pathlib import Path

import pytest

from reidbench import DataError, Part, RunRecord, identities_of
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.compare_runs import compare_combinations
from reidbench.utils.machine import local_machine
from tests.support.boards import put, ranking_for, valid_record
from tests.support.parts import build_part, headings, printed
from tests.support.rankings import renumber
from tests.support.records import make_item

Run = tuple[Path, RunRecord]


def table_of(runs: list[Run]) -> Part:
    return build_part("table", [record for _, record in runs], RunFiles(runs, local_machine(data=Path("nowhere"))))


@pytest.mark.parametrize(
    ("seeds", "covers"), [(1, "covers the choice of queries, not training noise"), (3, "the variance between seeds")]
)
def test_differences_are_those_of_compare_without_data(tmp_path, seeds, covers):
    one, base = (
        [put(tmp_path / f"{loss}{seed}", valid_record(loss, seed)) for seed in range(seeds)]
        for loss in ("one", "batch_hard")
    )
    part = table_of([*one, *base])
    (row,) = part.tables[1].cells()
    gap = compare_combinations(one, base).differences[0]
    low, high = gap.interval
    assert row == ["one", f"{100 * gap.difference:+.2f}", f"{100 * low:.2f} to {100 * high:.2f}"]
    assert covers in part.notes[-1]


@pytest.mark.parametrize("which", ["least", "greatest"])
def test_rankings_of_other_positives_are_refused_and_named(tmp_path, which):
    """Without the greatest of its identity the identities are the same, so the bootstrap would run."""
    ranking = ranking_for(valid_record("one").job)
    positives = ranking.units[: ranking.starts[1]]
    other = renumber(ranking, positives.min() if which == "least" else positives.max(), 1000)
    assert which == "least" or (identities_of(other) == identities_of(ranking)).all()
    one = valid_record("one", scores={"gallery": 1001})
    runs = [put(tmp_path / "a", one, other)], [put(tmp_path / "b", valid_record("batch_hard"))]
    with pytest.raises(DataError, match="has other queries or positives than"):
        compare_combinations(*runs)
    part = table_of([run for side in runs for run in side])
    assert len(part.tables) == 1
    assert "No differences to batch_hard: the rankings are not of the same queries" in part.notes[-1]


def test_without_rankings_there_is_a_reason(tmp_path):
    part = table_of([(tmp_path / "a", valid_record("one")), (tmp_path / "b", valid_record("batch_hard"))])
    assert len(part.tables) == 1
    assert "No differences to batch_hard: " in part.notes[-1]


def test_few_seeds_of_one_row_change_no_other(tmp_path):
    losses = {"batch_hard": 3, "many": 3, "few": 1}
    runs = [
        put(tmp_path / f"{loss}{seed}", valid_record(loss, seed))
        for loss, seeds in losses.items()
        for seed in range(seeds)
    ]
    part = table_of(runs)
    differences = part.tables[1]
    assert (printed(differences, "loss"), printed(differences, "over")) == (["many", "few"], ["seeds", "checkpoints"])
    assert "where both sides have three seeds" in part.notes[-1]


def test_a_row_of_another_track_changes_nothing(tmp_path):
    """A row of another track is not compared, so its seeds do not matter."""
    runs = [
        put(tmp_path / f"{loss}{seed}", valid_record(loss, seed))
        for loss in ("batch_hard", "many")
        for seed in range(3)
    ]
    alone = valid_record("many", items={"backbone": make_item("other")})
    part = table_of([*runs, put(tmp_path / "alone", alone)])
    assert "over" not in headings(part.tables[1])
    assert part.notes[-1].endswith("and the variance between seeds.")
