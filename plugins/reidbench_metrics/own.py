"""The distances of the network's own pair stage, of all pairs or of each query's shortlist."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from reidbench import Metric, OptionError, PairMetric, hookimpl

PAIRS = 256  # in every call of the network, so that no distance depends on its place or on the number of pairs


class Own(PairMetric):
    """The distance of a network that compares pairs of images; the default for such a network.

    Options:
        shortlist: Number of gallery units that are compared with each query, or none for all.

    The rows of the images are computed once; the pairs are compared in blocks of 256, the last one padded. Several
    images of a query have the mean of their distances. With a shortlist all units are ranked by the Euclidean distances
    of ``Backbone.alone``; the closest of each query are then ranked by their pairs, and the others follow in the old
    order, with distances that only say so: the largest of the shortlist, plus 1, plus the old one. A shortlist of the
    whole gallery is the same as none. Raises OptionError for a shortlist below 1.
    """

    def __init__(self, *, shortlist: int | None = None) -> None:
        if shortlist is not None and shortlist < 1:
            raise OptionError(f"own: option shortlist: expected 1 or more, or none, got {shortlist}")
        self.shortlist = shortlist

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [len(a), len(b)] of all pairs of rows."""
        first, second = torch.meshgrid(torch.arange(len(a)), torch.arange(len(b)), indexing="ij")
        return self.pair_distances(a, b, first.flatten(), second.flatten()).view(len(a), len(b))

    @torch.inference_mode()
    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances [n] of the rows ``first`` of ``a`` and ``second`` of ``b``, in the dtype of ``a``."""
        device = self._device
        values = torch.empty(len(first), dtype=a.dtype)
        padding = torch.zeros(-len(first) % PAIRS, dtype=torch.int64)
        sides = (torch.cat([places, padding]).split(PAIRS) for places in (first, second))
        for start, (i, j) in zip(range(0, len(first), PAIRS), zip(*sides, strict=True), strict=True):
            pairs = self.network.pair(a[i].float().to(device), b[j].float().to(device))
            values[start : start + PAIRS] = pairs[: len(first) - start].cpu()
        return values

    @property
    def _device(self) -> torch.device:
        return next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))

    def blocks(self, query: Tensor, gallery: Tensor, metric: Metric, rows: int) -> Iterator[Tensor]:
        """Yield the distances [at most ``rows``, len(gallery)] float64 of query units, in order."""
        query, gallery = (side.float().to(self._device) for side in (query, gallery))
        alone = [self._alone(side) for side in (query, gallery)] if self.shortlist else None
        for first in range(0, len(self.starts) - 1, rows):
            starts = self.starts[first : first + rows + 1]
            images, places = slice(starts[0], starts[-1]), torch.from_numpy(starts - starts[0])
            if alone is None:
                yield _mean(self.distances(query[images], gallery), places).double()
            else:
                closeness = _mean(torch.cdist(alone[0][images], alone[1]), places)
                yield self._with_shortlists(query[images], gallery, places, closeness)

    @torch.inference_mode()
    def _alone(self, rows: Tensor) -> Tensor:
        """Return the network's embeddings [n, d] float64 of rows without their pairs."""
        padded = torch.cat([rows, rows[:1].expand(-len(rows) % PAIRS, -1)])
        parts = [self.network.alone(part).double().cpu() for part in padded.split(PAIRS)]
        return torch.cat(parts)[: len(rows)]

    def _with_shortlists(self, query: Tensor, gallery: Tensor, starts: Tensor, alone: Tensor) -> Tensor:
        """Return distances [n, ng] of the n units of ``query``: of pairs in each shortlist, ``alone`` behind it."""
        assert self.shortlist is not None
        chosen = alone.argsort(dim=1, stable=True)[:, : self.shortlist]
        lengths = starts.diff()
        units = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        images = torch.arange(len(query))[:, None].expand(-1, chosen.shape[1])
        values = self.pair_distances(query, gallery, images.flatten(), chosen[units].flatten())
        pairs = _mean(values.view(len(query), -1), starts).double()
        return (alone + 1 + pairs.amax(dim=1, keepdim=True)).scatter(1, chosen, pairs)


def _mean(values: Tensor, starts: Tensor) -> Tensor:
    """Return the mean [n, k] of the rows of each unit of ``values`` [m, k]; unit i has rows starts[i]:starts[i + 1]."""
    if len(values) == len(starts) - 1:
        return values
    return torch.segment_reduce(values, "mean", offsets=starts, axis=0)


@hookimpl
def register_metrics() -> dict[str, Callable[..., Metric]]:
    """Offer own."""
    return {"own": Own}
