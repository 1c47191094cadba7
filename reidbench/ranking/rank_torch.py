"""Ranks counted by torch: on a GPU, and on machines without compiled loops; the same ranks as ``counting`` gives.

The order is the same, v(q, g) = sum of left[q, k] * right[g, k] in float64 in the order of k, equal values in gallery
order, and so are the filter and its bound, which stand in ``counting``. What differs is how a block is counted. The
matches themselves are put in order first, by v, and leave the product; what is left of it is looked at once, to find
the items that may stand before a row's last match or may belong to its closest ones. For each of these two binary
searches, in the upper and in the lower bounds of its row's matches, tell before which matches it stands; where they
disagree, v is computed. A sum is always of single additions in order, never a library's product, so that it has the
bits of the compiled loops.

Only what grows with queries times gallery is done on the device: factors and shown distances grow with the rows, and
another device would sum them in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.ranking.rank_counts import ABOVE_ALL, Top, magnitude_of, powers
from reidbench.ranking.rank_kernels import CAST
from reidbench.training.precision import float32_products
from reidbench.utils.arrays import FloatArray, IntArray
from reidbench.utils.compiled import not_compiled

ENTRIES = {"cpu": 2**22, "cuda": 2**24}  # of a block's float32 product: in the cache here, few launches there
FOLDS = 32  # columns, as far apart as can be, whose lowest product stands for them
_PIECE = 4_096  # gallery rows whose float64 copies are made at once


def counting_device(asked: torch.device | None) -> torch.device | None:
    """Return the device on which torch counts, the CPU where there are no compiled loops; None for those."""
    return asked or (torch.device("cpu") if not_compiled() else None)


def beside_the_cpu(device: torch.device) -> torch.device | None:
    """Return a GPU, on which torch is to count, and None for the CPU, where it need not."""
    return None if device.type == "cpu" else device


def announced(device: torch.device | None) -> str:
    """Return in words that torch counts on a device, and why; "" for the compiled loops."""
    if device is None:
        return ""
    reason = f", since {not_compiled()}" if device.type == "cpu" and not_compiled() else ""
    return f"ranks are counted by torch on {device}{reason}: the same ones"


def pair_values(
    left: FloatArray, right: FloatArray, rows: IntArray, columns: IntArray, device: torch.device
) -> FloatArray:
    """Return v of pairs [m]: of ``left[rows]`` and ``right[columns]``."""
    sides = (torch.from_numpy(side).to(device) for side in (left, right, rows, columns))
    return _settled(*sides).cpu().numpy()


def visit(  # noqa: PLR0917, as the compiled functions
    left: FloatArray,
    chunks: Iterable[FloatArray],
    starts: IntArray,
    columns: IntArray,
    hidden: NDArray[np.bool_],
    values: FloatArray,
    before: IntArray,
    top: Top,
    device: torch.device,
    farthest: FloatArray | None = None,
) -> None:
    """Add to ``before`` what stands before each match, and put the closest items into ``top``.

    ``left`` [nq, K] float64 are the queries' factors; the gallery's [n, K] come in chunks, in gallery order. The
    matches of query q are ``columns[starts[q]:starts[q + 1]]`` with their ``values`` v, of which the ``hidden`` ones
    stand before nothing. ``farthest`` [nq], where given, gets the largest v of each query; there are no matches then.
    Raises DataError as ``counting.walk`` does.
    """
    if len(left) == 0:
        return
    matches = _Matches.ordered(starts, columns, hidden, values, device)
    closest = _Closest(*(torch.from_numpy(side).to(device) for side in (top.values, top.columns)))
    shown = ~matches.hidden
    closest.join(slice(0, len(left)), matches.rows[shown], matches.values[shown], matches.columns[shown])
    found = matches.visible_before()
    highest = torch.full((len(left),), -torch.inf, dtype=torch.float64, device=device)
    with float32_products():
        queries = _Queries.of(left, device)
        first = 0
        for chunk in chunks:
            for block in _blocks(queries, torch.from_numpy(chunk).to(device), first):
                block.visit(matches, found, closest)
                if farthest is not None:
                    highest[block.rows] = torch.maximum(highest[block.rows], block.farthest())
            first += len(chunk)
    before[matches.order.cpu().numpy()] += found.cpu().numpy()
    top.values[:], top.columns[:] = closest.values.cpu().numpy(), closest.columns.cpu().numpy()
    if farthest is not None:
        farthest[:] = highest.cpu().numpy()


def visit_values(  # noqa: PLR0917
    device: torch.device,
    values: FloatArray,
    starts: IntArray,
    columns: IntArray,
    hidden: NDArray[np.bool_],
    before: IntArray,
    top_values: FloatArray,
    top_columns: IntArray,
) -> None:
    """Do what ``kernels.visit_values`` does, by a stable sort of each row of ``values`` [r, n]."""
    matched = np.repeat(np.arange(len(values)), np.diff(starts))
    part = slice(starts[0], starts[-1])
    rows, own, out = (torch.from_numpy(x).to(device) for x in (matched, columns[part], hidden[part]))
    ordered, order = torch.from_numpy(values).to(device).sort(dim=1, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=device).expand_as(order))
    seen = torch.ones_like(order)
    seen[rows[out], place[rows[out], own[out]]] = 0
    length = top_values.shape[1]
    ranks = seen.cumsum(dim=1) - seen  # what is seen before each place
    before[part] = ranks[rows, place[rows, own]].cpu().numpy()
    row, at = ((seen == 1) & (ranks < length)).nonzero(as_tuple=True)
    listed = (row.cpu().numpy(), ranks[row, at].cpu().numpy())
    top_values[listed], top_columns[listed] = ordered[row, at].cpu().numpy(), order[row, at].cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Matches:
    """All matches, in order of query, v and column: their place in the caller's arrays is ``order`` [m]."""

    order: Tensor
    starts: IntArray
    rows: Tensor
    columns: Tensor
    hidden: Tensor
    values: Tensor

    @classmethod
    def ordered(
        cls, starts: IntArray, columns: IntArray, hidden: NDArray[np.bool_], values: FloatArray, device: torch.device
    ) -> _Matches:
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        row, column, out, value = (torch.from_numpy(x).to(device) for x in (rows, columns, hidden, values))
        order = _order(row, value, column)
        return cls(order, starts, row, column[order], out[order], value[order])

    def visible_before(self) -> Tensor:
        """Return how many matches of the same query, hidden ones apart, stand before each [m] int64."""
        shown = (~self.hidden).long()
        earlier = shown.cumsum(dim=0) - shown
        first = torch.from_numpy(self.starts[:-1]).to(self.rows.device)[self.rows]
        return earlier - earlier[first]


