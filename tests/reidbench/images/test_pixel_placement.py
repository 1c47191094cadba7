"""Which tier is chosen at which size, and what is said where none has room."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from reidbench.errors import DataError, OptionError
from reidbench.images.pixel_placement import Room, check_name, choose, describe, room_of
from reidbench.utils.machine import free_memory, in_gib

GIB = 2**30
CACHE = Path("/cache")


def room(device: float = 24, host: float = 64, disk: float = 500, name: str = "cuda:0") -> Room:
    return Room(int(device * GIB), int(host * GIB), int(disk * GIB), name, CACHE)


def on_cpu(memory: float, disk: float = 500) -> Room:
    return room(memory, memory, disk, "cpu")


# Training images of MARS at 144 x 72, and of Market-1501 at 288 x 144.
MARS = 509_914 * 144 * 72 * 3
MARKET = 12_936 * 288 * 144 * 3


@pytest.mark.parametrize(
    ("size", "there", "expected"),
    [
        (MARKET, room(), "device"),
        (MARKET, on_cpu(22), "device"),
        (MARS, room(device=80), "device"),
        (MARS, room(device=24), "host"),
        (MARS, room(device=24, host=24), "map"),
        (MARS, on_cpu(22), "map"),
        (MARS, on_cpu(64), "device"),
        (MARS, on_cpu(22, disk=12), "stream"),
        (MARS, room(device=80, disk=12), "stream"),  # nothing is held that was not decoded to the disk first
        (MARKET, room(disk=0.1), "stream"),
        (8 * GIB, on_cpu(16), "device"),  # half is allowed
        (8 * GIB + 1, on_cpu(16), "map"),
        (9 * GIB, on_cpu(1, disk=10), "map"),  # nine tenths are
        (9 * GIB + 1, on_cpu(1, disk=10), "stream"),
        (0, on_cpu(1), "device"),
    ],
)
def test_chosen_by_size(size: int, there: Room, expected: str) -> None:
    assert choose("auto", size, there, kept=False).name == expected


def test_pixels_that_lie_on_the_disk_need_no_room_there() -> None:
    assert choose("auto", MARS, on_cpu(22, disk=0), kept=True).name == "map"
    assert choose("auto", MARKET, on_cpu(22, disk=0), kept=True).name == "device"
    assert choose("map", MARS, on_cpu(22, disk=0), kept=True).name == "map"


def test_what_is_asked_for_is_taken_where_there_is_room() -> None:
    for name in ("device", "host", "map", "stream"):
        chosen = choose(name, MARKET, room(), kept=False)
        assert (chosen.name, chosen.why) == (name, "as asked")
    assert choose("device", 20 * GIB, room(), kept=False).name == "device"  # more than half: whoever asks may have it
    assert choose("stream", MARS, on_cpu(1, disk=0), kept=False).name == "stream"


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        ("device", room(device=1), "14.8 GiB are needed, 1.0 GiB are free on cuda:0; .* --pixels host or map"),
        ("host", room(host=2), "14.8 GiB are needed, 2.0 GiB are free in memory; .* --pixels map"),
        ("map", room(disk=3), "14.8 GiB are needed, 3.0 GiB are free on the disk of /cache; .* --pixels stream"),
        ("device", room(disk=0), "14.8 GiB are needed, 0 MiB are free on the disk of /cache"),
    ],
)
def test_what_is_asked_for_and_has_no_room_is_refused(wanted: str, there: Room, said: str) -> None:
    with pytest.raises(DataError, match=f"--pixels {wanted}: {said}"):
        choose(wanted, MARS, there, kept=False)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        OptionError, match=r"expected auto, device, host, map or stream, got 'maps'; did you mean map\?"
    ):
        choose("maps", 1, room(), kept=True)
    with pytest.raises(OptionError, match=r"got 'x'$"):
        check_name("x")
    check_name("auto")


def test_a_choice_is_said_with_its_reason() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    shape = (509_914, 144, 72, 3)

    def said(there: Room, device: torch.device, size: int = MARS) -> str:
        return describe(choose("auto", size, there, kept=False), shape, device)

    assert said(on_cpu(64), cpu) == (
        "509,914 training images of 144x72 are in the memory of the machine (14.8 GiB of 64.0 GiB free)"
    )
    assert "are in the memory of cuda:1 (14.8 GiB of 80.0 GiB free)" in said(room(80), gpu)
    assert "mapped from the disk, batches prefetched (14.8 GiB are more than half of the 22.0 GiB" in said(
        on_cpu(22), cpu
    )
    assert "decoded anew for every batch (14.8 GiB are needed, 2.0 GiB are free on the disk of /cache: make" in said(
        on_cpu(22, disk=2), cpu
    )
    assert in_gib(3 * 2**20) == "3 MiB"


def test_what_is_free_here(tmp_path: Path) -> None:
    there = room_of(torch.device("cpu"), tmp_path / "not" / "there" / "yet")
    assert there.name == "cpu"
    assert there.device == there.host > 2**20
    assert there.disk > 0


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = room_of(torch.device("cpu"), tmp_path)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert room_of(torch.device("cpu"), tmp_path).host < whole.host / 4


def test_the_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   8000 kB\n")
    assert free_memory(meminfo, tmp_path) == 8000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(meminfo, tmp_path) == 8000 * 1024
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert free_memory(meminfo, tmp_path) == 1_500_000
    assert free_memory(tmp_path / "none", tmp_path) > 2**20


def test_the_limit_of_the_process_counts() -> None:
    assert 2**20 < free_memory() < 2**45
    limit, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, hard))
    try:
        assert 0 < free_memory() <= 2**29
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
