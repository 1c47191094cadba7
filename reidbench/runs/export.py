"""Load the trained network of a run, and embed any images with it as the run was scored, into one file or in shards."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL.Image import Image

from reidbench.data.image_list import ListColumns, read_image_list, whole_number
from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_batches, embed_images
from reidbench.embedding.pooling import pool_units
from reidbench.errors import DataError, OptionError
from reidbench.images.decode import read_image
from reidbench.images.resize import resize_image
from reidbench.plugins import catalogue
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import WEIGHTS
from reidbench.runs.driver import Results, execute_tasks
from reidbench.runs.plan import TimeLeft
from reidbench.runs.provenance import embedding_code
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.runs.tasks import BATCHES, Batch, Executor, Task
from reidbench.training.build import build_backbone, describe_backbone
from reidbench.training.checkpoint import load_weights
from reidbench.training.precision import float32_products
from reidbench.utils.arrays import PixelArray, save_arrays
from reidbench.utils.atomic import atomic_file, sweep, write_atomic
from reidbench.utils.machine import AUTO, Machine, local_machine, user_path
from reidbench.utils.random_streams import with_seed
from reidbench.utils.untrusted_files import parse_json, read_text

LABELS = {"pid": "pids", "camid": "cams"}  # columns that are copied where a list has them, and their names in an .npz
SHARDS_CONTENT = "shards.json"
SHARD_TASKS = "shards.jsonl"
ImageLike = str | Path | Image | NDArray[np.uint8]
MOST = 9_999  # shards: numbers of four digits, so that the order of the names is that of the numbers


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The network of a run with the weights that it was scored with.

    ``network``: the torch module, on the machine's device, in evaluation mode.
    ``record``: the run's record.
    ``machine``: the settings of this machine.
    """

    network: Backbone
    record: RunRecord
    machine: Machine

    def embed(self, images: Iterable[ImageLike | Sequence[ImageLike]]) -> NDArray[np.float32]:
        """Return the embedding of each image [n, D] as for the run's scores: resized, normalised, seen in its views.

        An image is the path of a file, a PIL image (mode RGB or L), or RGB pixels uint8 [h, w, 3]. A list or tuple of
        images is one unit, such as a tracklet, and gets one embedding, pooled as for the scores. What a metric does to
        embeddings, such as scaling them to unit length, is not done. Raises DataError, naming the image, for one that
        cannot be used.
        """
        if isinstance(images, str | Path | Image):
            raise DataError(f"embed: expected a list of images, got {images!r} alone; write [image]")
        units = [each if isinstance(each, list | tuple) else [each] for each in images]
        if not all(units):
            raise DataError(f"images[{list(map(len, units)).index(0)}]: a unit needs an image")
        flat = [(image, f"images[{number}]") for number, unit in enumerate(units) for image in unit]
        labels, starts = np.zeros(len(units), dtype=np.int64), np.cumsum([0, *map(len, units)])
        samples = Samples(Path(), np.array([name for _, name in flat], dtype=np.str_), labels, labels, starts)

        def decode(_samples: Samples, rows: Sequence[int], out: PixelArray, _digests: object) -> None:
            for place, row in enumerate(rows):
                resize_image(_pixels(*flat[row]), out[place])

        how = self.record.evaluation
        with float32_products():
            embeddings = embed_images(self.network, samples, how.views, self.machine, "embedding the images", decode)
        return np.asarray(pool_units(embeddings, starts, how.pool))


def load(run: str | Path, *, device: str = AUTO) -> TrainedNetwork:
    """Return the trained network of a run folder, or of its record; nothing about it is random.

    Raises errors as ``load_network``, and OptionError for a device that is missing.
    """
    machine = local_machine(device=device)
    network, record = load_network(user_path(run))
    return TrainedNetwork(network.to(machine.device).eval(), record, machine)


