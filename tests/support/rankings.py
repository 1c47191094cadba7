"""Rankings written by hand, and runs that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.ranking import rank as ranking_module
from reidbench.ranking.rankings import Ranking, save_ranking
from reidbench.reports.artifacts import RunFiles
from reidbench.runs.record import RunRecord
from reidbench.utils.machine import local_machine
from tests.support.records import put


def rank(*arrays: Any, **options: Any) -> Ranking:
    """Return the ranking of ``reidbench.ranking.rank.rank`` under its exclusion rules."""
    return ranking_module.rank(*arrays, **options).ranking


def rank_distances(blocks: Any, *ids: Any, **options: Any) -> Ranking:
    """Return the ranking of ``reidbench.ranking.rank.rank_distances`` under its exclusion rules."""
    return ranking_module.rank_distances(blocks, *ids, **options).ranking


def ranking_of(ranks: Sequence[Sequence[int]], size: int = 10) -> Ranking:
    """Return the ranking in which query i has a match at each of ``ranks[i]``, from 0, among ``size`` items.

    The item at rank r is unit r and has the distance r.
    """
    counts = [len(own) for own in ranks]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.array([rank for own in ranks for rank in own], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    top = np.tile(np.arange(min(size, 10), dtype=np.int64), (len(ranks), 1))
    return Ranking(
        starts=starts,
        units=flat,
        ranks=flat,
        distances=flat.astype(np.float64),
        same_camera_starts=np.zeros(len(ranks) + 1, dtype=np.int64),
        same_camera_units=nothing,
        same_camera_ranks=nothing,
        same_camera_distances=nothing.astype(np.float64),
        ranked=np.full(len(ranks), size, dtype=np.int64),
        top=top,
        top_distances=top.astype(np.float64),
    )


def with_rankings(folder: Path, runs: Sequence[tuple[RunRecord, Ranking | None]]) -> RunFiles:
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
