"""Statistics of every training step, as in Supplementary F of Hermans et al. 2017, and whether the embeddings collapse.

They are computed on the device and stay there, one row for each step, so that no step waits for the device.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.plugins.interfaces import LossValue
from reidbench.utils.device import to_device
from reidbench.utils.random_streams import stream

# Supplementary F counts a term of the loss as active above this, so that a soft margin can fall below 100 %.
ACTIVE = 1e-5
PERCENTILES = (0, 5, 50, 95, 100)
LOGGED_ITEMS = 128

_MEASURES = ("item", "norm", "entry", "distance")
_SCALARS = ("active", "item_mean", "gradient_norm", "network_gradient_norm")
COLUMNS = (*_SCALARS, *(f"{measure}_{percentile}" for measure in _MEASURES for percentile in PERCENTILES))

# With distances this small relative to the norms, a network does not tell images apart (design: from distances alone).
PACKED = 1e-3
JUDGED_SHARE, MOST_JUDGED = 10, 50

# Above the norm that rounding gives the gradient of a constant (2e-7 for |x / |x||, float32), below that of any loss.
NO_GRADIENT = 1e-6

Verdict = Literal["healthy", "packed", "collapsed", "no_gradient"]


class Monitor:
    """The log of a training of ``steps`` steps.

    ``rows`` [steps, columns] float32: the statistics of each step.
    ``items`` [steps, 128] float16: the terms of each step's loss; where there are more, a random sample that follows
    from (seed, step); nan where there are fewer.
    """

    def __init__(self, steps: int, seed: int, device: torch.device) -> None:
        self.steps, self.seed = steps, seed
        self.rows = torch.full((steps, len(COLUMNS)), torch.nan, device=device)
        self.items = torch.full((steps, LOGGED_ITEMS), torch.nan, dtype=torch.float16, device=device)

    @torch.no_grad()
    def record(self, step: int, value: LossValue, embeddings: Tensor, gradient_norms: tuple[Tensor, Tensor]) -> None:
        """Store the statistics of one step; ``embeddings`` [B, D], the norms 0-d: of all parameters, the network's."""
        terms = [item.detach().reshape(-1).float() for item in value.per_item.values() if item.numel()]
        items = torch.cat(terms) if terms else value.total.detach().reshape(1).float()
        points = embeddings.detach().float()
        active = (items > ACTIVE).float().mean() if terms else torch.ones((), device=items.device)
        norms = torch.linalg.vector_norm(points, dim=1)
        measures = (items, norms, points.reshape(-1), torch.nn.functional.pdist(points))
        gradients = [norm.detach().float().reshape(()).to(items.device) for norm in gradient_norms]
        scalars = [active, items.mean(), *gradients]
        self.rows[step] = torch.cat([torch.stack(scalars), *(percentiles(values) for values in measures)])
        if len(items) > LOGGED_ITEMS:
            sample = stream(self.seed, "monitor", step).permutation(len(items))[:LOGGED_ITEMS]
            items = items[to_device(sample, items.device)]
        # A term beyond the range of half precision is logged as the end of the range, not as infinity.
        largest = torch.finfo(torch.float16).max
        self.items[step, : len(items)] = items.clamp(-largest, largest).to(torch.float16)

    def describe(self, step: int, frozen: bool) -> str:
        """Return the state of a step, with pretrained layers frozen or not, in a few words; waits for the device."""
        active = float(self.rows[step, COLUMNS.index("active")])
        packed, idle = (bool(check(step, step + 1)) for check in (self.packed, self._without_gradient))
        notes = {", packed": packed, ", frozen": frozen, ", no gradient": idle and not frozen}
        return f"{100 * active:.0f} % active" + "".join(note for note, holds in notes.items() if holds)

    def verdict(self, steps: int) -> Verdict:
        """Return the verdict on a training of ``steps`` steps.

        "collapsed": all of the last steps (a tenth, at least 1 and at most 50) are packed; "no_gradient": no step had a
        gradient for the network (a norm above ``NO_GRADIENT``), so that its weights learned nothing; "packed": some
        step is, but the training recovered. A loss that stagnates while fewer of its terms are active is healthy, even
        where in the end none is.
        """
        judged = min(max(steps // JUDGED_SHARE, 1), MOST_JUDGED)
        if bool(self.packed(steps - judged, steps).all()):
            return "collapsed"
        if bool(self._without_gradient(0, steps).all()):
            return "no_gradient"
        return "packed" if self.packed_steps(steps) else "healthy"

    def packed_steps(self, steps: int) -> int:
        """Return how many of the first ``steps`` steps are packed."""
        return int(self.packed(0, steps).sum())

    def _without_gradient(self, start: int, end: int) -> Tensor:
        return self.rows[start:end, COLUMNS.index("network_gradient_norm")] <= NO_GRADIENT

    def packed(self, start: int, end: int) -> Tensor:
        """Return for each of some steps whether all embeddings of its batch nearly coincide [end - start] bool.

        That is no reason to stop (Supplementary F).
        """
        rows = self.rows[start:end]
        spread, norm = rows[:, COLUMNS.index("distance_95")], rows[:, COLUMNS.index("norm_50")]
        return (spread < PACKED * norm) | (spread <= torch.finfo(torch.float32).eps)

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
    return torch.stack([ordered[place] for place in places])  # indexing by a list would wait for the device