def _pixels(image: object, name: str) -> PixelArray:
    """Return an image as RGB pixels [h, w, 3]."""
    if isinstance(image, str | Path):
        return read_image(user_path(image))
    if isinstance(image, Image) and image.mode in ("RGB", "L") and not image.has_transparency_data:
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and (image.dtype, image.ndim) == (np.uint8, 3) and image.shape[2] == 3:
        return np.ascontiguousarray(image)
    description = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else repr(image)
    raise DataError(f"{name}: expected a path, an opaque PIL image (RGB or L) or uint8 [h, w, 3], got {description}")


def load_network(run: Path) -> tuple[Backbone, RunRecord]:
    """Return the network of a run with the weights that it was scored with, and the run's record.

    ``run`` is a run folder or its record, in the results folder where it was made. Raises DataError where the run has
    not ended well or its weights are gone, OptionError or PluginError where its backbone is not installed here.
    """
    file = run / RECORD if run.is_dir() else run
    record = read_record(file)
    if record.status != "ok":
        raise DataError(f"{file}: the run is {record.status}: {record.error or 'no reason was recorded'}")
    item = catalogue.load().resolve("backbone", record.items["backbone"].spec)
    network = build_backbone(item, record.job.seed)
    _refuse_pairs(item.owner, network.pairs)
    folder = file.absolute().parent.parent.parent / record.training
    if record.items["loss"].spec == "none":
        with_seed(network.initialise, record.job.seed, "initialise")
    elif (folder / WEIGHTS).is_file():
        load_weights(network, folder)
    else:
        advice = f"reproduce the run with reidbench run {file}, and name its folder"
        raise DataError(f"{file}: its weights are not in {folder}; {advice}")
    return network, record


def embed_list(run: Path, images: Path, out: Path, machine: Machine) -> tuple[int, int]:
    """Write the embeddings of the images in a list and return (images, dimensions).

    ``images`` is a list as ``read_image_list`` reads it, with perhaps pid and camid; other columns are ignored. ``out``
    holds the embeddings [m, D] float32, as the run's views make them (not pooled, not normalised): alone if it is an
    ``.npy``, which is written batch by batch; in an ``.npz`` as ``embeddings`` beside ``paths`` [m] and, where the list
    has them, ``pids`` and ``cams`` [m] int64. Raises DataError where a file cannot be used.
    """
    if out.suffix not in (".npz", ".npy"):
        raise OptionError(f"--out {out}: expected a file that ends with .npz or .npy")
    samples, columns = read_list(images, machine.data)
    network, record = load_network(run)
    network.to(machine.device)
    how = network, samples, record.evaluation.views, machine, f"embedding {images.name}"
    shape = len(samples), network.embedding_dim
    if out.suffix == ".npz":
        with float32_products():
            embeddings = embed_images(*how).numpy()
        labels = {LABELS[column]: getattr(samples, LABELS[column]) for column in columns}
        save_arrays(out, {"embeddings": embeddings, "paths": samples.images, **labels})
        return shape
    sweep(out.parent, out.name)
    with float32_products(), closing(embed_batches(*how)) as batches, atomic_file(out, 4 * math.prod(shape)) as file:
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(batch.numpy().tobytes())
    return shape


def read_list(file: Path, data_root: Path) -> tuple[Samples, list[str]]:
    """Return the images of a list and which of the columns pid and camid it has."""
    columns: list[str] = []

    def choose(header: list[str]) -> ListColumns[tuple[str, list[int]]]:
        columns.extend(column for column in LABELS if column in header)
        return ListColumns(("path",), None, read_row)

    def read_row(cells: Mapping[str, str], image: str, _line: int) -> tuple[str, list[int]]:
        return image, [whole_number(cells[column], column) if column in columns else 0 for column in LABELS]

    root, rows = read_image_list(file, data_root, choose)
    if not rows:
        raise DataError(f"{file}: lists no images")
    names, labels = zip(*rows, strict=True)
    return Samples.of_images(root, names, *zip(*labels, strict=True)), columns


