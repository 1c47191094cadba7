"""What a training looks like from inside, step by step: the statistics of Supplementary F, and what goes wrong.

Everything is measured on the device and kept there, one row a step, so that no step waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.plugins.interfaces import LossValue
from reidbench.utils.device_copy import to_device
from reidbench.utils.random_streams import stream

# Supplementary F counts a term of the loss as active above this, which is why a soft margin can fall below 100 %.
ACTIVE = 1e-5
PERCENTILES = (0, 5, 50, 95, 100)
KEPT_ITEMS = 128

_MEASURED = ("item", "norm", "entry", "distance")
COLUMNS = (
    "active",
    "item_mean",
    "gradient_norm",
    *(f"{what}_{percentile}" for what in _MEASURED for percentile in PERCENTILES),
)

# A network whose distances are this small beside its norms tells no two images apart (design: from distances alone).
PACKED = 1e-3
SHARE_JUDGED, MOST_JUDGED = 10, 50

Verdict = Literal["healthy", "packed", "collapsed"]


class Monitor:
    """The log of a training of ``steps`` steps: ``rows`` [steps, columns] float32 and ``items`` [steps, 128] float16.

    ``items`` are a step's terms of the loss, a sample drawn from (seed, step) where there are more, nan where fewer.
    """

    def __init__(self, steps: int, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.rows = torch.full((steps, len(COLUMNS)), torch.nan, device=device)
        self.items = torch.full((steps, KEPT_ITEMS), torch.nan, dtype=torch.float16, device=device)

    @torch.no_grad()
    def record(self, step: int, value: LossValue, embeddings: Tensor, gradient_norm: Tensor) -> None:
        """Keep what one step shows; ``embeddings`` [B, D], ``gradient_norm`` 0-d."""
        terms = [item.detach().reshape(-1).float() for item in value.per_item.values() if item.numel()]
        items = torch.cat(terms) if terms else value.total.detach().reshape(1).float()
        points = embeddings.detach().float()
        active = (items > ACTIVE).float().mean() if terms else torch.ones((), device=items.device)
        norms = torch.linalg.vector_norm(points, dim=1)
        measured = (items, norms, points.reshape(-1), torch.nn.functional.pdist(points))
        heads = [active, items.mean(), gradient_norm.detach().float().reshape(())]
        self.rows[step] = torch.cat([torch.stack(heads), *(percentiles(each) for each in measured)])
        if len(items) > KEPT_ITEMS:
            chosen = stream(self.seed, "monitor", step).permutation(len(items))[:KEPT_ITEMS]
            items = items[to_device(chosen, items.device)]
        # Beyond the range of half precision a term is shown as its end, not as infinity.
        largest = torch.finfo(torch.float16).max
        self.items[step, : len(items)] = items.clamp(-largest, largest).to(torch.float16)

    def glance(self, step: int) -> str:
        """Return what a step looked like in a few words; waits for the device."""
        return f"{100 * self.active(step):3.0f} % active" + "  packed" * self.packed(step)

    def active(self, step: int) -> float:
        """Return the share of a step's terms above 1e-5, or 1.0 where the loss does not give its terms."""
        return float(self.rows[step, COLUMNS.index("active")])

    def packed(self, step: int) -> bool:
        """Return whether the batch of a step is packed into one point; never a reason to stop (Supplementary F)."""
        return bool(self._packed(step, step + 1))

    def verdict(self, done: int) -> Verdict:
        """Return what became of a training of ``done`` steps.

        "collapsed": its last steps, a tenth of all but at least 1 and at most 50, were all packed; "packed": some were,
        and it recovered; a loss that stagnates while fewer of its terms are active is healthy.
        """
        judged = min(max(done // SHARE_JUDGED, 1), MOST_JUDGED)
        if bool(self._packed(done - judged, done).all()):
            return "collapsed"
        return "packed" if self.packed_steps(done) else "healthy"

    def packed_steps(self, done: int) -> int:
        """Return how many of the first ``done`` steps were packed."""
        return int(self._packed(0, done).sum())

    def _packed(self, start: int, end: int) -> Tensor:
        rows = self.rows[start:end]
        spread, norm = rows[:, COLUMNS.index("distance_95")], rows[:, COLUMNS.index("norm_50")]
        return (spread < PACKED * norm) | (spread <= torch.finfo(torch.float32).eps)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"monitor.rows": self.rows, "monitor.items": self.items}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what ``tensors`` gave."""
        self.rows.copy_(tensors["monitor.rows"])
        self.items.copy_(tensors["monitor.items"])

    def arrays(self) -> dict[str, NDArray[np.float32] | NDArray[np.float16]]:
        """Return the log as arrays: each column [steps] by its name, and ``items`` [steps, 128] float16."""
        rows = self.rows.cpu().numpy()
        return {name: rows[:, place] for place, name in enumerate(COLUMNS)} | {"items": self.items.cpu().numpy()}


def percentiles(values: Tensor) -> Tensor:
    """Return the 0, 5, 50, 95 and 100 percentiles [5] of ``values`` [n]: the value at place round(p (n - 1) / 100).

    nan where n is 0.
    """
    if not len(values):
        return torch.full((len(PERCENTILES),), torch.nan, device=values.device)
    places = [round(percentile * (len(values) - 1) / 100) for percentile in PERCENTILES]
    ordered = values.sort().values
    return torch.stack([ordered[place] for place in places])  # a list as an index would be sent, and waited for