@dataclass(frozen=True, eq=False)
class _Closest:
    """The closest items so far, best first: ``values`` and ``columns`` [nq, k], inf and -1 where there are fewer."""

    values: Tensor
    columns: Tensor

    def join(self, part: slice, rows: Tensor, values: Tensor, columns: Tensor) -> None:
        """Put further items [m] in; ``rows`` count from the beginning of ``part``."""
        lists, length = self.values[part], self.values.shape[1]
        if not length or not len(rows):
            return
        own = torch.arange(len(lists), device=rows.device).repeat_interleave(length)
        every = torch.cat([own, rows])
        value = torch.cat([lists.reshape(-1), values])
        column = torch.cat([self.columns[part].reshape(-1), columns])
        sizes = torch.bincount(every, minlength=len(lists))
        first = sizes.cumsum(dim=0) - sizes
        chosen = _order(every, value, column)[first[:, None] + torch.arange(length, device=rows.device)]
        self.values[part], self.columns[part] = value[chosen], column[chosen]


@dataclass(frozen=True, eq=False)
class _Queries:
    """The left side of the filter before it is scaled: what ``counting.walk`` makes of it once."""

    left: Tensor
    centre: Tensor
    centred: Tensor
    reach: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, left: FloatArray, device: torch.device) -> _Queries:
        factors = torch.from_numpy(left).to(device)
        reach = factors.abs().amax(dim=0).cpu().numpy()
        magnitude_of(reach, np.zeros_like(reach))
        centre = factors.mean(dim=0)
        centred = torch.cat([factors - centre, torch.ones_like(factors[:, :1])], dim=1)
        return cls(factors, centre, centred, reach, centred.abs().amax(dim=0).cpu().numpy())


