"""The record of a run: plain JSON with a schema number, from which the run can be made again."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reidbench.errors import DataError
from reidbench.utils.arrays import FloatArray, IntArray, load_arrays, read_arrays, save_arrays

if TYPE_CHECKING:
    from reidbench.data.ground_truth import Matches
RANKINGS = "rankings.npz"


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where every positive of every query stands, from which all scores follow.

    Query i's positives are ``units[starts[i]:starts[i + 1]]`` (int64, units of the gallery), with ``ranks`` (int64,
    0-based: how many items that are not excluded stand before it) and ``distances`` (float64), in rank order. The same
    for its same-camera positives, which are excluded, with the rank that each would have among the rest: they serve
    the official per-camera matrix. ``ranked`` [n] is how many gallery items were ranked for each query; ``top`` [n, k]
    and ``top_distances`` [n, k] are the k closest that are not excluded, -1 and inf where there are fewer.
    """

    starts: IntArray
    units: IntArray
    ranks: IntArray
    distances: FloatArray
    same_camera_starts: IntArray
    same_camera_units: IntArray
    same_camera_ranks: IntArray
    same_camera_distances: FloatArray
    ranked: IntArray
    top: IntArray
    top_distances: FloatArray

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, eq=False)
class Rankings:
    """One ranking under two sets of exclusion rules.

    Fields:
        ranking: under the rules of the protocol, from which the scores follow.
        with_junk: the same with junk left in and without ``top``, from which the camera matrix follows.
    """

    ranking: Ranking
    with_junk: Ranking


def save_ranking(folder: Path, ranking: Ranking) -> None:
    """Keep the rank of every positive beside the record, so that scores can be recomputed without the network."""
    save_arrays(folder / RANKINGS, vars(ranking))


def load_ranking(folder: Path) -> Ranking:
    """Return the ranking beside a record."""
    return Ranking(**load_arrays(folder / RANKINGS))


_ARRAYS = tuple(field.name for field in fields(Ranking))
_FLOATS = ("distances", "same_camera_distances", "top_distances")


def read_ranking(folder: Path) -> Ranking:
    """Return the rankings in a folder that may be a stranger's; raises DataError where they are none."""
    file = folder / RANKINGS
    if not file.is_file():
        raise DataError(f"{file}: is missing; a record is kept with the rank of every positive")
    arrays = read_arrays(file, _ARRAYS)
    for name in _ARRAYS:
        array = arrays.get(name)
        dtype = np.dtype(np.float64 if name in _FLOATS else np.int64)
        if array is None or array.dtype != dtype or array.ndim != 1 + name.startswith("top"):
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise DataError(
                f"{file}: {name} must be {dtype} [{'n, k' if name.startswith('top') else 'n'}], got {found}"
            )
    return Ranking(**arrays)


def rankings_of(
    matches: Matches,
    closer: IntArray,
    closer_junk: IntArray,
    distances: FloatArray,
    top_columns: IntArray,
    top_distances: FloatArray,
) -> Rankings:
    """Return what was counted for each match [m], in rank order, with units instead of columns.

    ``closer`` and ``closer_junk`` [m] int64 are how many items of ``matches.kept`` and ``matches.junk`` stand before a
    match, ``distances`` [m] float64 are its own; ``top_columns`` and ``top_distances`` [nq, k] are the closest items.
    """
    # Excluded items do not count each other, so several may share a rank: the closer one first, then gallery order,
    # which they come in.
    order = np.lexsort((distances, matches.queries * (len(matches.kept) + 1) + closer))
    hidden = matches.hidden[order]
    units, ranks, distances, junk = matches.units[order], closer[order], distances[order], closer_junk[order]
    top = np.full(top_columns.shape, -1, dtype=np.int64)
    top[top_columns >= 0] = matches.kept[top_columns[top_columns >= 0]]
    ranking = Ranking(
        starts=matches.starts_of(~matches.hidden),
        units=units[~hidden],
        ranks=ranks[~hidden],
        distances=distances[~hidden],
        same_camera_starts=matches.starts_of(matches.hidden),
        same_camera_units=units[hidden],
        same_camera_ranks=ranks[hidden],
        same_camera_distances=distances[hidden],
        ranked=matches.ranked,
        top=top,
        top_distances=top_distances,
    )
    with_junk = replace(
        ranking,
        ranks=ranking.ranks + junk[~hidden],
        same_camera_ranks=ranking.same_camera_ranks + junk[hidden],
        ranked=ranking.ranked + len(matches.junk),
        top=top[:, :0],
        top_distances=top_distances[:, :0],
    )
    return Rankings(ranking, with_junk)
