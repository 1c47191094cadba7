"""Load the trained network of a run, and embed any images with it as the run was scored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

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

# Columns that are copied to the output where the list has them, and their names there.
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

    ``images`` is a CSV file with a column ``path``, relative to its own folder, and perhaps pid and camid. The npz
    holds ``embeddings`` [m, D] float32, as the run's views make them (not pooled, not normalised), ``paths`` [m] and,
    where the list has them, ``pids`` and ``cams`` [m] int64. Raises DataError where a file cannot be used.
    """
    if out.suffix != ".npz":
        raise OptionError(f"--out {out}: expected a file that ends with .npz")
    samples, columns = _read_list(images)
    network, record = load_network(run)
    views = record.evaluation.views
    with float32_products():
        made = embed_images(
            network.to(machine.device), samples, views, machine.device, machine.threads, "embedding the images"
        )
    kept = {COPIED_COLUMNS[column]: getattr(samples, COPIED_COLUMNS[column]) for column in columns}
    save_arrays(out, {"embeddings": made.numpy(), "paths": samples.images, **kept})
    return len(made), network.embedding_dim


def _read_list(file: Path) -> tuple[Samples, list[str]]:
    """Return the images of a list and which of the columns pid and camid it has."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a CSV list: {error}") from None
    if "path" not in columns:
        raise DataError(f"{file}: line 1: lacks the column path; found {', '.join(map(repr, columns)) or 'nothing'}")
    if not rows:
        raise DataError(f"{file}: lists no images")
    copied = [column for column in COPIED_COLUMNS if column in columns]
    numbers = {column: np.zeros(len(rows), dtype=np.int64) for column in COPIED_COLUMNS}
    for place, (line, row) in enumerate(rows):
        if not row["path"] or not (file.parent / row["path"]).is_file():
            raise DataError(f"{file}: line {line}: there is no file {row['path']!r} below {file.absolute().parent}")
        for column in copied:
            try:
                numbers[column][place] = int(row[column] or "")
            except (ValueError, OverflowError):
                raise DataError(f"{file}: line {line}: {column} {row[column]!r} is no whole number") from None
    paths = [row["path"] for _, row in rows]
    return Samples.of_images(file.absolute().parent, paths, numbers["pid"], numbers["camid"]), copied
