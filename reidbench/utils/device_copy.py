"""Numbers between the host and the device, without making either wait for more than them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Reading:
    """Numbers of the device, 0-d tensors, on their way to the host; later changes of the tensors do not reach them."""

    def __init__(self, numbers: Sequence[Tensor]) -> None:
        device = numbers[0].device
        together = torch.stack([number.detach().to(device, torch.float64) for number in numbers])
        self._arrived: torch.cuda.Event | None = None
        self._host = together
        if device.type == "cuda":
            self._host = torch.empty_like(together, device="cpu", pin_memory=True)
            self._host.copy_(together, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(device))

    def values(self) -> list[float]:
        """Return the numbers; waits for them alone, not for what the device was given to do after them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[float] = self._host.tolist()
        return found


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array on ``device``; a GPU gets it in its own time, and nobody waits."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
