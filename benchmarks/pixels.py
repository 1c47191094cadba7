"""Compare batches, decoding, resizing and embedding with torchvision and Pillow, as ratios measured in one run.

    python benchmarks/pixels.py [--images FOLDER] [--device cuda] [--workers] [--check]

JPEGs of noise as large as Market-1501's (128 x 64), or those below FOLDER. Both sides of a ratio are measured in turns,
and the medians of their CPU seconds on one thread are compared; for the gain of a second worker and on a GPU it is wall
time. ``--check`` exits with 1 where a requirement is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import reidbench
from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_images
from reidbench.images.augment import view_crops
from reidbench.images.decode import CHUNK_IMAGES, decode_images, read_image
from reidbench.images.pixel_file import open_pixels
from reidbench.images.pixel_store import BatchLoader
from reidbench.images.resize import resize_image
from reidbench.plugins.interfaces import Preprocess
from reidbench.training.sampler import shuffled_round
from reidbench.utils.machine import local_machine
from reidbench.utils.threads import map_in_threads

BATCH = 128
STORES = ("device", "map")
PILLOW = Image.Resampling.BILINEAR
missed: list[str] = []


def report(what: str, value: float, required: float | None = None, unit: str = "x", most: bool = False) -> None:
    """Print a ratio and its requirement."""
    text = ""
    if required is not None:
        met = value <= required if most else value >= required
        text = f"  (required: at {'most' if most else 'least'} {required:g} {unit})" + ("" if met else "  MISSED")
        if not met:
            missed.append(what)
    print(f"{what:58} {value:8.2f} {unit}{text}")


def in_turns(
    works: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the median seconds of each, measured in turns; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            began = clock()
            work()
            if turn:
                seconds[name].append(clock() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def write_jpegs(folder: Path, count: int, scale: int = 1) -> None:
    """Write JPEGs as large as Market-1501's, of about 3 kB; MARS's sides are twice as long."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((64 * scale, 128 * scale), Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(smooth + generator.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05d}.jpg", quality=90)


def samples_in(folder: Path, count: int) -> Samples:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))[:count]
    return Samples.of_images(folder, names, list(range(1, len(names) + 1)), [1] * len(names))


