"""Embed the images of a list in shards: ``.npy`` files of one folder, each by a task of its own."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import load
from reidbench.runs.driver import Results, execute_tasks
from reidbench.runs.export import LABELS, read_list
from reidbench.runs.plan import TimeLeft
from reidbench.runs.provenance import embedding_code
from reidbench.runs.record import RECORD, read_record
from reidbench.runs.tasks import BATCHES, Batch, Executor, Task
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import Machine
from reidbench.utils.untrusted_files import parse_json, read_text

CONTENT = "shards.json"
TASKS = "shards.jsonl"
MOST = 9_999  # numbers of four digits, so that the order of the names is that of the numbers


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
        check_content(out / CONTENT, content)
    for old in out.glob("shard-*.csv"):
        old.unlink()
    write_atomic(out / CONTENT, json.dumps(content, indent=1))
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
        tasks.append(Task(number, file.stem, ("work", str(folder / TASKS), str(number)), device, threads))
    write_atomic(folder / TASKS, "".join(texts))
    ended = {number: file for number, file in enumerate(files) if file.exists()}  # each appears as a whole
    time_left = TimeLeft([float(number not in ended) for number in range(count)])
    results = Results("shards", files, ended, lambda number: (files[number], f"{files[number].name}: done"), time_left)
    locks = [file.with_suffix(".lock") for file in files]  # of which there are none: a shard is written as a whole
    yield from execute_tasks(Batch(folder, tasks, [[number] for number in range(count)], locks), results, executor)


def describe_network(run: Path) -> dict[str, Any]:
    """Return what the embeddings of a run depend on beside the images: its weights, its views, and the code here."""
    record = read_record(run / RECORD if run.is_dir() else run)
    backbone = load().resolve("backbone", record.items["backbone"].spec)
    return {"run": record.id, "weights": record.weights, "views": record.evaluation.views, **embedding_code(backbone)}


def check_content(file: Path, content: Mapping[str, Any]) -> None:
    """Raise DataError where a folder's shards are of other content than this."""
    existing = parse_json(read_text(file), str(file))
    if changed := [name for name, value in content.items() if existing.get(name) != value]:
        raise DataError(f"{file}: its shards are of other {', '.join(changed)}; delete them, or name another folder")
