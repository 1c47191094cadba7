"""The value in rankings.npz, from which all scores follow: written, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from reidbench.errors import DataError
from reidbench.utils.arrays import FloatArray, IntArray, read_arrays, save_arrays

RANKINGS = "rankings.npz"
_MOST_BYTES = 2**30  # of one ranking: 40 million positives
_DISTANCE_ROUNDING = 1e-6  # top distances are computed otherwise than the order


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rank and distance of every positive of every query.

    The positives of query q are at ``starts[q]`` to ``starts[q + 1]``, in rank order. Positives that the rules
    "same_camera" and "self" exclude are apart, in the fields named after the first: their rank is the one that each
    would have among the items that are not excluded.

    Fields:
        starts, same_camera_starts: [nq + 1] int64, rising from 0.
        units, same_camera_units: gallery units int64.
        ranks, same_camera_ranks: number of items before each that are not excluded (so 0 is rank 1) int64.
        distances: float64.
        ranked: number of gallery items that are not excluded for each query [nq] int64.
        top: the k nearest of them [nq, k] int64, -1 where there are fewer.
        top_distances: their distances [nq, k] float64, inf where there are fewer.
    """

    starts: IntArray
    units: IntArray
    ranks: IntArray
    distances: FloatArray
    same_camera_starts: IntArray
    same_camera_units: IntArray
    same_camera_ranks: IntArray
    ranked: IntArray
    top: IntArray
    top_distances: FloatArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def gallery(self) -> int:
        """The least number of gallery units with which this ranking is possible."""
        units = (self.units, self.same_camera_units, self.top)
        return max(int(self.ranked.max()), *(1 + int(part.max(initial=-1)) for part in units))


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
    """Write the ranking beside a record, so that scores can be recomputed without the network."""
    save_arrays(folder / RANKINGS, vars(ranking))


_FLOATS = ("distances", "top_distances")


def read_ranking(folder: Path) -> Ranking:
    """Return the ranking beside a record; raises DataError where it is missing, damaged or impossible."""
    file = folder / RANKINGS
    if not file.exists():
        raise DataError(f"{file}: is missing; it holds the rank of every positive and belongs beside the record")
    arrays = read_arrays(file, [field.name for field in fields(Ranking)], most=_MOST_BYTES)
    for name, array in arrays.items():
        dtype = np.dtype(np.float64 if name in _FLOATS else np.int64)
        if array.dtype != dtype or array.ndim != 1 + name.startswith("top"):
            shape = "n, k" if name.startswith("top") else "n"
            raise DataError(f"{file}: {name} must be {dtype} [{shape}], got {array.dtype} {list(array.shape)}")
    ranking = Ranking(**arrays)
    with np.errstate(over="ignore"):
        problems = list(_problems(ranking))
    if problems:
        raise DataError(f"{file}: {'; '.join(problems)}")
    return ranking


def _problems(ranking: Ranking) -> Iterator[str]:
    """Yield what no ranking can be, whatever was ranked."""
    queries = len(ranking.starts) - 1
    if queries < 1:
        yield "holds no query"
        return
    sizes = {"ranked": len(ranking.ranked), "top": len(ranking.top), "top_distances": len(ranking.top_distances)}
    wrong = [f"{name} holds {size}" for name, size in sizes.items() if size != queries]
    for part, names in (("", ("units", "ranks", "distances")), ("same_camera_", ("units", "ranks"))):
        starts, *arrays = (getattr(ranking, f"{part}{name}") for name in ("starts", *names))
        if len(starts) != queries + 1 or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
            wrong.append(f"{part}starts does not rise from 0 in {queries + 1} steps")
        elif any(len(array) != starts[-1] for array in arrays):
            wrong.append(f"{part}{', '.join(names)} are not {starts[-1]} long")
        elif (arrays[0] < 0).any() or (arrays[1] < 0).any() or not np.isfinite(arrays[-1]).all():
            wrong.append(f"{part}units and ranks are not 0 or more, or distances are not finite")
    if wrong or ranking.top.shape != ranking.top_distances.shape:
        yield f"does not hold {queries} queries throughout: {', '.join(wrong) or 'top and top_distances differ'}"
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
    if not ranking.top.shape[1] and not ranking.distances.any():
        return  # only ranks are published of a study's runs
    listed = np.arange(ranking.top.shape[1]) < ranking.ranked[:, None]
    ends = np.where(listed, ranking.top_distances, np.inf)
    if not listed.any() or (listed != (ranking.top >= 0)).any() or (ranking.top[~listed] != -1).any():
        yield "the closest items are not as many as were ranked, or others than units and -1"
    if not (np.isfinite(ends) == listed).all() or not (ends[:, 1:] >= ends[:, :-1] - tolerance).all():
        yield "the closest items are not in the order of their distances"
    shown = ~outside & (ranking.ranks < ranking.top.shape[1])
    if (ranking.top[query[shown], ranking.ranks[shown]] != ranking.units[shown]).any():
        yield "the closest items disagree with the ranks"
