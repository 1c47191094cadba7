"""The pixel cache: whole or absent, whoever is killed, however many processes build it, whatever has changed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidbench.errors import DataError
from reidbench.images import pixel_file
from reidbench.images.augment import Crops
from reidbench.images.pixel_file import FOLDER, choose_store, clear, open_pixels
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.machine import local_machine
from tests.support.damage import flip
from tests.support.images import noise_images

CPU = torch.device("cpu")
SIZE = (36, 18)
# Builds the pixels of a folder in children of its own, so that everything is imported once.
BUILD = """
import json, os, sys, torch
from pathlib import Path
from reidbench.images.pixel_file import open_pixels
from reidbench.data.samples import Samples
from reidbench.utils.machine import local_machine
for line in sys.stdin:
    root, *caches = map(Path, json.loads(line))
    names = sorted(path.name for path in root.iterdir())
    samples = Samples.of_images(root, names, [1] * len(names), [1] * len(names))
    children = []
    for cache in caches:
        children.append(os.fork())
        if not children[-1]:
            store = open_pixels(samples, 36, 18, local_machine(cache=cache, threads=1, device="cpu", log=print))
            print("sum", store.pixels.sum(dtype=torch.int64).item(), flush=True)
            os._exit(0)
        print("child", children[-1], flush=True)
    for child in children:
        os.waitpid(child, 0)
    print("end", flush=True)