class TorchvisionDataset(Dataset):  # type: ignore[type-arg]
    """Files opened by Pillow and augmented by torchvision, image by image."""

    def __init__(self, samples: Samples, preprocess: Preprocess) -> None:
        height, width = preprocess.height, preprocess.width
        self.samples = samples
        self.transform = transforms.Compose(
            [
                transforms.Resize((height // 8 * 9, width // 8 * 9)),
                transforms.RandomCrop((height, width)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(preprocess.mean, preprocess.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        tensor: torch.Tensor = self.transform(Image.open(self.samples.path(index)).convert("RGB"))
        return tensor


def batches(samples: Samples, cache: Path, repeats: int) -> None:
    """Measure training batches without a network: from each pixel store and with torchvision."""
    labels = np.arange(len(samples))
    for height, width in ((128, 64), (256, 128)):
        preprocess = Preprocess(height, width, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        loader = DataLoader(TorchvisionDataset(samples, preprocess), BATCH, shuffle=True, drop_last=True, num_workers=0)
        works: dict[str, Callable[[], object]] = {"torchvision": lambda loader=loader: [None for _ in loader]}
        for name in STORES:
            machine = local_machine(cache=cache, threads=1, device="cpu", pixels=name)
            store = open_pixels(samples, height // 8 * 9, width // 8 * 9, machine)

            def ours(store=store, preprocess=preprocess) -> None:  # type: ignore[no-untyped-def]
                with contextlib.closing(BatchLoader(store, samples, preprocess, flip=True, seed=0)) as own:
                    batches = shuffled_round(labels, BATCH, np.random.default_rng(0))
                    for step, units in enumerate(batches):
                        own.batch(units, step, batches[step + 1 :])

            works[name] = ours
        seconds = in_turns(works, repeats)
        images = len(samples) // BATCH * BATCH
        print(f"\nbatches of {BATCH} at {height}x{width}, images per CPU second (DataLoader without workers)")
        print(f"  {'torchvision in a DataLoader':56} {images / seconds['torchvision']:10,.0f}")
        for name in STORES:
            print(f"  {'--pixels ' + name:56} {images / seconds[name]:10,.0f}")
        report(f"batches at {height}x{width} over torchvision's", seconds["torchvision"] / seconds["device"], 10)


def decoding(samples: Samples, repeats: int) -> None:
    """Measure decoding and resizing, and their largest difference from Pillow's."""
    count = len(samples)
    data = [samples.path(number).read_bytes() for number in range(count)]
    arrays = [read_image(samples.path(number)) for number in range(count)]
    images = [Image.fromarray(array) for array in arrays]
    print("\nbuilding the cache, images per CPU second")

    def compare(what: str, ours: Callable[[], object], pillow: Callable[[], object], required: float | None) -> None:
        seconds = in_turns({"ours": ours, "Pillow": pillow}, repeats)
        rates = {name: count / taken for name, taken in seconds.items()}
        print(f"  {what:38} {rates['ours']:10,.0f}, Pillow {rates['Pillow']:8,.0f}")
        report(f"{what} over Pillow's", rates["ours"] / rates["Pillow"], required)

    compare(
        "decode from the file",
        lambda: [read_image(samples.path(number)) for number in range(count)],
        lambda: [np.asarray(Image.open(samples.path(number)).convert("RGB")) for number in range(count)],
        2,
    )
    for height, width in ((144, 72), (288, 144), (72, 36)):
        out = np.empty((height, width, 3), dtype=np.uint8)
        compare(
            f"resize to {height}x{width}",
            lambda out=out: [resize_image(array, out) for array in arrays],
            lambda size=(width, height): [np.asarray(image.resize(size, PILLOW)) for image in images],
            None,
        )

    generator, worst = np.random.default_rng(0), 0
    for number in range(400):
        opened = Image.open(io.BytesIO(data[number % count])).convert("RGB")
        height, width = generator.integers(1, 300, 2).tolist()
        out = np.empty((height, width, 3), dtype=np.uint8)
        resize_image(arrays[number % count], out)
        worst = max(worst, int(np.abs(out.astype(int) - np.asarray(opened.resize((width, height), PILLOW))).max()))
    report("grey levels from Pillow, 400 sizes of 1 to 299 pixels", worst, 1, "levels", most=True)


def workers(samples: Samples, height: int, width: int, cache: Path, repeats: int) -> None:
    """Measure the gain of a second worker in building the whole cache, from the file stats to the disk."""
    # The gain of two threads that share nothing, on this machine under its present load.
    large, halves = np.zeros((2000, 1000, 3), dtype=np.uint8), np.zeros((2, 1000, 500, 3), dtype=np.uint8)

    def alone(threads: int) -> None:
        for _ in map_in_threads(lambda number: resize_image(large, halves[number % 2]), 16, threads):
            pass

    def decode(threads: int) -> None:
        def chunk(number: int) -> None:
            images = range(CHUNK_IMAGES * number, min(CHUNK_IMAGES * (number + 1), len(samples)))
            decode_images(samples, images, np.empty((len(images), height, width, 3), dtype=np.uint8))

        for _ in map_in_threads(chunk, -(-len(samples) // CHUNK_IMAGES), threads):
            pass

    def build(threads: int) -> None:
        scratch = Path(tempfile.mkdtemp(dir=cache))
        with contextlib.redirect_stderr(io.StringIO()):
            open_pixels(
                samples, height, width, local_machine(cache=scratch, threads=threads, device="cpu", pixels="map")
            )

    ratios: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        for work in (alone, decode, build):
            seconds = {}
            for threads in (1, 2) if turn % 2 else (2, 1):
                began = time.perf_counter()
                work(threads)
                seconds[threads] = time.perf_counter() - began
            if turn:  # the first pair warms up
                ratios.setdefault(work.__name__, []).append(seconds[1] / seconds[2])
                for threads in (1, 2):
                    rates.setdefault(f"{work.__name__} {threads}", []).append(len(samples) / seconds[threads])
    middle = {name: statistics.median(values) for name, values in {**ratios, **rates}.items()}
    with Image.open(samples.path(0)) as first:
        size = f"{first.height}x{first.width}"
    print(f"\nJPEGs of {size} to {height}x{width}, images/s (wall time) with one worker and with two; {repeats} pairs")
    print(f"  decode and resize {middle['decode 1']:,.0f}, {middle['decode 2']:,.0f}")
    print(f"  the whole cache   {middle['build 1']:,.0f}, {middle['build 2']:,.0f}")
    report(f"{size}: two threads over one in a compiled loop", middle["alone"])
    report(f"{size}: decode and resize, two workers over one", middle["decode"])
    report(f"{size}: building the cache, two workers over one", middle["build"], 1.6)


def embedding(samples: Samples, spec: str, device: torch.device, repeats: int, required: float | None) -> None:
    """Measure the embedding of ten views of every image, and the forward passes alone on tensors in memory."""
    network = reidbench.build("backbone", spec).to(device).eval()
    _, crops = view_crops("five_crops_flip", network.preprocess)
    images = torch.rand(64, 3, network.preprocess.height, network.preprocess.width, device=device)
    machine = local_machine(device=str(device), threads=1 if device.type == "cpu" else 8)
    passes = -(-len(samples) // 64) * len(crops)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                network(images)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def whole() -> None:
        embed_images(network, samples, "five_crops_flip", machine, "embedding")

    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = in_turns({"bare": bare, "whole": whole}, repeats, clock)
    print(f"\nembedding with ten views, {spec}: {len(samples) / seconds['whole']:,.0f} images/s")
    report(f"forward passes in embedding, {spec}", 100 * seconds["bare"] / seconds["whole"], required, "%")


def on_gpu(samples: Samples, cache: Path, device: torch.device) -> None:
    """Measure wall times on a GPU: batches from each store, and the bare training steps that wait for them."""
    network = reidbench.build("backbone", "lunet(height=128, width=64)").to(device).train()
    images = torch.rand(BATCH, 3, 128, 64, device=device)
    batches = shuffled_round(np.arange(len(samples)), BATCH, np.random.default_rng(0))

    def step() -> None:
        for _ in batches:
            network(images).square().sum().backward()
        torch.cuda.synchronize()

    works: dict[str, Callable[[], object]] = {"bare step": step}
    for name in STORES:
        store = open_pixels(samples, 144, 72, local_machine(cache=cache, threads=8, device=str(device), pixels=name))
        loader = BatchLoader(store, samples, network.preprocess, flip=True, seed=0)

        def pipeline(loader=loader) -> None:  # type: ignore[no-untyped-def]
            for number, units in enumerate(batches):
                loader.batch(units, number, batches[number + 1 :])
            torch.cuda.synchronize()

        works[name] = pipeline
    seconds = in_turns(works, 5, time.perf_counter)
    print(f"\nlunet at 128x64 on {torch.cuda.get_device_name(device)}, images/s")
    for name, taken in seconds.items():
        print(f"  {name:56} {len(batches) * BATCH / taken:10,.0f}")
    for name in STORES:
        report(f"batches with --pixels {name} over bare steps", seconds["bare step"] / seconds[name], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="JPEGs to measure with, instead of noise")
    parser.add_argument("--count", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", action="store_true", help="only the gain of a second worker")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # is read when torch is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.images or Path(scratch, "images")
        if arguments.images is None:
            write_jpegs(folder, arguments.count)
        samples = samples_in(folder, arguments.count)
        mean = statistics.mean(samples.path(number).stat().st_size for number in range(len(samples)))
        print(f"{len(samples)} JPEGs of {mean / 1000:.1f} kB, torch {torch.__version__}, {os.cpu_count()} cores")
        if device.type == "cuda":
            on_gpu(samples, Path(scratch), device)
        elif not arguments.workers:
            batches(samples, Path(scratch), arguments.repeats)
            decoding(samples, arguments.repeats)
        if device.type == "cpu":
            for scale, count in ((1, 12936), (2, 2560)):  # as many as Market-1501 has, and MARS's size
                images = Path(scratch, f"workers{scale}")
                write_jpegs(images, count, scale)
                workers(samples_in(images, count), 144 * scale, 72 * scale, Path(scratch), arguments.repeats)
        if not arguments.workers:
            few = samples.take(np.arange(min(len(samples), 64 if device.type == "cpu" else 1280)))
            embedding(few, "lunet(height=64, width=32)" if device.type == "cpu" else "lunet", device, 2, 90)
            embedding(few, "tiny(height=64, width=32)", device, arguments.repeats, None)
    if missed:
        print(f"\nmissed: {', '.join(missed)}")
    sys.exit(bool(missed) and arguments.check)


if __name__ == "__main__":
    main()
