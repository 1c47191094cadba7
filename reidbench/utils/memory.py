"""Memory of a device: how much is available, how much was used, and what to lower where it ends."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

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
