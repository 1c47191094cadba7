"""The record of a run: plain JSON with a schema number, from which the run can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reidbench.errors import DataError
from reidbench.utils.arrays import FloatArray, IntArray, read_arrays, save_arrays

if TYPE_CHECKING:
    from reidbench.data.ground_truth import Matches
RANKINGS = "rankings.npz"
_DISTANCE_ROUNDING = 1e-6  # top distances are computed otherwise than the order


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


_ARRAYS = tuple(field.name for field in fields(Ranking))
_FLOATS = ("distances", "same_camera_distances", "top_distances")


def read_ranking(folder: Path) -> Ranking:
    """Return the ranking beside a record; raises DataError where it is missing, damaged or impossible."""
    file = folder / RANKINGS
    if not file.is_file():
        raise DataError(f"{file}: is missing; it holds the rank of every positive and belongs beside the record")
    arrays = read_arrays(file, _ARRAYS)
    for name in _ARRAYS:
        array = arrays.get(name)
        dtype = np.dtype(np.float64 if name in _FLOATS else np.int64)
        if array is None or array.dtype != dtype or array.ndim != 1 + name.startswith("top"):
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise DataError(
                f"{file}: {name} must be {dtype} [{'n, k' if name.startswith('top') else 'n'}], got {found}"
            )
    ranking = Ranking(**arrays)
    if problems := list(_problems(ranking)):
        raise DataError(f"{file}: {'; '.join(problems)}")
    return ranking


def _problems(ranking: Ranking) -> Iterator[str]:
    """Yield what no ranking can be, whatever was ranked."""
    queries = len(ranking)
    sizes = {"ranked": len(ranking.ranked), "top": len(ranking.top), "top_distances": len(ranking.top_distances)}
    wrong = [f"{name} holds {size}" for name, size in sizes.items() if size != queries]
    for part in ("", "same_camera_"):
        starts, *arrays = (getattr(ranking, f"{part}{name}") for name in ("starts", "units", "ranks", "distances"))
        if len(starts) != queries + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
            wrong.append(f"{part}starts does not rise from 0 in {queries + 1} steps")
        elif any(len(array) != starts[-1] for array in arrays):
            wrong.append(f"{part}units, ranks and distances are not {starts[-1]} long")
    if queries < 1 or wrong or ranking.top.shape != ranking.top_distances.shape:
        yield f"does not hold {queries} queries throughout: {', '.join(wrong) or 'no query'}"
        return
    query = np.repeat(np.arange(queries), np.diff(ranking.starts))
    same_query = query[1:] == query[:-1]
    outside = (ranking.ranks < 0) | (ranking.ranks >= ranking.ranked[query])
    if outside.any():
        yield f"query {query[outside][0]} has a rank outside of what was ranked"
    tied = same_query & (np.diff(ranking.ranks) <= 0)
    if tied.any():
        yield f"query {query[1:][tied][0]} has ranks that do not rise"
    tolerance = _DISTANCE_ROUNDING * max(1.0, float(np.abs(ranking.distances).max(initial=0.0)))
    falling = same_query & ~(np.diff(ranking.distances) >= -tolerance)
    if falling.any():
        yield f"query {query[1:][falling][0]} has distances that fall from one rank to the next"
    listed = ranking.top[:, 1:] >= 0
    if not (ranking.top_distances[:, 1:][listed] - ranking.top_distances[:, :-1][listed] >= -tolerance).all():
        yield "the closest items are not in the order of their distances"
    shown = ~outside & (ranking.ranks < ranking.top.shape[1])
    if (ranking.top[query[shown], ranking.ranks[shown]] != ranking.units[shown]).any():
        yield "the closest items disagree with the ranks"


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
