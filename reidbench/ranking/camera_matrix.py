"""Scores for each pair of cameras: the query's and the one in which its identity is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reidbench.data.positives_and_exclusions import Positives
from reidbench.embedding.pooling import UnitEmbeddings
from reidbench.ranking.rankings import Ranking
from reidbench.ranking.scores import precision
from reidbench.utils.arrays import FloatArray, IntArray

_PAIRS = 10_000  # embeddings compared at a time


@dataclass(frozen=True, eq=False)
class CameraScores:
    """Scores of each query within each camera.

    Fields:
        cameras: the cameras [c] int64.
        query_cameras: the camera of each query [nq] int64.
        ap_market, r1: [nq, c] float64, nan where the query's identity has no other unit in that camera.
    """

    cameras: IntArray
    query_cameras: IntArray
    ap_market: FloatArray
    r1: FloatArray

    def as_dict(self) -> dict[str, Any]:
        """Return the matrix for JSON: ``cameras`` [c], and ``queries``, ``map_market`` and ``r1`` [c][c].

        Rows are the query's camera, columns the gallery's; means are over the ``queries`` with a positive there, None
        where there are none.
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

    ``ranking`` is ``Rankings.with_junk``. ``query_cams`` [nq] and
    ``gallery_cams`` [ng] are int64; ``own`` [nq] int64 is the gallery unit that is the query itself, -1 where
    there is none. For a camera the identity's units there are positives, its units in other cameras and the query
    itself are excluded, and all other units are negatives, junk too, as in the official code. The query's own camera
    is a column too: its positives are those that the rule same_camera excludes from the main ranking. Where every
    gallery unit has a camera of its own, as where cameras are unknown, there is no camera at all.
    Source: Zheng et al., compute_AP_multiCam.m and compute_r1_multiCam.m of the MARS evaluation code, which take the
    closest item for the query itself.
    """
    if len(np.unique(gallery_cams)) == len(gallery_cams):  # a matrix of all pairs of images would tell nothing
        nothing = np.zeros((len(ranking), 0))
        return CameraScores(np.zeros(0, dtype=np.int64), query_cams, nothing, nothing)
    queries = np.repeat(np.arange(len(ranking)), np.diff(ranking.starts))
    same_camera = np.repeat(np.arange(len(ranking)), np.diff(ranking.same_camera_starts))
    # Closer negatives: all closer items but the identity's own.
    negatives = ranking.ranks - (np.arange(len(queries)) - ranking.starts[queries])
    span = 1 + max(int(ranked.max(initial=0)) for ranked in (ranking.ranks, ranking.same_camera_ranks))
    closer = np.searchsorted(queries * span + ranking.ranks, same_camera * span + ranking.same_camera_ranks)
    same_camera_negatives = ranking.same_camera_ranks - (closer - ranking.starts[same_camera])

    query = np.concatenate([queries, same_camera])
    unit = np.concatenate([ranking.units, ranking.same_camera_units])
    before = np.concatenate([negatives, same_camera_negatives])
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


def own_rows(query: UnitEmbeddings, gallery: UnitEmbeddings, positives: Positives) -> IntArray:
    """Return for each query [nq] int64 the first gallery unit of its identity and camera with an equal embedding.

    This identifies the query itself where only embeddings are known; -1 where there is none.
    """
    own, rows, units = np.full(len(query.pids), -1, dtype=np.int64), positives.queries, positives.units
    here = np.flatnonzero(query.cams[rows] == gallery.cams[units])[::-1]  # backwards, so that the first one stays
    for pairs in np.split(here, range(_PAIRS, len(here), _PAIRS)):
        row, unit = rows[pairs], units[pairs]
        equal = (np.asarray(query.embeddings[row]) == np.asarray(gallery.embeddings[unit])).all(axis=1)
        own[row[equal]] = unit[equal]
    return own