def _blocks(queries: _Queries, right: Tensor, first: int) -> Iterable[_Block]:
    """Yield the blocks of all queries against one chunk [n, K]; a product is overwritten by the next one."""
    device, count = right.device, len(right)
    low, high = right.amin(dim=0), right.amax(dim=0)
    magnitude = magnitude_of(queries.reach, torch.maximum(low.abs(), high.abs()).cpu().numpy())
    centre = right.mean(dim=0)
    added = right @ queries.centre - centre @ queries.centre
    reach = torch.cat([torch.maximum(high - centre, centre - low), added.abs().max()[None]])
    used, left_power, right_power, scale = powers(queries.spread, reach.cpu().numpy())
    chosen, left_scale, right_scale = (
        torch.from_numpy(x).to(device) for x in (used, np.ldexp(1.0, left_power), np.ldexp(1.0, right_power))
    )
    left = (queries.centred[:, chosen] * left_scale).float()
    filtered = torch.empty(count, len(used), device=device)
    norms = torch.empty(count, dtype=torch.float64, device=device)
    for start in range(0, count, _PIECE):
        part = slice(start, start + _PIECE)
        shifted = torch.cat([right[part] - centre, added[part, None]], dim=1)[:, chosen] * right_scale
        filtered[part] = shifted
        norms[part] = torch.linalg.vector_norm(filtered[part].double(), dim=1)
    terms = len(used) + 2
    slope = 1.01 * terms * 2.0**-24 / (1 - terms * 2.0**-24) * torch.linalg.vector_norm(left.double(), dim=1)
    in_float64 = 8 * (right.shape[1] + 8) * (2.0**-53 * magnitude + 2.0**-1022)
    width = slope * norms.max() + 1.01 * (in_float64 * scale + terms * 2.0**-120)
    offset = queries.left @ centre
    size = max(1, min(ENTRIES[device.type] // count, len(left)))
    buffer = torch.empty(size * count, device=device)
    for start in range(0, len(left), size):
        rows = slice(start, min(start + size, len(left)))
        product = buffer[: (rows.stop - start) * count].view(-1, count)
        torch.mm(left[rows], filtered.T, out=product)
        yield _Block(rows, first, product, queries.left[rows], right, offset[rows], scale, width[rows])


@dataclass(frozen=True, eq=False)
class _Block:
    """The filter's ``product`` [r, n] of some queries with one chunk: off by at most ``width`` [r] from
    ``scale * (v - offset)``; ``left`` [r, K] and ``right`` [n, K] are the factors, column 0 is column ``first``.
    """

    rows: slice
    first: int
    product: Tensor
    left: Tensor
    right: Tensor
    offset: Tensor
    scale: float
    width: Tensor

    def visit(self, matches: _Matches, found: Tensor, closest: _Closest) -> None:
        """Add what stands before each match to ``found``, and put what is close enough into ``closest``."""
        count, row_count = self.product.shape[1], len(self.product)
        begin, end = int(matches.starts[self.rows.start]), int(matches.starts[self.rows.stop])
        part = slice(begin, end)
        rows, columns, values = matches.rows[part] - self.rows.start, matches.columns[part], matches.values[part]
        here = (columns >= self.first) & (columns < self.first + count)
        self.product[rows[here], columns[here] - self.first] = torch.inf

        lows, highs = self._bounds(values, rows)
        cutoffs = self._cutoffs(closest)
        limits = cutoffs.scatter_reduce(0, rows, highs, "amax")
        near = (self.product <= limits[:, None]).view(-1).nonzero().squeeze(1)
        row, products = near // count, self.product.view(-1)[near]

        # Single numbers that sort by row and then by product, so that one search serves all rows.
        keys = _keys(row, products)
        after = torch.searchsorted((_keys(rows, highs) + 1).cummax(dim=0).values, keys, right=True)
        until = torch.searchsorted(_keys(rows, lows).flip(0).cummin(dim=0).values.flip(0), keys, right=True)
        is_open, is_close = until > after, products <= cutoffs[row]
        settle = (is_open | is_close).nonzero().squeeze(1)
        if len(settle):
            settled_rows, items = row[settle], near[settle] % count
            settled = _settled(self.left, self.right, settled_rows, items)
            items = items + self.first
            own, close = is_open[settle], is_close[settle]
            after[settle[own]] = _places(rows, values, columns, settled_rows[own], settled[own], items[own])
            closest.join(self.rows, settled_rows[close], settled[close], items[close])

        # One bin before each match, and one after the last of each row.
        bins = torch.bincount(after + row, minlength=end - begin + row_count)
        until = bins.cumsum(dim=0)
        starts = torch.from_numpy(matches.starts[self.rows] - begin + np.arange(row_count)).to(bins.device)
        found[part] += until[torch.arange(end - begin, device=bins.device) + rows] - (until - bins)[starts][rows]

    def _bounds(self, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return below which products a value v surely lies above, and above which it surely lies below."""
        threshold = (self.scale * (values - self.offset[rows])).clamp(-ABOVE_ALL, ABOVE_ALL)
        doubt = self.width[rows] + CAST * threshold.abs()
        low, high = (threshold - doubt).clamp(min=-ABOVE_ALL), (threshold + doubt).clamp(max=ABOVE_ALL)
        return low.float(), high.float()

    def _cutoffs(self, closest: _Closest) -> Tensor:
        """Return for each row a product [r] that no item of its closest ones exceeds."""
        length, count = closest.values.shape[1], self.product.shape[1]
        if not length:
            return torch.full_like(self.product[:, 0], -torch.inf)
        every = torch.arange(len(self.product), device=self.product.device)
        cutoffs = self._bounds(closest.values[self.rows, -1], every)[1]
        if self.first or length > count:
            return cutoffs
        # Before there is a list: the lowest of ``length`` groups are that many items.
        groups = count // max(1, min(FOLDS, count // (4 * length)))
        lowest = self.product[:, : groups * (count // groups)].reshape(len(every), -1, groups).amin(dim=1)
        cut = lowest.topk(length, largest=False).values[:, -1].double()
        cut = (cut + 2 * self.width + CAST * cut.abs()).clamp(max=ABOVE_ALL)
        return torch.minimum(cutoffs, cut.float())

    def farthest(self) -> Tensor:
        """Return the largest v of each row [r]; nothing may have left the product."""
        highest = self.product.amax(dim=1).double()
        limits = highest - 2 * self.width - CAST * highest.abs()
        row, column = (self.product >= limits[:, None]).nonzero(as_tuple=True)
        values = _settled(self.left, self.right, row, column)
        return torch.full_like(self.offset, -torch.inf).scatter_reduce(0, row, values, "amax")


def _settled(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return v of pairs [m] float64, each sum in the order of k."""
    size = max(1, ENTRIES[left.device.type] // (4 * max(1, left.shape[1])))
    values = torch.zeros(len(rows), dtype=torch.float64, device=left.device)
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        for products in (left[rows[part]] * right[columns[part]]).T.contiguous():
            values[part] += products
    return values


def _order(rows: Tensor, values: Tensor, columns: Tensor) -> Tensor:
    """Return the order [m] by row, then value, then column."""
    order = columns.argsort(stable=True)
    order = order[values[order].argsort(stable=True)]
    return order[rows[order].argsort(stable=True)]


def _places(rows: Tensor, values: Tensor, columns: Tensor, row: Tensor, value: Tensor, column: Tensor) -> Tensor:
    """Return how many of the first items, in order of row, value and column, stand before each of the others [m]."""
    order = _order(torch.cat([rows, row]), torch.cat([values, value]), torch.cat([columns, column]))
    is_first = order < len(rows)
    places = torch.empty_like(row)
    places[order[~is_first] - len(rows)] = is_first.long().cumsum(dim=0)[~is_first]
    return places


def _keys(rows: Tensor, products: Tensor) -> Tensor:
    """Return numbers [m] int64 that sort by row and then by product: float32 bits, negative ones turned round."""
    bits = (products + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    return (rows << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
