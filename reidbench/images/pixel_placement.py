"""Where the decoded training pixels are held: chosen by their size, or as a setting says.

A tier changes no number: the batches are the same bit for bit.
"""

from __future__ import annotations

import difflib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch

from reidbench.errors import DataError, OptionError
from reidbench.utils.machine import free_on, in_gib

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


def room_of(device: torch.device, cache: Path) -> Room:
    """Return what is free here and now."""
    folder = next(path for path in (cache, *cache.absolute().parents) if path.is_dir())
    disk = shutil.disk_usage(folder).free
    return Room(free_on(device), free_on(torch.device("cpu")), disk, str(device), cache)
