"""A metric whose results are checked before compiled loops read them."""

from __future__ import annotations

from torch import Tensor

from reidbench.errors import check_tensor, contract_error, plugin_call
from reidbench.plugins.interfaces import Metric, owner_of


class CheckedMetric(Metric):
    """A metric whose results are checked, so that no compiled loop gets an array of another shape than it reads.

    Takes a metric and raises PluginError, here and in every method, for what breaks the contract.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric, self.plugin_item, self.normalize = metric, owner_of(metric), metric.normalize
        self._projected: int | None = None  # columns, the same for all rows
        self._columns: int | None = None  # of factors, the same for all rows
        if not isinstance(metric.normalize, bool):
            raise contract_error(self.plugin_item, "normalize", "true or false", metric.normalize)

    def project(self, embeddings: Tensor) -> Tensor:
        """Return the metric's rows; raises PluginError."""
        with plugin_call(self.plugin_item, "project"):
            rows = self.metric.project(embeddings)
        shape = (len(embeddings), self._projected)
        self._projected = check_tensor(self.plugin_item, "project", rows, shape, (embeddings.dtype,)).shape[1]
        return rows

    def factors(self, embeddings: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the metric's factors; raises PluginError."""
        with plugin_call(self.plugin_item, "factors"):
            factors = self.metric.factors(embeddings)
        if factors is None and self._columns is None:
            return None
        if not isinstance(factors, tuple) or len(factors) != 2:
            expected = "two tensors (left, right), or None for all rows"
            raise contract_error(self.plugin_item, "factors", expected, factors)
        for side, values in zip(("left", "right"), factors, strict=True):
            shape = (len(embeddings), self._columns)
            check_tensor(self.plugin_item, f"factors: {side}", values, shape, (embeddings.dtype,))
            self._columns = values.shape[1]
        if self._columns == 0:
            raise contract_error(self.plugin_item, "factors", "of 1 column or more", factors[0])
        return factors

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the metric's distances; raises PluginError."""
        with plugin_call(self.plugin_item, "distances"):
            values = self.metric.distances(a, b)
        return check_tensor(self.plugin_item, "distances", values, (len(a), len(b)), (a.dtype,))

    def pair_distances(self, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the metric's distances of pairs; raises PluginError."""
        with plugin_call(self.plugin_item, "pair_distances"):
            values = self.metric.pair_distances(a, b, first, second)
        return check_tensor(self.plugin_item, "pair_distances", values, (len(first),), (a.dtype,))
