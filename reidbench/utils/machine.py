"""The settings of a machine, which never enter an id, and the versions of what computes on it."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from reidbench.errors import OptionError
from reidbench.utils.processes import ALONE, World

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


# Subfolder of the cache: synthetic data for the scales of suites.
SCALES = "scales"


def _folder(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else otherwise


def default_data() -> Path:
    """Return ``REIDBENCH_DATA``, or the platform's folder for user data."""
    return _folder("REIDBENCH_DATA", platformdirs.user_data_path("reidbench"))


def default_results() -> Path:
    """Return ``REIDBENCH_RESULTS``, or ``results`` in the current directory."""
    return _folder("REIDBENCH_RESULTS", Path("results"))


def default_cache() -> Path:
    """Return ``REIDBENCH_CACHE``, or the platform's cache folder."""
    return _folder("REIDBENCH_CACHE", platformdirs.user_cache_path("reidbench"))


AUTO = "auto"
CHECKPOINT_SECONDS = 15.0
MOST_THREADS = 256  # thousands of threads exhaust a machine


def no_log(line: str) -> None:
    """Drop a line."""


@dataclass(frozen=True)
class Machine:
    """The settings of this machine, none of which enters an id; ``local_machine`` makes it.

    ``data``: root folder of the datasets.
    ``results``: folder of trainings and runs.
    ``cache``: folder of decoded pixels and of other files that can be computed again.
    ``device``: device of training and embedding.
    ``threads``: number of CPU threads of torch and of decoding.
    ``checkpoint_seconds``: seconds between two checkpoints; 0 writes one after every step.
    ``allow_partial``: whether a dataset with wrong counts is used; the record then says so.
    ``pixels``: where decoded training pixels are held: "auto", or the name of a store.
    ``log``: function that takes one line of text for each event.
    ``world``: the processes that train together.
    """

    data: Path
    results: Path
    cache: Path
    device: torch.device
    threads: int
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    allow_partial: bool = False
    pixels: str = AUTO
    log: Callable[[str], None] = no_log
    world: World = ALONE


def local_machine(
    *,
    data: Path | None = None,
    results: Path | None = None,
    cache: Path | None = None,
    device: str = AUTO,
    threads: int = 0,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    allow_partial: bool = False,
    pixels: str = AUTO,
    log: Callable[[str], None] = no_log,
    world: World = ALONE,
) -> Machine:
    """Return this machine's settings: the arguments, else the environment, else the platform's folders.

    ``device`` is "auto", "cpu", "cuda" or "cuda:N"; ``threads`` 0 is one thread for each core, shared between the
    processes of ``world`` on this machine. Raises OptionError where a value is out of range or the device is missing.
    """
    if not 0 <= threads <= MOST_THREADS:
        raise OptionError(f"--threads: expected 0 to {MOST_THREADS}, got {threads}")
    if not checkpoint_seconds >= 0:
        raise OptionError(f"--checkpoint-seconds: expected 0 or more, got {checkpoint_seconds}")
    local_processes = int(os.environ["LOCAL_WORLD_SIZE"]) if world.size > 1 else 1
    return Machine(
        data=data or default_data(),
        results=results or default_results(),
        cache=cache or default_cache(),
        device=find_device(device, world),
        threads=threads or max(1, len(os.sched_getaffinity(0)) // local_processes),
        checkpoint_seconds=checkpoint_seconds,
        allow_partial=allow_partial,
        pixels=pixels,
        log=log,
        world=world,
    )


def find_device(name: str = AUTO, world: World = ALONE) -> torch.device:
    """Return the device called "auto", "cpu", "cuda" or "cuda:N"; each of several processes gets a GPU of its own.

    Raises OptionError where there is no such device, or one GPU is named for several processes.
    """
    import torch  # noqa: PLC0415 - --help needs no torch

    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise OptionError(f"--device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if world.size > 1 and device.type == "cuda":
        if device.index is not None:
            raise OptionError(f"--device {name}: {world.size} processes need a GPU each; use --device cuda")
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"--device {name}: this machine shows {torch.cuda.device_count()} GPUs to torch "
            f"{torch.__version__}; use --device cpu, or install a build of torch for your GPU's driver"
        )
    return device


def cpu_name() -> str:
    """Return the processor's name as the kernel gives it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@dataclass(frozen=True)
class Environment:
    """The machine and the libraries of a computation.

    ``reidbench``, ``torch``, ``numpy``, ``numba``, ``pillow``, ``simplejpeg``, ``python``: versions.
    ``system``: the operating system.
    ``cpu``: the processor's name.
    ``cores``: the number of the machine's cores.
    ``device``: torch's name of the device.
    ``device_name``: the model of the GPU, or "cpu".
    ``threads``: the number of CPU threads.
    ``processes``: the number of processes that trained together.
    """

    reidbench: str
    torch: str
    numpy: str
    numba: str
    pillow: str
    simplejpeg: str
    python: str
    system: str
    cpu: str
    cores: int
    device: str
    device_name: str
    threads: int
    processes: int


def environment(machine: Machine, processes: int = 1) -> Environment:
    """Return what results depend on here; ``processes`` is the number of those that train together."""
    import torch  # noqa: PLC0415

    return Environment(
        **{name: metadata.version(name) for name in ("reidbench", "torch", "numpy", "numba", "pillow", "simplejpeg")},
        python=platform.python_version(),
        system=platform.platform(),
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        device=str(machine.device),
        device_name=torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else "cpu",
        threads=machine.threads,
        processes=processes,
    )
