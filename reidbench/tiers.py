"""Where the decoded training pixels are held: chosen by their size, or as a setting says.

A tier changes no number: the batches are the same bit for bit.
"""

from __future__ import annotations

import difflib
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch

from reidbench.errors import DataError, OptionError

Name = Literal["device", "host", "map", "stream"]

AUTO = "auto"
WHAT: dict[Name, str] = {
    "device": "in the memory of {device}",
    "host": "in the machine's memory, batches prefetched",
    "map": "mapped from the disk, batches prefetched",
    "stream": "decoded anew for every batch",
}
# Networks, optimizers and other programs need memory too, and checkpoints and logs need a place on the disk.
MEMORY_SHARE = 0.5
DISK_SHARE = 0.9


@dataclass(frozen=True)
class Room:
    """What is free, in bytes: on the device, in the machine's memory, and on the disk of the cache folder.

    On the CPU ``device`` is the machine's memory too. ``cache`` is the folder.
    """

    device: int
    host: int
    disk: int
    name: str
    cache: Path


@dataclass(frozen=True)
class Tier:
    """A choice: its ``name``, and ``why`` in words."""

    name: Name
    why: str


def check_name(wanted: str) -> None:
    """Raise OptionError where there is no tier of that name."""
    names = (AUTO, *WHAT)
    if wanted not in names:
        close = difflib.get_close_matches(wanted, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise OptionError(f"--pixels: expected {', '.join(names[:-1])} or {names[-1]}, got {wanted!r}{hint}")


def choose(wanted: str, size: int, room: Room, *, kept: bool) -> Tier:
    """Return where pixels of ``size`` bytes are held; ``kept`` says that they lie decoded on the disk already.

    "auto" takes the first that has room: half of the device's free memory, half of the machine's, nine tenths of the
    disk's; else images are decoded for every batch. All but the last keep the decoded pixels on the disk, so that the
    next run finds them. Raises OptionError for an unknown name, DataError where a tier that was asked for has no room.
    """
    check_name(wanted)
    free = {"device": room.device, "host": room.host, "disk": room.disk}
    where = {"device": f"on {room.name}", "host": "in memory", "disk": f"on the disk of {room.cache}"}

    def lacks(place: str) -> str:
        return f"{in_gib(size)} are needed, {in_gib(free[place])} are free {where[place]}"

    if wanted != AUTO:
        name = cast(Name, wanted)
        advice = {"device": "--pixels host or map", "host": "--pixels map", "disk": "--pixels stream"}
        needed = [] if name == "stream" or kept else ["disk"]
        needed += [name] if name in ("device", "host") else []
        for place in needed:
            if size > free[place]:
                raise DataError(f"--pixels {name}: {lacks(place)}; make room, or use {advice[place]}")
        return Tier(name, "as asked")
    if not kept and size > DISK_SHARE * free["disk"]:
        return Tier("stream", f"{lacks('disk')}: make room there to decode them only once")
    places: tuple[Literal["device", "host"], ...] = ("device",) if room.name == "cpu" else ("device", "host")
    for place in places:
        if size <= MEMORY_SHARE * free[place]:
            return Tier(place, f"{in_gib(size)} of {in_gib(free[place])} free")
    return Tier("map", f"{in_gib(size)} are more than half of the {in_gib(free['host'])} free in memory")


def describe(tier: Tier, shape: tuple[int, ...], device: torch.device) -> str:
    """Return a choice in words; ``shape`` is that of the pixels, (m, h, w, 3)."""
    where = WHAT[tier.name].format(device="the machine" if device.type == "cpu" else device)
    return f"{shape[0]:,} training images of {shape[1]}x{shape[2]} are {where} ({tier.why})"


def in_gib(size: int) -> str:
    """Return bytes as people say them: "3 MiB", "1.6 GiB"."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 / 10 else f"{size / 2**30:,.1f} GiB"


def room_of(device: torch.device, cache: Path) -> Room:
    """Return what is free here and now."""
    folder = next(path for path in (cache, *cache.absolute().parents) if path.is_dir())
    disk = shutil.disk_usage(folder).free
    return Room(free_on(device), free_on(torch.device("cpu")), disk, str(device), cache)


def free_on(device: torch.device) -> int:
    """Return how many bytes this process can still take on ``device``, what torch keeps in reserve there included.

    Processes that torchrun started beside this one want as much of the machine's memory each.
    """
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
