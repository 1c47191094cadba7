"""Rankings written by hand, runs that have them, and scores by loops over sorted distances."""

from dataclasses import replace

import numpy as np
import pytest

from reidbench.data.positives_and_exclusions import Positives
from reidbench.data.protocol import MARKET_RULES
from reidbench.ranking import rank as ranking_module
from reidbench.ranking.pipeline import rank_embeddings
from reidbench.ranking.rank import CHUNK
from reidbench.ranking.rankings import Ranking, Rankings, save_ranking
from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.records import put


def rank_both(
    query, gallery, *ids_and_metric, exclude: tuple[str, ...] = MARKET_RULES, own=None, chunk=CHUNK, **options
) -> Rankings:
    """Return both rankings of embeddings, given pids and cams of queries and gallery, and a metric."""
    *ids, metric = ids_and_metric
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_module, "CHUNK", chunk)
        return ranking_module.rank(query, gallery, Positives.find(*ids, exclude, own), metric, **options)


def rank_units(query, gallery, *fitted, exclude=MARKET_RULES):
    """Return both rankings of units, given a metric, a re-ranker or None, and training units or None."""
    positives = Positives.find(query.pids, query.cams, gallery.pids, gallery.cams, exclude)
    return rank_embeddings(query, gallery, *fitted, positives)


def rank(*arrays, **options) -> Ranking:
    """Return the ranking of ``rank_both`` under its exclusion rules."""
    return rank_both(*arrays, **options).ranking


def rank_distances(blocks, *ids) -> Ranking:
    """Return the ranking of ``reidbench.ranking.rank.rank_distances`` under Market-1501's exclusion rules."""
    return ranking_module.rank_distances(blocks, Positives.find(*ids, MARKET_RULES)).ranking


def slow_query(distances, positives, excluded) -> tuple[float, float, float]:
    """Return the average precisions (market, step) and rank-1 of one query, NaN without a positive; arrays [n]."""
    order = [unit for unit in np.argsort(distances, kind="stable").tolist() if not excluded[unit]]
    places = [place for place, unit in enumerate(order) if positives[unit]]
    if not places:
        return np.nan, np.nan, np.nan
    before = [number / place if place else 1.0 for number, place in enumerate(places)]
    step = float(np.mean([(number + 1) / (place + 1) for number, place in enumerate(places)]))
    return (float(np.mean(before)) + step) / 2, step, float(places[0] == 0)


def slow_scores(distances, query, gallery, exclude=("junk", "same_camera")):
    """Return the means over queries, where one without a positive counts 0; ``query`` and ``gallery``: pids, cams."""
    values = []
    for row, pid, cam in zip(distances, *query, strict=True):
        positives = gallery[0] == pid
        junk, same_camera = gallery[0] == -1, positives & (gallery[1] == cam)
        excluded = junk & ("junk" in exclude) | same_camera & ("same_camera" in exclude)
        values.append(np.nan_to_num(slow_query(row, positives, excluded)))
    return dict(zip(("map_market", "map_step", "r1"), np.mean(values, axis=0).tolist(), strict=True))


def slow_camera_scores(distances, query_pids, gallery_pids, gallery_cams, own):
    """Return the values of ``slow_query`` [q, c, 3] of each query in each camera; ``own``: its unit, or -1."""
    values = []
    for row, pid, unit in zip(distances, query_pids, own, strict=True):
        for camera in np.unique(gallery_cams):
            positives = (gallery_pids == pid) & (gallery_cams == camera)
            excluded = (gallery_pids == pid) & ~positives | (np.arange(len(row)) == unit)
            values.append(slow_query(row, positives, excluded))
    return np.array(values).reshape(len(query_pids), -1, 3)


def ranking_of(ranks, size=10):
    """Return the ranking in which query i has a match at each of ``ranks[i]``, from 0, among ``size`` items.

    The item at rank r is unit r and has the distance r.
    """
    counts = [len(own) for own in ranks]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.array([rank for own in ranks for rank in own], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    top = np.tile(np.arange(min(size, 10), dtype=np.int64), (len(ranks), 1))
    return Ranking(
        starts=starts, units=flat, ranks=flat, distances=flat.astype(np.float64),
        same_camera_starts=np.zeros_like(starts), same_camera_units=nothing, same_camera_ranks=nothing,
        ranked=np.full(len(ranks), size, dtype=np.int64), top=top, top_distances=top.astype(np.float64),
    )  # fmt: skip


def with_rankings(folder, runs):
    """Return the files of runs with these rankings (or none), in folders of their own."""
    folders = []
    for number, (record, ranking) in enumerate(runs):
        folders.append(put(folder / "runs" / str(number), record, rankings=None))
        if ranking is not None:
            save_ranking(folders[-1][0], ranking)
    return RunFiles(folders, local_machine(data=folder))


def renumber(ranking: Ranking, old: int, new: int) -> Ranking:
    """Return the ranking with another number for one gallery unit."""
    arrays = {name: getattr(ranking, name) for name in ("units", "same_camera_units", "top")}
    return replace(ranking, **{name: np.where(array == old, new, array) for name, array in arrays.items()})


def positives_first(ranking: Ranking, share: float = 1.0) -> Ranking:
    """Return an invented ranking in which the first ``share`` of the queries have all their positives first."""
    arrays = {name: array.copy() for name, array in vars(ranking).items()}
    size = ranking.top.shape[1]
    for query in range(int(share * len(ranking))):
        own = slice(ranking.starts[query], ranking.starts[query + 1])
        units = ranking.units[own]
        others = ranking.top[query][~np.isin(ranking.top[query], units)]
        arrays["ranks"][own] = np.arange(len(units))
        arrays["distances"][own] = np.linspace(0.1, 0.2, len(units))
        arrays["top"][query] = np.concatenate([units, others])[:size]
        arrays["top_distances"][query] = np.linspace(0.1, 0.3, size)
    return Ranking(**arrays)
