"""What belongs to a machine and never enters an id: folders, device, threads, how often to save."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from reidbench.errors import OptionError

if TYPE_CHECKING:
    import torch


def in_gib(size: int) -> str:
    """Return bytes as people say them: "3 MiB", "1.6 GiB"."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 / 10 else f"{size / 2**30:,.1f} GiB"


def free_on(device: torch.device) -> int:
    """Return how many bytes this process can still take on ``device``, what torch keeps in reserve there included.

    Processes that torchrun started beside this one want as much of the machine's memory each.
    """
    import torch  # noqa: PLC0415

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that a process can still take: the least of what the machine, its control groups and
    its own limit leave.

    Elsewhere than on Linux half of what the machine has stands for the first.
    """
    found = [_kibibytes(meminfo, "MemAvailable:") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit - _kibibytes(Path("/proc/self/status"), "VmSize:"))
    try:
        own = Path("/proc/self/cgroup").read_text().partition("0::/")[2].splitlines()[0]
    except (OSError, IndexError):
        return max(0, min(found))
    for folder in (groups / own, *(groups / own).parents):
        try:
            most, used = int((folder / "memory.max").read_text()), int((folder / "memory.current").read_text())
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        # Pages that only mirror a disk are given up when memory is short.
        found.append(most - used + int(counts.get("inactive_file", 0)))
    return max(0, min(found))


def _kibibytes(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


# Below the cache folder: the data that are drawn for a suite's scales.
SCALES = "scales"


def _folder(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else otherwise


def default_data() -> Path:
    """Return ``REIDBENCH_DATA``, or the platform's folder for user data."""
    return _folder("REIDBENCH_DATA", platformdirs.user_data_path("reidbench"))


def default_results() -> Path:
    """Return ``REIDBENCH_RESULTS``, or ``results`` in the present folder."""
    return _folder("REIDBENCH_RESULTS", Path("results"))


def default_cache() -> Path:
    """Return ``REIDBENCH_CACHE``, or the platform's cache folder."""
    return _folder("REIDBENCH_CACHE", platformdirs.user_cache_path("reidbench"))


@dataclass(frozen=True)
class Settings:
    """A machine's settings.

    ``device`` is "auto", "cpu" or "cuda[:N]"; ``threads`` is the number of CPU threads of torch and of decoding (0: as
    many as there are cores); ``checkpoint_seconds`` is the time between two checkpoints; ``allow_partial`` goes on with
    a data set whose counts are not those that it should have, which the record then says; ``pixels`` says where the
    decoded training pixels are held: "auto", or one of the names in tiers.py.
    """

    data: Path = field(default_factory=default_data)
    results: Path = field(default_factory=default_results)
    cache: Path = field(default_factory=default_cache)
    device: str = "auto"
    threads: int = 0
    checkpoint_seconds: float = 15.0
    allow_partial: bool = False
    pixels: str = "auto"


AUTO = "auto"


def device_of(settings: Settings) -> torch.device:
    """Return the device that the settings ask for; raises OptionError where it is not there."""
    import torch  # noqa: PLC0415 - --help reads the settings and needs no torch

    if settings.device == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
    except RuntimeError:
        raise OptionError(f"--device: expected auto, cpu, cuda or cuda:N, got {settings.device!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"--device {settings.device}: this machine shows {torch.cuda.device_count()} GPUs to torch "
            f"{torch.__version__}; use --device cpu, or install a build of torch for your GPU's driver"
        )
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise OptionError(f"--device: expected auto, cpu, cuda or cuda:N, got {settings.device!r}")
    return device


def threads_of(settings: Settings) -> int:
    """Return the number of CPU threads to use."""
    return settings.threads or len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """Return the processor's name as the kernel gives it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def environment(device: torch.device, threads: int, processes: int = 1) -> dict[str, Any]:
    """Return what numbers are made with here: versions of libraries, device, threads, processes, system."""
    import torch  # noqa: PLC0415

    versions = {
        name: metadata.version(name) for name in ("reidbench", "torch", "numpy", "numba", "pillow", "simplejpeg")
    }
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads,
        "processes": processes,
    }
