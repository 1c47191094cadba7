"""The pixels on disk: whole or not there, whoever is killed, however many build them, whatever has changed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.data.samples import Samples
from reidbench.errors import DataError
from reidbench.images import pixel_file as pixel_cache
from reidbench.images.pixel_file import FOLDER, clear, entries, open_pixels, planned_tier, unfinished
from reidbench.images.pixel_placement import Room
from reidbench.images.pixel_store import HostPixels, PixelStore, StreamedPixels

SIZE = (36, 18)
BUILD = """
import sys, torch
from pathlib import Path
from reidbench.images import pixel_file as pixel_cache
from reidbench.images.pixel_file import open_pixels
from reidbench.data.samples import Samples
pixel_cache.MARK_SECONDS = 0
root, cache = map(Path, sys.argv[1:3])
names = sorted(path.name for path in root.iterdir())
samples = Samples.of_images(root, names, [1] * len(names), [1] * len(names))
print("ready", flush=True)
store = open_pixels(samples, 36, 18, cache=cache, threads=1, device=torch.device("cpu"), say=print)
print(int(store.pixels.astype(int).sum()), flush=True)
"""


MEASURE = """
import sys, torch
from pathlib import Path
from reidbench.images.pixel_file import open_pixels
from reidbench.images.augment import draw_windows
from reidbench.data.samples import Samples
from reidbench.plugins.interfaces import Preprocess
import numpy as np
SIZE = Preprocess(256, 128)
root, cache, tier = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
names = sorted(path.name for path in root.iterdir())
samples = Samples.of_images(root, names, [1] * len(names), [1] * len(names))
status = lambda name: next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(name)) // 1024
def build(folder, images):
    part = samples.take(images)
    how = {"cache": folder, "threads": 2, "device": torch.device("cpu"), "say": print, "tier": tier}
    store = open_pixels(part, 288, 144, **how)
    for step in range(len(part) // 50):
        units = np.arange(50 * step, 50 * step + 50)
        windows = draw_windows(store.shape, part, units, SIZE, crop=True, flip=True, seed=0, step=step)
        store.finish(store.fetch(windows, SIZE), SIZE)
    return store
kept = build(cache / "warm", np.arange(100))  # what is compiled and loaded once
Path("/proc/self/clear_refs").write_text("5")
before, own = status("VmHWM"), status("RssAnon")
kept = build(cache, np.arange(len(names)))
print(status("VmHWM") - before, status("RssAnon") - own)
"""


def tree(folder: Path, count: int, size: tuple[int, int] = (24, 12)) -> Samples:
    folder.mkdir()
    generator = np.random.default_rng(0)
    names = [f"{number:04d}.jpg" for number in range(count)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return Samples.of_images(folder, names, [1] * count, [1] * count)


def pixels(samples: Samples, cache: Path, said: list[str] | None = None) -> np.ndarray:
    say = print if said is None else said.append
    store = open_pixels(samples, *SIZE, cache=cache, threads=2, device=torch.device("cpu"), say=say)
    assert isinstance(store, HostPixels)
    return store.pixels


def plain(samples: Samples) -> np.ndarray:
    """The same pixels, one image after the other."""
    images = (Image.open(samples.path(number)).convert("RGB") for number in range(len(samples.images)))
    return np.stack([np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR)) for image in images])


def start(samples: Samples, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(samples.root), str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / FOLDER).iterdir())


def test_pixels_are_decoded_once_and_are_those_of_the_images(tmp_path: Path) -> None:
    samples = tree(tmp_path / "tree", 70)
    first = pixels(samples, tmp_path / "cache")
    assert np.abs(first.astype(int) - plain(samples)).max() <= 1
    (kept,) = (tmp_path / "cache" / FOLDER).iterdir()
    before = kept.stat().st_mtime_ns
    assert np.array_equal(pixels(samples, tmp_path / "cache"), first)
    assert kept.stat().st_mtime_ns == before


def test_another_size_tree_or_order_has_pixels_of_its_own(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 5), tmp_path / "cache"
    first = pixels(samples, cache)
    turned = samples.take(np.arange(5)[::-1].copy())
    assert np.array_equal(pixels(turned, cache), first[::-1])
    assert np.array_equal(pixels(tree(tmp_path / "twin", 5), cache), first)
    assert len(files(cache)) == 3


def test_an_image_that_changed_is_decoded_again_and_the_old_pixels_go(tmp_path: Path) -> None:
    samples, cache, said = tree(tmp_path / "tree", 5), tmp_path / "cache", []
    first = pixels(samples, cache, said)
    assert said == []
    Image.fromarray(np.zeros((24, 12, 3), dtype=np.uint8)).save(samples.path(2))
    second = pixels(samples, cache, said)
    assert said == ["images, or the decoder, have changed since the pixels were kept: they are decoded again"]
    assert not second[2].any()
    assert np.array_equal(np.delete(second, 2, 0), np.delete(first, 2, 0))
    assert len(files(cache)) == 1


def test_what_is_written_to_pixels_in_memory_stays_there(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 3), tmp_path / "cache"
    first = pixels(samples, cache)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(pixels(samples, cache), kept)


@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    samples, cache = tree(tmp_path / "tree", 3), tmp_path / "cache"
    first = pixels(samples, cache).copy()
    (file,) = (cache / FOLDER).iterdir()
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[:-1], "header": b"x" + whole[1:], "empty": b""}[damage])
    assert [entry for _, entry in entries(cache)] == [None]
    assert np.array_equal(pixels(samples, cache), first)


def test_killed_at_ten_random_moments_it_is_whole_or_not_there(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 900, size=(128, 64)), tmp_path / "cache"
    # How long building takes here and now, so that the moments fall before, within and after it.
    process = start(samples, tmp_path / "other")
    began = time.monotonic()
    expected = process.communicate()[0]
    whole = time.monotonic() - began
    generator = np.random.default_rng(os.getpid())
    for moment in generator.uniform(0, whole, 10):
        process = start(samples, cache)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert all(entry is not None and entry.images == 900 for _, entry in entries(cache))
    assert start(samples, cache).communicate()[0].splitlines()[-1] == expected.splitlines()[-1]
    assert len(files(cache)) == 1


def test_decoding_goes_on_where_a_killed_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, cache, said = tree(tmp_path / "tree", 300), tmp_path / "cache", []
    expected = pixels(samples, tmp_path / "other")
    monkeypatch.setattr(pixel_cache, "MARK_SECONDS", 0)
    process = start(samples, cache)
    left = cache / FOLDER
    while not (marked := [file for file in left.glob(".*.part") if b"decoded" in file.read_bytes()[:4096]]):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert marked
    # What lies behind the mark was not yet written, or not whole.
    (file,) = left.glob(".*.part")
    header = json.loads(file.read_bytes()[:4096])
    with file.open("r+b") as opened:
        opened.seek(4096 + header["decoded"] * 36 * 18 * 3)
        opened.write(b"torn" * 10)
    room = planned_tier(samples, *SIZE, cache=cache, device=torch.device("cpu"), tier="map")
    assert room.disk == 0  # its room is taken already
    assert np.array_equal(pixels(samples, cache, said), expected)
    assert said == [f"goes on behind the {header['decoded']} images that were decoded before an interruption"]
    assert len(files(cache)) == 1


@pytest.mark.parametrize("changed", ["image", "size", "header"])
def test_what_was_left_is_not_used_for_other_images(changed: str, tmp_path: Path) -> None:
    samples, cache, said = tree(tmp_path / "tree", 70), tmp_path / "cache", []
    pixels(samples, cache)
    (file,) = (cache / FOLDER).iterdir()
    content = file.read_bytes()
    header = json.loads(content[:4096]) | {"made": "", "decoded": 64}
    left = file.with_name(f".{file.name}.part")
    file.unlink()
    left.write_bytes(json.dumps(header).encode().ljust(4096) + bytes(len(content) - 4096))
    if changed == "image":
        Image.fromarray(np.zeros((24, 12, 3), dtype=np.uint8)).save(samples.path(2))
    elif changed == "size":
        left.write_bytes(left.read_bytes() + b"x")
    else:
        left.write_bytes(b"{" + left.read_bytes()[1:4096].replace(b"decoded", b"made of") + bytes(len(content) - 4096))
    assert np.array_equal(pixels(samples, cache, said), pixels(samples, tmp_path / "other"))
    assert said == []


def test_what_was_left_and_then_written_over_by_others_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, cache, said = tree(tmp_path / "tree", 256), tmp_path / "cache", []
    expected = pixels(samples, tmp_path / "other")
    aside = (tmp_path / "tree").rename(tmp_path / "aside")
    tree(tmp_path / "tree", 256, size=(20, 10))
    others = (tmp_path / "tree").rename(tmp_path / "others")
    decode_images = pixel_cache.decode_images

    def interrupted(of: Path, behind: int, seconds: float) -> None:
        def decode(samples: Samples, images: range, out: np.ndarray) -> None:
            if images.start >= behind:
                raise KeyboardInterrupt
            decode_images(samples, images, out)

        with monkeypatch.context() as patch:
            patch.setattr(pixel_cache, "decode_images", decode)
            patch.setattr(pixel_cache, "MARK_SECONDS", seconds)
            of.rename(samples.root)
            with pytest.raises(KeyboardInterrupt):
                pixels(samples, cache)
            samples.root.rename(of)

    interrupted(aside, 192, 0)
    (left,) = (cache / FOLDER).glob(".*.part")
    assert json.loads(left.read_bytes()[:4096])["decoded"] > 0
    interrupted(others, 64, 3600)  # before its first mark
    aside.rename(samples.root)  # as they were, times and all
    assert np.array_equal(pixels(samples, cache, said), expected)
    assert said == []


def test_two_that_build_at_once_both_end_well(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 900, size=(128, 64)), tmp_path / "cache"
    outputs = [process.communicate()[0].splitlines() for process in [start(samples, cache), start(samples, cache)]]
    assert outputs[0][-1] == outputs[1][-1] == str(int(pixels(samples, cache).astype(np.int64).sum()))
    assert len([name for name in files(cache) if name.endswith(".pixels")]) == 1


def test_decoding_goes_on_where_an_image_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, cache, said = tree(tmp_path / "tree", 300), tmp_path / "cache", []
    expected = pixels(samples, tmp_path / "other")
    monkeypatch.setattr(pixel_cache, "MARK_SECONDS", 0)
    image, before = samples.path(266), samples.path(266).stat()
    whole = image.read_bytes()
    image.write_bytes(bytes(len(whole)))  # as a file on a server that answers with nonsense for a while
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"0266\.jpg"):
        pixels(samples, cache)
    (left,) = unfinished(cache)
    size = 4096 + 300 * 36 * 18 * 3
    assert left.stat().st_size == size
    assert entries(cache) == []
    image.write_bytes(whole)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert np.array_equal(pixels(samples, cache, said), expected)
    assert len(said) == 1
    assert said[0].startswith("goes on behind the ")
    assert unfinished(cache) == []
    assert planned_tier(samples, *SIZE, cache=cache, device=torch.device("cpu"), tier="map").disk == 0
    assert planned_tier(samples, 37, 18, cache=cache, device=torch.device("cpu"), tier="map").disk > size


def test_a_disk_that_refuses_in_the_middle_is_left_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is taken, and yet a write fails: so it is where a file system copies what is written over."""
    samples, cache, decode_images = tree(tmp_path / "tree", 300), tmp_path / "cache", pixel_cache.decode_images
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def decode(samples: Samples, images: range, out: np.ndarray) -> None:
        if images.start >= 128:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        decode_images(samples, images, out)

    monkeypatch.setattr(pixel_cache, "decode_images", decode)
    try:
        with pytest.raises(DataError, match=r"pixels could not be written: .*ulimit -f"):
            pixels(samples, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []


def test_a_cache_without_room_is_named_before_anything_is_decoded(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 70), tmp_path / "cache"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            DataError, match=r"cache.pixels: .*\(140,176 bytes\) could not be written: .*another folder"
        ):
            pixels(samples, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="a part of that path is a file: name another folder"):
        pixels(tree(tmp_path / "tree", 3), tmp_path / "cache")


def test_clearing_deletes_what_is_ours_alone(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 3), tmp_path / "cache"
    pixels(samples, cache)
    (cache / "somebody's.txt").write_text("keep me")
    (cache / FOLDER / ".another.pixels.part").write_bytes(bytes(1000))
    assert clear(cache) == 4096 + 3 * 36 * 18 * 3 + 1000
    assert [path.name for path in cache.iterdir()] == ["somebody's.txt"]
    assert clear(cache) == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of memory")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 1200), tmp_path / "cache"

    def measured(tier: str) -> list[int]:
        command = [sys.executable, "-c", MEASURE, str(samples.root), str(cache), tier]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(number) for number in done.stdout.splitlines()[-1].split()]

    whole = 1200 * 288 * 144 * 3 >> 20
    assert whole > 140
    # Decoding and streaming hold a few batches; what is mapped is the disk's and is given up when memory is short.
    assert measured("stream")[0] < whole / 3
    peak, own = measured("map")
    assert own < whole / 3
    peak, own = measured("device")  # decoded before: read into memory piece by piece
    assert own < whole * 1.4
    assert peak < whole * 1.4