"""
MEASURE = """
import sys, torch
from pathlib import Path
from reidbench.images.pixel_file import open_pixels
from reidbench.data.samples import Samples
from reidbench.plugins.interfaces import Preprocess
from reidbench.utils.machine import local_machine
from tests.support.batches import training_batch
import numpy as np
SIZE = Preprocess(256, 128)
root, cache, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
names = sorted(path.name for path in root.iterdir())
samples = Samples.of_images(root, names, [1] * len(names), [1] * len(names))
status = lambda name: next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(name)) // 1024
def build(folder, images):
    part = samples.take(images)
    store = open_pixels(part, 288, 144, local_machine(cache=folder, threads=2, device="cpu", pixels=name))
    for step in range(len(part) // 50):
        units = np.arange(50 * step, 50 * step + 50)
        training_batch(store, part, units, SIZE, flip=True, seed=0, step=step)
    return store
store = build(cache / "warm", np.arange(100))  # compiles and loads everything
Path("/proc/self/clear_refs").write_text("5")
before, own = status("VmHWM"), status("RssAnon")
store = build(cache, np.arange(len(names)))
print(status("VmHWM") - before, status("RssAnon") - own)
"""


def pixels(samples, cache, messages=None):
    """The pixels of ``samples``, whose file stats are read anew."""
    log = print if messages is None else messages.append
    return open_pixels(
        replace(samples), *SIZE, local_machine(cache=cache, threads=2, device="cpu", log=log)
    ).pixels.numpy()


@pytest.fixture(scope="module")
def builder():
    command = [sys.executable, "-W", "ignore", "-c", BUILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process


def build(builder, samples, *caches, kill_after=None):
    """Build the pixels once per cache at the same time, killed after some seconds; return the sums of pixels."""
    builder.stdin.write(json.dumps([str(samples.root), *map(str, caches)]) + "\n")
    sums = set()
    while (line := builder.stdout.readline()) != "end\n":
        word, _, value = line.strip().partition(" ")
        if word == "sum":
            sums.add(value)
        elif word == "child" and kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):
                os.kill(int(value), signal.SIGKILL)
    return sums


def files(cache: Path) -> list[str]:
    """Return the names of all files but the locks, which are empty and stay."""
    return sorted(path.name for path in (cache / FOLDER).iterdir() if path.suffix != ".lock")


@contextmanager
def file_size_limit(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_images_are_decoded_once(tmp_path):
    samples = noise_images(tmp_path / "images", [1] * 70)
    first = pixels(samples, tmp_path / "cache")
    for number in range(70):
        image = Image.open(samples.path(number)).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        assert np.abs(first[number].astype(int) - np.asarray(image)).max() <= 1
    (file,) = (tmp_path / "cache" / FOLDER).glob("*.pixels")
    before = file.stat().st_mtime_ns
    assert np.array_equal(pixels(samples, tmp_path / "cache"), first)
    assert file.stat().st_mtime_ns == before


def test_other_lists_and_folders_have_their_own_files(tmp_path):
    samples, cache = noise_images(tmp_path / "images", [1] * 5), tmp_path / "cache"
    first = pixels(samples, cache)
    reverse = samples.take(np.arange(5)[::-1].copy())
    assert np.array_equal(pixels(reverse, cache), first[::-1])
    assert np.array_equal(pixels(noise_images(tmp_path / "twin", [1] * 5), cache), first)
    assert len(files(cache)) == 3


def test_changed_image_replaces_the_file(tmp_path):
    samples, cache, messages = noise_images(tmp_path / "images", [1] * 5), tmp_path / "cache", []
    first = pixels(samples, cache, messages)
    assert messages == []
    Image.fromarray(np.zeros((24, 12, 3), dtype=np.uint8)).save(samples.path(2))
    second = pixels(samples, cache, messages)
    assert len(messages) == 1
    assert not second[2].any()
    assert np.array_equal(np.delete(second, 2, 0), np.delete(first, 2, 0))
    assert len(files(cache)) == 1


def test_device_store_is_a_copy_of_the_file(tmp_path):
    samples, cache = noise_images(tmp_path / "images", [1] * 3), tmp_path / "cache"
    first = pixels(samples, cache)
    before = first.copy()
    first[:] = 0
    assert np.array_equal(pixels(samples, cache), before)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "leftover"])
def test_incomplete_file_is_built_anew(tmp_path, damage):
    samples, cache = noise_images(tmp_path / "images", [1] * 3), tmp_path / "cache"
    first = pixels(samples, cache).copy()
    (file,) = (cache / FOLDER).glob("*.pixels")
    whole = file.read_bytes()
    if damage == "leftover":  # of a process that was killed
        file.rename(file.with_name(f".{file.name}.abc.tmp"))
    else:
        file.write_bytes({"cut": whole[:-1], "header": b"x" + whole[1:], "empty": b""}[damage])
    assert np.array_equal(pixels(samples, cache), first)
    assert files(cache) == [file.name]


@pytest.mark.parametrize("store", ["device", "map"])
def test_damaged_pixels_are_never_used(store, tmp_path):
    samples, messages = noise_images(tmp_path / "images", [1] * 5), list[str]()
    size = Preprocess(*SIZE)
    machine = local_machine(device="cpu", threads=2, cache=tmp_path / "cache", pixels=store, log=messages.append)

    def fetch(images):
        zeros = np.zeros(len(images), dtype=np.int64)
        crops = Crops(np.array(images), zeros, zeros, zeros.astype(np.bool_))
        return open_pixels(samples, *SIZE, machine).fetch(crops, size)

    expected = fetch([0, 1, 2, 3, 4])
    (file,) = (tmp_path / "cache" / FOLDER).glob("*.pixels")
    image = SIZE[0] * SIZE[1] * 3
    for place in (4096 + 3 * image, 4096 + 4 * image - 1, 4096 + 5 * image + 3 * 4):  # of image 3, and its checksum
        flip(file, place, 1)
        messages.clear()
        if store == "map":
            assert torch.equal(fetch([0, 1, 4]), expected[[0, 1, 4]])
            with pytest.raises(DataError, match=file.name):
                fetch([0, 3, 3])
        assert torch.equal(fetch([0, 1, 2, 3, 4]), expected)
        assert store == "map" or any(file.name in message for message in messages)


def test_killed_at_random_moments_it_is_whole_or_absent(tmp_path, builder):
    samples, cache = noise_images(tmp_path / "images", [1] * 900, 128, 64), tmp_path / "cache"
    build(builder, samples, tmp_path / "first")  # compiles and loads everything
    # The duration of a build here and now, so that the kills fall before, within and after it.
    began = time.monotonic()
    expected = build(builder, samples, tmp_path / "other")
    duration = time.monotonic() - began
    for moment in np.random.default_rng(os.getpid()).uniform(0, duration, 10):
        build(builder, samples, cache, kill_after=moment)
        sizes = {path.stat().st_size for path in (cache / FOLDER).glob("*.pixels")}
        assert sizes <= {4096 + 900 * 36 * 18 * 3 + 900 * 4}
    assert build(builder, samples, cache) == expected
    assert len(files(cache)) == 1


def test_two_processes_build_at_once(tmp_path, builder):
    samples, cache = noise_images(tmp_path / "images", [1] * 900, 128, 64), tmp_path / "cache"
    assert build(builder, samples, cache, cache) == {str(int(pixels(samples, cache).astype(np.int64).sum()))}
    assert len([name for name in files(cache) if name.endswith(".pixels")]) == 1


def test_unusable_image_is_named_and_nothing_left(tmp_path):
    samples, cache = noise_images(tmp_path / "images", [1] * 150), tmp_path / "cache"
    for image in (149, 70):
        samples.path(image).write_bytes(samples.path(image).read_bytes()[:-200])
    with pytest.raises(DataError, match=r"0070\.jpg"):
        pixels(samples, cache)
    assert files(cache) == []


def test_full_disk_while_writing_leaves_no_file(tmp_path, monkeypatch):
    """Space is reserved, and yet a write fails, as on a file system that copies on write."""
    samples, cache = noise_images(tmp_path / "images", [1] * 300), tmp_path / "cache"
    decode_images = pixel_file.decode_images
    with file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[0]):

        def decode(samples, images, out, digests):
            if images.start >= 128:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            decode_images(samples, images, out, digests)

        monkeypatch.setattr(pixel_file, "decode_images", decode)
        with pytest.raises(DataError, match=r"could not be written: .*ulimit -f"):
            pixels(samples, cache)
    assert files(cache) == []


def test_full_disk_is_an_error_before_decoding(tmp_path, monkeypatch):
    samples, cache = noise_images(tmp_path / "images", [1] * 70), tmp_path / "cache"
    monkeypatch.setattr(pixel_file, "decode_images", None)
    with file_size_limit(20_000), pytest.raises(DataError, match=r"cache.pixels: .*140,456 bytes.*another folder"):
        pixels(samples, cache)
    assert files(cache) == []


def test_file_in_place_of_the_cache_folder(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=f"{tmp_path}.*name another folder"):
        pixels(noise_images(tmp_path / "images", [1] * 3), tmp_path / "cache")


def test_clear_deletes_the_programs_files_only(tmp_path):
    samples, cache = noise_images(tmp_path / "images", [1] * 3), tmp_path / "cache"
    pixels(samples, cache)
    (contents,) = (cache / "contents").iterdir()
    contents_bytes = contents.stat().st_size
    (cache / "other.txt").write_text("of another program")
    (cache / FOLDER / ".another.pixels.abc.tmp").write_bytes(bytes(1000))
    assert clear(cache) == 4096 + 3 * 36 * 18 * 3 + 3 * 4 + 1000 + contents_bytes
    assert [path.name for path in cache.iterdir()] == ["other.txt"]
    assert clear(cache) == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of memory")
def test_memory_does_not_grow_with_the_images(tmp_path):
    samples, cache = noise_images(tmp_path / "images", [1] * 1200), tmp_path / "cache"

    def measured(name):
        command = [sys.executable, "-c", MEASURE, str(samples.root), str(cache), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(number) for number in done.stdout.splitlines()[-1].split()]

    whole = 1200 * 288 * 144 * 3 >> 20
    assert whole > 140
    # Mapped pages belong to the disk's cache and are given up when memory is short.
    assert measured("map")[1] < whole / 3
    peak, own = measured("device")  # decoded before: read into memory piece by piece
    assert own < whole * 1.4
    assert peak < whole * 1.4


def test_store_is_chosen_by_available_memory(monkeypatch):
    monkeypatch.setattr(pixel_file, "available_memory", lambda device: 1000)
    assert [choose_store("auto", size, CPU) for size in (0, 500, 501)] == ["device", "device", "map"]
    assert choose_store("device", 1000, CPU) == "device"
    assert choose_store("map", 1, CPU) == "map"
    with pytest.raises(DataError, match=r"--pixels device: .*--pixels map"):
        choose_store("device", 1001, CPU)


def test_no_images_have_no_pixels(tmp_path):
    samples = noise_images(tmp_path / "images", [1]).take(np.array([], dtype=np.int64))
    assert pixels(samples, tmp_path / "cache").shape == (0, *SIZE, 3)
