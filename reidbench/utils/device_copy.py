"""Copies between host and device that wait for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class DeferredNumbers:
    """0-d tensors on their way from a device to the host; changing the tensors afterwards has no effect."""

    def __init__(self, numbers: Sequence[Tensor]) -> None:
        device = numbers[0].device
        stacked = torch.stack([number.detach().to(device, torch.float64) for number in numbers])
        self._copied: torch.cuda.Event | None = None
        self._host = stacked
        if device.type == "cuda":
            self._host = torch.empty_like(stacked, device="cpu", pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(device))

    def values(self) -> list[float]:
        """Return the numbers; waits for their copy only, not for work that the device was given after it."""
        if self._copied is not None:
            self._copied.synchronize()
        numbers: list[float] = self._host.tolist()
        return numbers


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on ``device``; the copy to a GPU is queued and not waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
