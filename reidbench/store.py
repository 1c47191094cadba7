"""Where results lie: one folder a training, one folder a run, checkpoints that are whole or not there."""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.errors import DataError
from reidbench.files import write_atomic
from reidbench.record import RANKINGS, RECORD, RunRecord, read_record
from reidbench.values import Ranking

WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
AGAIN = "again"
KEPT_CHECKPOINTS = 2


def _label(*names: str) -> str:
    """Return item names as a part of a folder's name: letters, digits, ``_``, ``+`` and ``.`` only."""
    return "-".join(re.sub(r"[^A-Za-z0-9_+.]+", "", name.replace("/", "."))[:48] for name in names)


class Store:
    """A results folder: ``trainings/`` hold weights, log and embeddings, ``runs/`` hold records and rankings.

    A folder's name ends with the first digits of its id and of its code, so that edited code gets a new folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def training_folder(self, names: Sequence[str], seed: int, train_id: str, code: str) -> Path:
        """Return the folder of one training; ``names`` are the items' names, for people."""
        return self.folder / "trainings" / f"{_label(*names)}-s{seed}-{train_id[:10]}-{code[:6]}"

    def run_folder(self, names: Sequence[str], seed: int, run_id: str, code: str) -> Path:
        """Return the folder of one run."""
        return self.folder / "runs" / f"{_label(*names)}-s{seed}-{run_id[:10]}-{code[:6]}"

    def records(self, where: Sequence[Path] = ()) -> list[tuple[Path, RunRecord]]:
        """Return (run folder, record) for the run folders, record files or folders above them in ``where``.

        Without ``where``, all records of this results folder. Runs that were made again, in a folder "again", count
        only where that folder itself is given. Within each place in the order in which they began.
        Raises DataError where a given place holds no record, or a record is damaged.
        """
        found: list[tuple[Path, RunRecord]] = []
        for place in where or [self.folder]:
            below = (file for file in place.rglob(RECORD) if AGAIN not in file.relative_to(place).parts)
            files = [place] if place.is_file() else sorted(below)
            if not files and where:
                raise DataError(
                    f"{place}: no {RECORD} there or below; name a run folder, its record or a results folder"
                )
            pairs = [(file.parent, read_record(file)) for file in files]
            found += sorted(pairs, key=lambda pair: (pair[1].started, pair[0]))
        return found

    def earlier(self, run_folder: Path) -> list[RunRecord]:
        """Return the records of the same run made by other code, newest first; unreadable ones are passed over."""
        stem = run_folder.name.rpartition("-")[0]
        found = []
        for folder in run_folder.parent.glob(f"{stem}-*"):
            if folder != run_folder and (folder / RECORD).is_file():
                with contextlib.suppress(DataError):  # of an older schema, for example
                    found.append(read_record(folder / RECORD))
        return sorted(found, key=lambda record: record.finished, reverse=True)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``step`` updates: named tensors, and what is no tensor as JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in memory of the CPU, each in its own: safetensors refuses what shares some (tied weights)."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = (tensor.clone() if place in seen else tensor).detach().contiguous().cpu()
        seen.add(place)
    return found


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint aside and rename it, then drop all but the newest two.

    One safetensors file holds the tensors and, in its header, the state, so that the two can never disagree.
    """
    state = json.dumps({"step": checkpoint.step, **checkpoint.state}, allow_nan=False)
    data = safetensors.torch.save(on_cpu(checkpoint.tensors), metadata={"state": state})
    write_atomic(folder / f"checkpoint-{checkpoint.step:08d}.safetensors", data)
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT_CHECKPOINTS]:
        old.unlink()


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a folder, or None; raises DataError where the newest is damaged."""
    files = sorted(folder.glob("checkpoint-*.safetensors"))
    if not files:
        return None
    try:
        with safetensors.safe_open(files[-1], framework="pt") as opened:
            state = json.loads(opened.metadata()["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, no mapping
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{files[-1]}: is damaged ({error}); delete it to go on from the one before") from None
    return Checkpoint(step=int(state.pop("step")), tensors=tensors, state=state)


def latest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of a folder, 0 if there is none."""
    steps = [int(file.stem.rpartition("-")[2]) for file in folder.glob("checkpoint-*.safetensors")]
    return max(steps, default=0)


def drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a training that is complete."""
    for file in folder.glob("checkpoint-*.safetensors"):
        file.unlink()


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as one npz, atomically and without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(file, buffer.getvalue())


def load_arrays(file: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the named arrays, or all, of an npz that this store wrote; raises DataError where it is damaged."""
    try:
        # Opened here, since numpy leaves the file open where it is no archive.
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            return {name: opened[name] for name in names or opened.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: is damaged ({error}); delete it and run the same command again") from None


def save_ranking(folder: Path, ranking: Ranking) -> None:
    """Keep the rank of every positive beside the record, so that scores can be recomputed without the network."""
    save_arrays(folder / RANKINGS, vars(ranking))


def load_ranking(folder: Path) -> Ranking:
    """Return the ranking beside a record."""
    return Ranking(**load_arrays(folder / RANKINGS))
