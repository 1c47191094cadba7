"""The records of a call, or of what results folders hold, as rows and as a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reidbench.errors import DataError, OptionError
from reidbench.ranking.scores import headline_scores
from reidbench.runs.plan import KINDS
from reidbench.runs.record import RunRecord
from reidbench.runs.store import Store
from reidbench.runs.suite import find_suite, load_suite
from reidbench.utils.machine import local_machine, user_path

if TYPE_CHECKING:
    import pandas as pd


class Records(list[RunRecord]):
    """Records, in the order of the jobs or of their places.

    ``folders``: the folder of each run.
    """

    def __init__(self, runs: Iterable[tuple[Path, RunRecord]]) -> None:
        pairs = list(runs)
        super().__init__(record for _, record in pairs)
        self.folders = [folder for folder, _ in pairs]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each run: its items, seed, status, scores, ends of their intervals, seconds and ids."""
        return [
            {kind: record.items[kind].short for kind in KINDS}
            | {"seed": record.job.seed, "status": record.status, **record.scores}
            | {f"{name}_low": ends[0] for name, ends in record.intervals.items()}
            | {f"{name}_high": ends[1] for name, ends in record.intervals.items()}
            | {f"{name}_seconds": seconds for name, seconds in record.seconds.items()}
            | {"id": record.id, "train_id": record.train_id, "code": record.code}
            for record in self
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return ``rows`` as a table, and a column with the folder of each run."""
        import pandas as pd  # noqa: PLC0415 - takes a second to import

        return pd.DataFrame(self.rows()).assign(folder=list(map(str, self.folders)))

    def __repr__(self) -> str:
        return str(self._brief_frame())

    def _repr_html_(self) -> str:
        return str(self._brief_frame().to_html())  # which escapes

    def _brief_frame(self) -> pd.DataFrame:
        """Return the items that differ between the runs, their seeds, status and first scores."""
        frame = self.to_frame()
        scores = (name for each in self for name in headline_scores(each.scores, each.evaluation.primary))
        shown = ("loss", "seed", "status", *scores)
        return frame[[key for key in frame if key in shown or (key in KINDS and frame[key].nunique() > 1)]]


def records(*places: str | Path, results: str | Path | None = None) -> Records:
    """Return the records below run folders, records, folders above them, or of suites; without any, all of ``results``.

    Raises DataError where there is none, or where one is damaged, and OptionError for a place that does not exist.
    """
    store = Store(local_machine(results=results).results)
    runs = [run for place in places for run in _records_at(str(place), store)] if places else store.records()
    if not runs:
        raise DataError(f"{store.folder}: holds no finished run; make one with: reidbench run")
    return Records(runs)


def _records_at(place: str, store: Store) -> list[tuple[Path, RunRecord]]:
    """Return the runs of a place: a folder or record by its path, else a suite's runs in the store."""
    path = user_path(place)
    if path.exists() and path.suffix != ".toml":
        return store.records([path])
    try:
        suite = find_suite(place)
    except OptionError as error:
        raise OptionError(f"{place}: there is no such file or folder, and {error}") from None
    jobs = set(load_suite(suite).every_scale())
    runs = [(folder, record) for folder, record in store.records() if record.job in jobs]
    if not runs:
        raise DataError(f"{store.folder}: holds no run of suite {place}; make them with: reidbench run {place}")
    return runs
