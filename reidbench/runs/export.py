"""Load the trained network of a run, and embed any images with it as the run was scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reidbench.data.image_list import ListColumns, read_image_list, whole_number
from reidbench.data.samples import Samples
from reidbench.embedding.extract import embed_images
from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import WEIGHTS
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.training.build import build_backbone
from reidbench.training.checkpoint import load_weights
from reidbench.training.precision import float32_products
from reidbench.utils.arrays import save_arrays
from reidbench.utils.machine import Machine
from reidbench.utils.random_streams import with_seed

# ListColumns that are copied to the output where the list has them, and their names there.
COPIED_COLUMNS = {"pid": "pids", "camid": "cams"}


def load_network(run: Path) -> tuple[Backbone, RunRecord]:
    """Return the network of a run with the weights that it was scored with, and the run's record.

    ``run`` is a run folder or its record, in the results folder where it was made. Raises DataError where the run has
    not ended well or its weights are gone, OptionError or PluginError where its backbone is not installed here.
    """
    file = run / RECORD if run.is_dir() else run
    record = read_record(file)
    if record.status != "ok":
        raise DataError(f"{file}: the run is {record.status}: {record.error or 'no reason was recorded'}")
    item = load().resolve("backbone", record.items["backbone"].spec)
    network = build_backbone(item, record.job.seed)
    folder = file.absolute().parent.parent.parent / record.training
    if record.items["loss"].spec == "none":
        with_seed(network.initialise, record.job.seed, "initialise")
    elif (folder / WEIGHTS).is_file():
        load_weights(network, folder)
    else:
        raise DataError(
            f"{file}: its weights are not in {folder}; reproduce the run with reidbench run {file}, and name its folder"
        )
    return network, record


def embed_list(run: Path, images: Path, out: Path, machine: Machine) -> tuple[int, int]:
    """Write the embeddings of the images in a list as an npz and return (images, dimensions).

    ``images`` is a list as ``read_image_list`` reads it, with perhaps pid and camid; other columns are ignored. The npz
    holds ``embeddings`` [m, D] float32, as the run's views make them (not pooled, not normalised), ``paths`` [m] and,
    where the list has them, ``pids`` and ``cams`` [m] int64. Raises DataError where a file cannot be used.
    """
    if out.suffix != ".npz":
        raise OptionError(f"--out {out}: expected a file that ends with .npz")
    samples, columns = _read_list(images, machine.data)
    network, record = load_network(run)
    views = record.evaluation.views
    with float32_products():
        made = embed_images(
            network.to(machine.device), samples, views, machine.device, machine.threads, "embedding the images"
        )
    kept = {COPIED_COLUMNS[column]: getattr(samples, COPIED_COLUMNS[column]) for column in columns}
    save_arrays(out, {"embeddings": made.numpy(), "paths": samples.images, **kept})
    return len(made), network.embedding_dim


def _read_list(file: Path, data_root: Path) -> tuple[Samples, list[str]]:
    """Return the images of a list and which of the columns pid and camid it has."""
    copied: list[str] = []

    def choose(header: list[str]) -> ListColumns[tuple[str, dict[str, int]]]:
        copied.extend(column for column in COPIED_COLUMNS if column in header)
        return ListColumns(("path",), None, read_row)

    def read_row(cells: Mapping[str, str], image: str, _line: int) -> tuple[str, dict[str, int]]:
        return image, {column: whole_number(cells[column], column) for column in copied}

    root, rows = read_image_list(file, data_root, choose)
    if not rows:
        raise DataError(f"{file}: lists no images")
    numbers = {column: [numbers.get(column, 0) for _, numbers in rows] for column in COPIED_COLUMNS}
    return Samples.of_images(root, [image for image, _ in rows], numbers["pid"], numbers["camid"]), copied
