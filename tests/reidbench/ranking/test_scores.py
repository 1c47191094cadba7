"""Scores against golden vectors, the official scripts' numbers, and loops written out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench.errors import DataError
from reidbench.leaderboard.board import check
from reidbench.leaderboard.site import build_site
from reidbench.plugins.catalogue import build
from reidbench.ranking.scores import (
    SCORES,
    Score,
    average_precision,
    average_precision_at_r,
    first_match,
    intervals,
    inverse_negative_penalty,
    named_score,
    r_precision,
    score,
)
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.compare_runs import compare_combinations
from reidbench.runs.record import RunRecord
from reidbench.utils.machine import local_machine
from tests.support.boards import GALLERY, QUERY, add_all, derived_fields, put, ranking_for, rows_of, valid_record
from tests.support.cases import cases
from tests.support.parts import printed
from tests.support.rankings import rank_distances
from tests.support.records import make_record


def ranking_of(*rows):
    """Return the ranking of queries whose galleries, best first, are hits (1) and misses (0); one length for all."""
    hits = np.array(rows, dtype=np.int64)
    queries, length = hits.shape
    pids = np.arange(1, queries + 1)
    # Each query has its own identities' items beside those of others, which are misses only.
    gallery_pids = np.where(hits == 1, pids[:, None], 0).ravel()
    distances = np.full((queries, queries * length), 1e6)
    for query in range(queries):
        distances[query, query * length : (query + 1) * length] = np.arange(length)
    cams = np.ones(queries * length, dtype=np.int64)
    return rank_distances([distances], pids, np.zeros(queries, dtype=np.int64), gallery_pids, cams)


def official_average_precision(hits: list[int]) -> float:
    """Return the area of compute_AP.m, walked item by item."""
    old_recall, old_precision, area, found = 0.0, 1.0, 0.0, 0
    for seen, hit in enumerate(hits, start=1):
        found += hit
        recall, precision = found / sum(hits), found / seen
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


@pytest.mark.parametrize(
    ("hits", "step", "market"),
    [*cases(__file__, "both_average_precisions_of_golden_vectors"), ([0] * 9 + [1], 0.1, 0.05)],
)
def test_both_average_precisions_of_golden_vectors(hits, step, market):
    ranking = ranking_of(hits)
    assert average_precision(ranking, "step")[0] == pytest.approx(step, abs=1e-6)
    assert average_precision(ranking, "market")[0] == pytest.approx(market, abs=1e-6)


@given(st.lists(st.lists(st.integers(0, 1), min_size=12, max_size=12), min_size=1, max_size=6))
def test_scores_equal_loops_over_the_ranking(rows):
    ranking = ranking_of(*rows)
    matched = [row for row in rows if sum(row) > 0]
    market, step = average_precision(ranking, "market"), average_precision(ranking, "step")
    at_r = average_precision_at_r(ranking)
    for query, row in enumerate(rows):
        places = [place for place, hit in enumerate(row) if hit]
        precisions = [(number + 1) / (place + 1) for number, place in enumerate(places)]
        assert step[query] == pytest.approx(np.mean(precisions) if places else 0.0)
        assert market[query] == pytest.approx(official_average_precision(row) if places else 0.0)
        assert market[query] <= step[query] + 1e-15
        assert first_match(ranking)[query] == (places[0] if places else -1)
        penalty = len(places) / (places[-1] + 1) if places else 0.0
        assert inverse_negative_penalty(ranking)[query] == pytest.approx(penalty)
        first = row[: len(places)]  # R items
        precisions_at_r = [sum(row[: place + 1]) / (place + 1) for place, hit in enumerate(first) if hit]
        assert r_precision(ranking)[query] == pytest.approx(sum(first) / len(first) if first else 0.0)
        assert at_r[query] == pytest.approx(sum(precisions_at_r) / len(first) if first else 0.0)
        assert at_r[query] <= min(step[query], r_precision(ranking)[query]) + 1e-15
        if len(first) == 1:  # both are Recall@1
            assert at_r[query] == r_precision(ranking)[query] == first[0]
    scores = score(ranking, 12)
    assert scores.unmatched == len(rows) - len(matched)
    assert scores.queries == len(rows)
    assert scores.cmc[1] <= scores.cmc[5] <= scores.cmc[10] <= scores.cmc[20] == len(matched) / len(rows)
    assert scores.map_market <= scores.map_step
    assert scores.map_step == pytest.approx(step.mean())


def test_unmatched_query_counts_as_0_in_every_mean():
    with_it, without = score(ranking_of([1, 0], [0, 0]), 4, ["r1"]), score(ranking_of([1, 0]), 2, ["r1"])
    assert without.as_dict() == {
        "map_market": 1.0, "map_step": 1.0, "r1": 1.0, "minp": 1.0, "r_precision": 1.0, "map_at_r": 1.0,
        "queries": 1, "gallery": 2, "unmatched": 0,
    }  # fmt: skip
    assert with_it.as_dict() == {
        "map_market": 0.5, "map_step": 0.5, "r1": 0.5, "minp": 0.5, "r_precision": 0.5, "map_at_r": 0.5,
        "queries": 2, "gallery": 4, "unmatched": 1,
    }  # fmt: skip


def test_means_do_not_depend_on_the_order_of_queries():
    rows = np.random.default_rng(0).integers(0, 2, (40, 30)).tolist()
    assert score(ranking_of(*rows), 30) == score(ranking_of(*rows[::-1]), 30)


def test_scores_by_name_and_attribute():
    scores = score(ranking_of([0, 1, 0], [1, 0, 0]), 6, ["r1", "r2"])
    assert (scores.r1, scores.cmc) == (0.5, {1: 0.5, 2: 1.0})
    assert named_score("r2").per_query(ranking_of([0, 1, 0])).tolist() == [1.0]
    with pytest.raises(AttributeError, match="r3"):
        _ = scores.r3
    for name in ("queries", "rank", "r"):
        with pytest.raises(DataError, match=f"'{name}'"):
            named_score(name)


def test_a_new_score_reaches_every_output(tmp_path, monkeypatch):
    """Adding a score takes one entry in the registry."""

    def last_tenth(ranking):
        return np.maximum(1 - first_match(ranking) / 10, 0)

    monkeypatch.setitem(SCORES, "early", Score(last_tenth, "earliness", "how early the first positive comes"))
    runs = []
    for loss in ("batch_hard", "classification"):
        job = make_record(loss, seed=88).job
        record = valid_record(loss, seed=88, **derived_fields(ranking_for(job), *QUERY, GALLERY[1]))
        runs.append(put(tmp_path / loss, record))
    first = runs[0][1]
    assert first.scores["early"] == last_tenth(ranking_for(first.job)).mean()
    assert first.intervals["early"][0] < first.scores["early"] < first.intervals["early"][1]
    add_all(tmp_path / "boards", [record for _, record in runs])
    assert {row["early"] for row in rows_of(tmp_path / "boards")} == {f"{run.scores['early']:.6f}" for _, run in runs}
    assert check(tmp_path / "boards") == []
    part = build("section", "table").build([record for _, record in runs], RunFiles([], local_machine()))
    assert printed(part.tables[0], "earliness") == [f"{100 * run.scores['early']:.2f}" for _, run in runs]
    assert compare_combinations(runs[:1], runs[1:]).differences[-1].score == "early"


def retrieval_record(loss: str) -> RunRecord:
    """Return a valid record of a protocol with Recall@1, 10 and 100 that ranks by Recall@10."""
    names, ranking = ("recall_at_1", "recall_at_10", "recall_at_100"), ranking_for(make_record(loss).job)
    ends = intervals(ranking, QUERY[0], names, "recall_at_10")
    record = valid_record(loss, evaluation={"primary": "recall_at_10"}, intervals=ends)
    return replace(record, scores=score(ranking, len(GALLERY[0]), names).as_dict())


def test_recall_at_k_reaches_every_output(tmp_path):
    records = [retrieval_record(loss) for loss in ("batch_hard", "classification")]
    assert records[0].result.startswith("done: Recall@10 ")
    add_all(tmp_path / "boards", records)
    columns = rows_of(tmp_path / "boards")[0]
    assert [name for name in columns if name.endswith("_sd")] == ["recall_at_1_sd", "recall_at_10_sd", "map_at_r_sd"]
    part = build("section", "table").build(records, RunFiles([], local_machine()))
    labels = [column.label for column in part.tables[0].columns]
    assert labels[1:5] == ["Recall@10", "95 %", "Recall@1", "MAP@R"]
    assert {"Recall@100", "R-precision"} <= {*labels}
    assert not {"mINP", "mAP (market)", "rank-1"} & {*labels}
    runs = [put(tmp_path / record.job.loss, record) for record in records]
    compared = [each.score for each in compare_combinations(runs[:1], runs[1:]).differences]
    assert compared == ["recall_at_10", "recall_at_1", "recall_at_100", "r_precision", "map_at_r"]
    index, page = build_site(tmp_path / "boards", tmp_path / "site")  # which checks the leaderboard
    assert "Best by Recall@10" in index.read_text()
    assert all(text in page.read_text() for text in ("ranked by Recall@10", "<dt>Recall@100</dt>"))


def test_records_without_the_newer_scores_stay_valid(tmp_path):
    newer, new, given = {"r_precision", "map_at_r"}, valid_record("classification"), valid_record("batch_hard")
    older = [{k: v for k, v in each.items() if k not in newer} for each in (given.scores, given.intervals)]
    old = replace(given, scores=older[0], intervals=older[1])
    add_all(tmp_path / "old", [old])
    assert not newer & rows_of(tmp_path / "old")[0].keys()
    add_all(tmp_path / "boards", [old, new])
    cells = {row["loss"]: row["map_at_r"] for row in rows_of(tmp_path / "boards")}
    assert cells == {"batch_hard": "", "classification": f"{new.scores['map_at_r']:.6f}"}
    assert len(build_site(tmp_path / "boards", tmp_path / "site")) == 2
