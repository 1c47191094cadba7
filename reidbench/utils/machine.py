"""The settings of a machine, which never enter an id, and the versions of what computes on it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from reidbench.errors import OptionError
from reidbench.utils.processes import ALONE, World

if TYPE_CHECKING:
    import torch

    from reidbench.utils.progress import Overall


# Subfolder of the cache: synthetic data for the scales of suites.
SCALES = "scales"


def user_path(path: str | Path) -> Path:
    """Return a path with ``~`` or ``~USER`` at its start replaced by that user's home folder, if there is one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such user


def _folder(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    return user_path(value) if value else otherwise


def default_data() -> Path:
    """Return ``REIDBENCH_DATA``, or the platform's folder for user data."""
    return _folder("REIDBENCH_DATA", platformdirs.user_data_path("reidbench"))


def default_cache() -> Path:
    """Return ``REIDBENCH_CACHE``, or the platform's cache folder."""
    return _folder("REIDBENCH_CACHE", platformdirs.user_cache_path("reidbench"))


AUTO = "auto"
CHECKPOINT_SECONDS = 15.0
MOST_THREADS = 256  # thousands of threads exhaust a machine


def no_log(line: str) -> None:
    """Drop a line."""


class Observer:
    """Follows a run from outside without changing it; this one does nothing.

    ``validate_every``: number of training steps after which the network is scored each time, 0 for never.
    """

    validate_every: int = 0

    def start(self, step: int) -> None:
        """Begin before the training step with this number, from 0."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take values of a step, by their names in the log, that the host has anyway."""

    def validate(self, steps: int, backbone: Any) -> Mapping[str, float]:
        """Return scores of the network after so many steps, by their names in the log; it is handed back unchanged."""
        return {}

    def finish(self, record: Any) -> None:
        """End with the run's record."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The settings of this machine, none of which enters an id; ``local_machine`` makes it.

    ``device``: device of training and embedding.
    ``threads``: number of CPU threads of torch and of decoding.
    ``data``: root folder of the datasets.
    ``results``: folder of trainings and runs.
    ``cache``: folder of decoded pixels and of other files that can be computed again.
    ``checkpoint_seconds``: seconds between two checkpoints; 0 writes one after every step.
    ``allow_partial``: whether a dataset with wrong counts is used; the record then says so.
    ``pixels``: store of the decoded training images: "auto", "device" or "map".
    ``trackers``: specs of the trackers that follow each run.
    ``validate_every``: steps between two scorings of a network in training; 0 for none.
    ``log``: function that takes one line of text for each event.
    ``world``: the processes that train together.
    ``overall``: text about the whole call for progress lines.
    ``observer``: what follows the run that it is handed to.
    ``requested_device``: the device as requested, which another machine resolves for itself.
    ``requested_threads``: the number of threads as requested.
    """

    device: torch.device
    threads: int
    data: Path = field(default_factory=default_data)
    results: Path = field(default_factory=lambda: _folder("REIDBENCH_RESULTS", Path("results")))
    cache: Path = field(default_factory=default_cache)
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    allow_partial: bool = False
    pixels: str = AUTO
    trackers: Sequence[str] = ()
    validate_every: int = 0
    log: Callable[[str], None] = no_log
    world: World = ALONE
    overall: Overall | None = None
    observer: Observer = field(default_factory=Observer)
    requested_device: str = AUTO
    requested_threads: int = 0

    def __post_init__(self) -> None:
        for name in ("data", "results", "cache"):
            if not isinstance(value := getattr(self, name), str | Path):
                raise OptionError(f"{name}: expected the path of a folder, got {value!r}")
            object.__setattr__(self, name, user_path(value))


def local_machine(*, device: str = AUTO, threads: int = 0, world: World = ALONE, **settings: Any) -> Machine:
    """Return this machine's settings: the arguments, else the environment, else the platform's folders.

    ``device`` is "auto", "cpu", "cuda" or "cuda:N"; ``threads`` 0 is one thread for each core, shared between the
    processes of ``world`` on this machine. ``settings`` are other fields of Machine, None for the default. Raises
    OptionError where a value is out of range or the device is missing.
    """
    if not isinstance(threads, int) or not 0 <= threads <= MOST_THREADS:
        raise OptionError(f"--threads: expected 0 to {MOST_THREADS}, got {threads!r}")
    local_processes = int(os.environ["LOCAL_WORLD_SIZE"]) if world.size > 1 else 1
    machine = Machine(
        device=find_device(device, world),
        threads=threads or max(1, len(os.sched_getaffinity(0)) // local_processes),
        world=world,
        requested_device=device,
        requested_threads=threads,
        **{name: value for name, value in settings.items() if value is not None},
    )
    for name in ("checkpoint_seconds", "validate_every"):
        if not (value := getattr(machine, name)) >= 0:
            raise OptionError(f"--{name.replace('_', '-')}: expected 0 or more, got {value}")
    return machine


def find_device(name: str = AUTO, world: World = ALONE) -> torch.device:
    """Return the device called "auto", "cpu", "cuda" or "cuda:N"; each of several processes gets a GPU of its own.

    Raises OptionError where there is no such device, or one GPU is named for several processes.
    """
    import torch  # noqa: PLC0415 - --help needs no torch

    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]?))?", str(name)):
        raise OptionError(f"--device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    if world.size > 1 and device.type == "cuda":
        if device.index is not None:
            raise OptionError(f"--device {name}: {world.size} processes need a GPU each; use --device cuda")
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        shown = f"this machine shows {torch.cuda.device_count()} GPUs to torch {torch.__version__}"
        advice = "use --device cpu, or install a build of torch for your GPU's driver"
        raise OptionError(f"--device {name}: {shown}; {advice}")
    return device


def cpu_name() -> str:
    """Return the processor's name as the kernel gives it, or its architecture."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
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
