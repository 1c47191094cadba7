"""Comparisons: calibrated on simulated rankings, with and without seeds, refused where queries differ."""

import dataclasses

import numpy as np
import pytest

from reidbench.errors import DataError
from reidbench.reports.compare_runs import compare_combinations, difference, identities_of
from tests.support.boards import QUERY, put, ranking_for, valid_record
from tests.support.rankings import ranking_of, renumber
from tests.support.records import digest, make_item

QUERIES, POSITIVES, RANKED = 3, 4, 400


def simulated_ranking(generator, ease):
    """Return a ranking whose positives rank the higher, the easier the identity of their query."""
    pids = np.repeat(np.arange(len(ease)), QUERIES)
    shape = (len(pids), POSITIVES)
    near = 1 / (1 + np.exp(-(ease[pids, None] + 0.8 * generator.normal(size=shape))))
    ranks = np.sort(np.floor((1 - near) ** 3 * RANKED).astype(np.int64), axis=1)
    ranks = np.minimum(ranks + np.arange(POSITIVES), RANKED - POSITIVES + np.arange(POSITIVES))
    units = (pids[:, None] * POSITIVES + np.arange(POSITIVES)).ravel()
    return dataclasses.replace(ranking_of(ranks.tolist(), RANKED), units=units)


def rate_and_gap(better_by, seeds=1, pairs=200, spread=0.0, simulation=1, identities=250):
    """Return the rate of significant differences and the mean gap in mAP, A being easier by ``better_by``."""
    significant, gaps = 0, []
    for number in range(pairs):
        generator = np.random.default_rng([simulation, number])
        ease = 2.5 + 1.0 * generator.normal(size=identities)  # shared by both sides
        a, b = (
            [simulated_ranking(generator, ease + more + spread * generator.normal()) for _ in range(seeds)]
            for more in (better_by, 0.0)
        )
        result = difference(a, b, np.repeat(np.arange(identities), QUERIES), "map_market")
        significant += result.significant
        gaps.append(result.difference)
    return significant / pairs, float(np.mean(gaps))


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    """Use a fifth of the draws: the rates below change by less than one pair in a hundred."""
    from reidbench.ranking import bootstrap as statistics
    from reidbench.reports import compare_runs as run_comparison

    def quick(a, b, pids):
        return statistics.paired_difference(a, b, pids, draws=1_000)

    monkeypatch.setattr(run_comparison, "paired_difference", quick)


@pytest.mark.parametrize(("identities", "pairs"), [(12, 1_000), (250, 200)])
def test_equal_rankings_are_rarely_significant(identities, pairs):
    rate, gap = rate_and_gap(0.0, pairs=pairs, identities=identities)
    assert rate <= 0.08
    assert abs(gap) < 0.003


@pytest.mark.slow
def test_one_equal_pair_in_twenty_is_significant():
    """95 % intervals miss one time in twenty; the 200 pairs above are a small sample."""
    rate, _ = rate_and_gap(0.0, pairs=4_000, simulation=7)
    assert 0.04 <= rate <= 0.06  # four standard errors are 1.4 %


def test_a_gap_of_three_points_is_mostly_significant():
    rate, gap = rate_and_gap(0.14)
    assert 0.025 < gap < 0.032
    assert rate >= 0.80


def test_seed_variance_is_covered_by_three_seeds():
    alone, _ = rate_and_gap(0.0, seeds=1, pairs=60, spread=0.2)
    together, _ = rate_and_gap(0.0, seeds=3, pairs=60, spread=0.2)
    assert together <= 0.08
    assert alone > 0.3  # single checkpoints ignore the variance between seeds


def test_queries_of_one_identity_share_a_number():
    identities = identities_of(ranking_for(valid_record().job))
    same = identities[:, None] == identities[None, :]
    assert (same == (QUERY[0][:, None] == QUERY[0][None, :])).all()


def test_a_query_without_a_positive_has_its_own_number():
    assert len(set(identities_of(ranking_of([[], [], []])).tolist())) == 3


def test_a_comparison_lists_what_else_differs(tmp_path):
    a = put(tmp_path / "a", valid_record("one"))
    b = put(tmp_path / "b", valid_record("two(x=1)", seed=1, commit="b" * 40))
    comparison = compare_combinations([a], [b])
    assert not comparison.differences[0].over_seeds
    assert (comparison.identities, comparison.queries) == (6, 12)
    first = comparison.differences[0]
    assert first.score == "map_market"
    assert first.difference == pytest.approx(a[1].scores["map_market"] - b[1].scores["map_market"])
    assert first.interval[0] < first.difference < first.interval[1]
    assert [other.partition(":")[0] for other in comparison.others] == ["loss", "seed", "commit"]
    assert "loss: one | two(x=1)" in comparison.others
    itself = compare_combinations([a], [a])
    assert itself.others == ()
    assert itself.differences[0].interval == (0.0, 0.0)
    assert not itself.differences[0].significant


def test_three_seeds_on_both_sides_are_over_seeds(tmp_path):
    sides = [[put(tmp_path / f"{loss}{n}", valid_record(loss, n)) for n in range(3)] for loss in ("one", "two")]
    assert compare_combinations(*sides).differences[0].over_seeds
    assert not compare_combinations(sides[0], sides[1][:2]).differences[0].over_seeds


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    a = put(tmp_path / "a", valid_record("one"))
    failed = put(tmp_path / "failed", valid_record("two", status="failed", error="no memory"))
    with pytest.raises(DataError, match=r"failed: the run is failed .*no memory"):
        compare_combinations([a], [failed])
    data = valid_record("two", dataset={"digest": digest("x"), "train_digest": digest("y"), "counts": {}})
    with pytest.raises(DataError, match="were scored on different data"):
        compare_combinations([a], [put(tmp_path / "data", data)])
    with pytest.raises(DataError, match="B holds 2 combinations"):
        compare_combinations([a], [a, put(tmp_path / "c", valid_record("three"))])
    with pytest.raises(DataError, match="A holds a seed more than once: 0, 0"):
        compare_combinations([a, a], [a])
    ranking = ranking_for(a[1].job)
    other = renumber(ranking, ranking.units[0], 1000)
    with pytest.raises(DataError, match="has other queries or positives than"):
        compare_combinations([a], [put(tmp_path / "d", valid_record("four"), other)])


def test_the_command_prints_hostile_names_as_text(tmp_path, reidbench_call):
    hostile = '\x1b[31m[bold]<script>"=cmd"\u202e[/foo]'
    items = {"backbone": make_item(hostile, "tiny", hostile)}
    put(tmp_path / "a", valid_record("one", items=items))
    put(tmp_path / "b", valid_record("two"))
    said = str(getattr(reidbench_call("compare", str(tmp_path / "a"), str(tmp_path / "b")), "stdout", ""))
    assert "[bold]<script>" in said
    assert not {"\x1b", "\u202e"} & set(said)
    assert "not training noise" in said
    assert "ignificant" in said
