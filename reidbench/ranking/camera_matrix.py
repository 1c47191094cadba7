"""Scores for each pair of cameras: how well a query of one finds its identity in each of the others, and in its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import precision
from reidbench.utils.arrays import FloatArray, IntArray

_PAIRS = 10_000  # embeddings that are compared at once


@dataclass(frozen=True, eq=False)
class CameraScores:
    """One row a query, one column a camera of ``cameras`` [c] int64.

    ``ap_market`` and ``r1`` [nq, c] float64 are nan where the query's identity has no further unit in that camera;
    ``query_cameras`` [nq] int64 are the queries' own.
    """

    cameras: IntArray
    query_cameras: IntArray
    ap_market: FloatArray
    r1: FloatArray

    def as_dict(self) -> dict[str, Any]:
        """Return the matrix for JSON: ``cameras`` [c], and ``queries``, ``map_market`` and ``r1`` [c][c].

        A row is the query's camera, a column the other one; means are over the ``queries`` that have a match there, and
        None where there are none.
        """
        rows = [self.query_cameras == camera for camera in self.cameras]
        counts = [np.isfinite(self.r1[row]).sum(axis=0) for row in rows]
        matrices: dict[str, Any] = {"cameras": self.cameras.tolist(), "queries": [count.tolist() for count in counts]}
        for name, values in (("map_market", self.ap_market), ("r1", self.r1)):
            sums = [np.nansum(values[row], axis=0) for row in rows]
            matrices[name] = [
                [float(total / queries) if queries else None for total, queries in zip(*pair, strict=True)]
                for pair in zip(sums, counts, strict=True)
            ]
        return matrices


def camera_scores(ranking: Ranking, query_cams: IntArray, gallery_cams: IntArray, own: IntArray) -> CameraScores:
    """Return average precision (market) and rank-1 of each query within each camera.

    ``ranking`` has junk left in and the same-camera units apart (``Rankings.with_junk``). ``query_cams`` [nq] and
    ``gallery_cams`` [ng] are int64; ``own`` [nq] int64 is the unit of the gallery that is the query itself, -1 where
    the gallery lacks it. For a camera the identity's units there are right, its units in other cameras and the query
    itself leave the ranking, and all else is wrong, junk too, as in the official code. The query's own camera is a
    column too: its units are those that the rule same_camera takes out of the main ranking.
    Source: Zheng et al., compute_AP_multiCam.m and compute_r1_multiCam.m of the MARS evaluation code, which take the
    closest item for the query itself.
    """
    hits = np.repeat(np.arange(len(ranking)), np.diff(ranking.starts))
    hidden = np.repeat(np.arange(len(ranking)), np.diff(ranking.same_camera_starts))
    # What is wrong and closer: all that is closer, without the identity's units among them.
    wrong = ranking.ranks - (np.arange(len(hits)) - ranking.starts[hits])
    span = 1 + max(int(ranked.max(initial=0)) for ranked in (ranking.ranks, ranking.same_camera_ranks))
    closer = np.searchsorted(hits * span + ranking.ranks, hidden * span + ranking.same_camera_ranks)
    hidden_wrong = ranking.same_camera_ranks - (closer - ranking.starts[hidden])

    query = np.concatenate([hits, hidden])
    unit = np.concatenate([ranking.units, ranking.same_camera_units])
    before = np.concatenate([wrong, hidden_wrong])
    others = unit != own[query]
    query, unit, before = query[others], unit[others], before[others]

    cameras = np.unique(np.concatenate([query_cams, gallery_cams[unit]]))
    cell = query * len(cameras) + np.searchsorted(cameras, gallery_cams[unit])
    order = np.lexsort((before, cell))
    cell, before = cell[order], before[order]
    cells, first, counts = np.unique(cell, return_index=True, return_counts=True)
    number = np.arange(1, len(cell) + 1) - np.repeat(first, counts)
    values = precision(number, before + number - 1, "market")
    scores = {name: np.full(len(ranking) * len(cameras), np.nan) for name in ("ap_market", "r1")}
    scores["ap_market"][cells] = np.bincount(np.repeat(np.arange(len(cells)), counts), weights=values) / counts
    scores["r1"][cells] = before[first] == 0
    shaped = {name: flat.reshape(len(ranking), len(cameras)) for name, flat in scores.items()}
    return CameraScores(cameras, query_cams, **shaped)


def own_rows(
    query: Tensor, gallery: Tensor, ranking: Ranking, query_cams: IntArray, gallery_cams: IntArray
) -> IntArray:
    """Return for each query [nq] int64 the first gallery unit of its identity and camera with an equal embedding.

    That is the query itself where nothing but embeddings [nq, D] and [ng, D] tells; -1 where there is none, or no
    embeddings are known (D = 0). ``ranking`` is as for ``camera_scores``.
    """
    if not query.shape[1]:
        return np.full(len(ranking), -1, dtype=np.int64)
    rows = np.repeat(np.arange(len(ranking)), np.diff(ranking.starts))
    hidden = np.repeat(np.arange(len(ranking)), np.diff(ranking.same_camera_starts))
    row = np.concatenate([rows, hidden])
    unit = np.concatenate([ranking.units, ranking.same_camera_units])
    here = query_cams[row] == gallery_cams[unit]
    row, unit = row[here], unit[here]
    equal = np.zeros(len(row), dtype=np.bool_)
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        equal[part] = (query[row[part]] == gallery[unit[part]]).all(dim=1).numpy()
    row, unit = row[equal], unit[equal]
    own = np.full(len(ranking), len(gallery), dtype=np.int64)
    np.minimum.at(own, row, unit)
    return np.where(own < len(gallery), own, -1)


def own_units(query: Samples, gallery: Samples) -> IntArray:
    """Return for each query [nq] int64 the gallery unit that has the same images, -1 where there is none."""
    there = {name: unit for unit, name in enumerate(gallery.images[gallery.starts[:-1]].tolist())}
    found = np.array([there.get(name, -1) for name in query.images[query.starts[:-1]].tolist()], dtype=np.int64)
    same = np.diff(query.starts) == np.diff(gallery.starts)[found]
    return np.where((found >= 0) & same, found, -1)
