"""The results folder: one folder for each training and each run, and what they hold."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reidbench.data.split import Split
from reidbench.errors import DataError
from reidbench.images.contents import split_contents
from reidbench.ranking.rankings import RANKINGS
from reidbench.runs.record import RECORD, RunRecord, read_record
from reidbench.training.checkpoint import TrainingSummary, latest_step, read_summary, training_files
from reidbench.utils.machine import Machine

AGAIN = "again"  # subfolder of the results for runs that reproduce a record


@dataclass(frozen=True)
class RunState:
    """What the results folder holds of a run, read once.

    ``record``: the record of this run by this code, if it was scored.
    ``summary``: the summary of the finished training.
    ``step``: the step of the newest checkpoint, 0 without one.
    ``earlier``: the newest record of the same run by other code.
    ``changes``: how the images differ from those of a record or a training that they supersede.
    ``superseded``: the files of these.
    """

    record: RunRecord | None = None
    summary: TrainingSummary | None = None
    step: int = 0
    earlier: RunRecord | None = None
    changes: str = ""
    superseded: Sequence[Path] = ()

    @property
    def status(self) -> Literal["new", "resumable", "trained", "done"]:
        """What is there: nothing, a checkpoint, a finished training, or scores."""
        if self.record:
            return "done"
        if self.summary:
            return "trained"
        return "resumable" if self.step else "new"

    def __str__(self) -> str:
        if self.status == "new" and (self.changes or self.earlier):
            return "new images" if self.changes else "new code"
        texts = {"resumable": f"resumes at step {self.step}", "trained": "trained, not scored"}
        return texts.get(self.status, self.status)


def read_state(
    training_folder: Path, run_folder: Path, run_id: str, code: str, split: Split, machine: Machine
) -> RunState:
    """Return what two folders hold of the run ``run_id`` by ``code`` on the images of ``split``.

    An image is read only where its file's stats are unknown, and only where there is a record or a finished training: a
    checkpoint is compared when it is resumed. Raises DataError where a file is damaged or an image cannot be used.
    """
    file = run_folder / RECORD
    try:
        record = read_record(file) if file.is_file() else None
    except DataError as error:
        raise DataError(f"{error}; delete it, and the same command scores again") from None
    if record and not (record.scored and (record.id, record.code) == (run_id, code)):
        record = None
    summary, step = read_summary(training_folder), latest_step(training_folder)
    contents = split_contents(split, machine) if record or summary else {}
    if record and record.dataset.content == contents:
        return RunState(record=record)
    superseded = [each for each in (file, run_folder / RANKINGS) if record and each.is_file()]
    recorded = dict(record.dataset.content) if record else {}
    if summary and summary.content != contents["train"]:
        recorded["train"] = summary.content
        superseded += training_files(training_folder)
        summary, step = None, 0
    return RunState(
        summary=summary,
        step=step,
        earlier=max(_earlier_records(run_folder), key=lambda earlier: earlier.finished, default=None),
        changes=content_changes(recorded, split, machine) if superseded else "",
        superseded=superseded,
    )


def content_changes(recorded: Mapping[str, str], split: Split, machine: Machine) -> str:
    """Return which parts' images differ from the ``recorded`` content digests; "" where none do."""
    digests = split_contents(split, machine)
    changed = [name for name, digest in digests.items() if recorded.get(name, digest) != digest]
    return f"content of the {' and '.join(changed)} images differs" if changed else ""


def _earlier_records(run_folder: Path) -> Iterable[RunRecord]:
    """Yield the records of the same run by other code; unreadable ones are skipped."""
    for folder in run_folder.parent.glob(f"{without_code(run_folder.name)}-*"):
        if folder != run_folder and (folder / RECORD).is_file():
            with contextlib.suppress(DataError):  # of an older schema, for example
                yield read_record(folder / RECORD)


def without_code(folder_name: str) -> str:
    """Return the name of a training's or a run's folder without the digits of its code."""
    return folder_name.rpartition("-")[0]


class Store:
    """A results folder: ``trainings/`` hold weights, logs and embeddings, ``runs/`` hold records and rankings.

    A folder's name ends with the first digits of its id and of its code, so that edited code gets a new folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(
        self, part: Literal["trainings", "runs"], names: Sequence[str], seed: int, own_id: str, code: str
    ) -> Path:
        """Return the folder of a training or a run; ``names`` are those of its items, for readers."""
        labels = (re.sub(r"[^A-Za-z0-9_+.]+", "", name.replace("/", "."))[:48] for name in names)
        return self.folder / part / f"{'-'.join(labels)}-s{seed}-{own_id[:10]}-{code[:6]}"

    def folder_names(self) -> set[str]:
        """Return the names of all folders of trainings and runs, without the digits of their code."""
        return {without_code(path.name) for part in ("trainings", "runs") for path in (self.folder / part).glob("*")}

    def records(self, where: Sequence[Path] = ()) -> list[tuple[Path, RunRecord]]:
        """Return (run folder, record) for the run folders, record files or folders above them in ``where``.

        Without ``where``, all records of this results folder. Runs that reproduce a record, in a folder "again", count
        only where that folder itself is given. In each place they are in the order in which they began.
        Raises DataError where a given place holds no record, or a record is damaged.
        """
        runs: list[tuple[Path, RunRecord]] = []
        for place in where or [self.folder]:
            below = (file for file in place.rglob(RECORD) if AGAIN not in file.relative_to(place).parts)
            files = [place] if place.is_file() else sorted(below)
            if not files and where:
                raise DataError(f"{place}: has no {RECORD} in it; name a run folder, its record or a results folder")
            pairs = [(file.parent, read_record(file)) for file in files]
            runs += sorted(pairs, key=lambda pair: (pair[1].started, pair[0]))
        return runs