def test_a_plan_says_where_pixels_will_be(tmp_path: Path) -> None:
    samples, cache = tree(tmp_path / "tree", 3), tmp_path / "cache"
    where = {"cache": cache, "device": torch.device("cpu")}
    said = "3 training images of 36x18 are mapped from the disk, batches prefetched (as asked)"
    assert planned_tier(samples, *SIZE, **where, tier="map").said == said
    assert not cache.exists()
    assert "in the memory of the machine (0 MiB of" in planned_tier(samples, *SIZE, **where, tier="auto").said


@pytest.mark.parametrize("free", [0, 200_000_000])
def test_without_room_on_the_disk_images_are_streamed_until_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """A disk cannot be filled in a test: what it says is free is."""
    samples, cache, said = tree(tmp_path / "tree", 3), tmp_path / "cache", []
    gib = 2**30
    monkeypatch.setattr(pixel_cache, "room_of", lambda device, cache: Room(gib, gib, free, "cpu", cache))

    def opened(tier: str) -> PixelStore:
        where = {"cache": cache, "threads": 1, "device": torch.device("cpu"), "say": said.append}
        return open_pixels(samples, *SIZE, **where, tier=tier)

    if free:
        assert isinstance(opened("auto"), HostPixels)
        assert said == []
        return
    assert isinstance(opened("auto"), StreamedPixels)
    assert said == [
        "3 training images of 36x18 are decoded anew for every batch (0 MiB are needed, 0 MiB are free on the disk of "
        f"{cache}: make room there to decode them only once)"
    ]
    with pytest.raises(DataError, match=r"--pixels host: 0 MiB are needed, 0 MiB are free on the disk .*pixels stream"):
        opened("host")
    assert not cache.exists()


def test_no_images_have_no_pixels(tmp_path: Path) -> None:
    samples = tree(tmp_path / "tree", 1).take(np.array([], dtype=np.int64))
    assert pixels(samples, tmp_path / "cache").shape == (0, *SIZE, 3)
