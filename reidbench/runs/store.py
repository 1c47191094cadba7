"""Where results lie: one folder a training, one folder a run, checkpoints that are whole or not there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from reidbench.errors import DataError
from reidbench.runs.record import RECORD, RunRecord, read_record

AGAIN = "again"


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
