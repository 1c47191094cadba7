"""A device: its memory, what to lower where memory ends, and copies to and from the host that wait for nothing else."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.errors import OutOfMemory


def available_memory(device: torch.device) -> int:
    """Return the bytes that this process can still allocate on ``device``, including what torch has reserved there.

    On a CPU it is the memory that Linux calls available, shared equally by the processes that torchrun started.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kibibytes * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def peak_memory_mib(device: torch.device) -> int:
    """Return the most memory used so far in MiB: of the device where it is a GPU, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@contextmanager
def out_of_memory_advice(device: torch.device, advice: str) -> Iterator[None]:
    """Raise OutOfMemory with ``advice``, a phrase that says what to lower, where memory ends in the block."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        sentences = str(error).partition("\n")[0].split(". ")
        reason = next((sentence for sentence in sentences if "allocate" in sentence), sentences[0]).strip()
        message = f"out of memory on {device}: {reason or type(error).__name__}; {advice}"
    else:
        return
    raise OutOfMemory(message)  # outside the handler: its traceback would keep the memory of the block alive


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