def embed_shards(
    run: Path, images: Path, out: Path, count: int, machine: Machine, executor: Executor
) -> Iterator[Path]:
    """Have ``executor`` embed the images of a list into ``count`` files of a folder, and yield each when it is there.

    ``shard-0000.npy`` [n, D] float32 has ``shard-0000.csv`` (path, pid, camid) beside it; all together are in the order
    of the list. Files that are there are not embedded again. Raises DataError where they are of other images, another
    network or other code, and TrainingError for what could not be embedded.
    """
    samples, columns = read_list(images, machine.data)
    if not 1 <= count <= min(len(samples), MOST):
        raise OptionError(f"--shards {count}: expected 1 to {MOST:,}, at most one for each of {len(samples)} images")
    out = out.absolute()
    content = {**describe_network(run), "images": samples.digest, "shards": count}
    if any(out.glob("shard-*.npy")):
        check_content(out / SHARDS_CONTENT, content)
    for old in out.glob("shard-*.csv"):
        old.unlink()
    write_atomic(out / SHARDS_CONTENT, json.dumps(content, indent=1))
    folder = out / BATCHES / hashlib.sha256(f"{out} {content}".encode()).hexdigest()[:10]
    device, threads = machine.requested_device, machine.requested_threads
    how = {"run": str(run.absolute()), "data_root": str(samples.root), "device": device, "threads": threads}
    arrays = [samples.images, *(getattr(samples, LABELS[column]) for column in columns)]
    files, tasks, texts = list[Path](), list[Task](), list[str]()
    for number, rows in enumerate(np.array_split(np.arange(len(samples)), count)):
        file, text = out / f"shard-{number:04d}.npy", io.StringIO()
        lines = zip(*(array[rows].tolist() for array in arrays), strict=True)
        csv.writer(text, lineterminator="\n").writerows([["path", *columns], *lines])
        write_atomic(file.with_suffix(".csv"), text.getvalue())
        files.append(file)
        texts.append(json.dumps({**how, "out": str(file)}) + "\n")
        tasks.append(Task(number, file.stem, ("work", str(folder / SHARD_TASKS), str(number)), device, threads))
    write_atomic(folder / SHARD_TASKS, "".join(texts))
    ended = {number: file for number, file in enumerate(files) if file.exists()}  # each appears as a whole
    time_left = TimeLeft([float(number not in ended) for number in range(count)])
    results = Results("shards", files, ended, lambda number: (files[number], f"{files[number].name}: done"), time_left)
    locks = [file.with_suffix(".lock") for file in files]  # of which there are none: a shard is written as a whole
    yield from execute_tasks(Batch(folder, tasks, [[number] for number in range(count)], locks), results, executor)


def describe_network(run: Path) -> dict[str, Any]:
    """Return what the embeddings of a run depend on beside the images: its weights, its views, and the code here."""
    record = read_record(run / RECORD if run.is_dir() else run)
    backbone = catalogue.load().resolve("backbone", record.items["backbone"].spec)
    _refuse_pairs(backbone.owner, describe_backbone(backbone).pairs)
    return {"run": record.id, "weights": record.weights, "views": record.evaluation.views, **embedding_code(backbone)}


def _refuse_pairs(owner: str, pairs: bool) -> None:
    """Raise OptionError where a network compares pairs of images."""
    if pairs:
        raise OptionError(f"{owner} compares pairs of images: its rows are no embeddings that could be compared")


def check_content(file: Path, content: Mapping[str, Any]) -> None:
    """Raise DataError where a folder's shards are of other content than this."""
    existing = parse_json(read_text(file), str(file))
    if changed := [name for name, value in content.items() if existing.get(name) != value]:
        raise DataError(f"{file}: its shards are of other {', '.join(changed)}; delete them, or name another folder")
