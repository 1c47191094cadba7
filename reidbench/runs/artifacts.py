"""What lies beside the records of a report: rankings, logs, embeddings, and the images they speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.data.split import Split
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import pool_units
from reidbench.errors import DataError, ReidbenchError
from reidbench.plugins.catalogue import load
from reidbench.plugins.spec import Spec
from reidbench.ranking.rankings import Ranking, read_ranking
from reidbench.runs.export import load_network
from reidbench.runs.record import RunRecord
from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import load_arrays
from reidbench.utils.machine import SCALES, Machine


class RunFiles:
    """The files of ``runs``, (run folder, record) each, and the data below ``machine.data``.

    Every method takes one of these records and raises DataError, saying what is missing and what to do, where its file
    is not there, is damaged, or belongs to other data.
    """

    def __init__(self, runs: Sequence[tuple[Path, RunRecord]], machine: Machine) -> None:
        self.machine = machine
        self._folders = {_key(record): folder for folder, record in runs}
        self._splits: dict[tuple[str, Path], Split] = {}

    def ranking(self, record: RunRecord) -> Ranking:
        """Return where the positives of every query stand."""
        folder = self._folder(record)
        if not record.scored:
            raise DataError(f"{folder}: was not scored: {record.error or record.status}")
        return read_ranking(folder)

    def log(self, record: RunRecord) -> Mapping[str, NDArray[Any]]:
        """Return the log of the training, each column [steps] by its name, ``items`` [steps, 128]."""
        if record.items["loss"].spec == "none":
            raise DataError("the untrained network has no log")
        file = self._training(record) / LOG
        if not file.is_file():
            raise DataError(f"{file} is not there: the run is {record.status}: {record.error or 'no reason was kept'}")
        return load_arrays(file)

    def split(self, record: RunRecord) -> Split:
        """Return the data that the run was scored on, below the data root or drawn for a scale of a suite."""
        spec = record.items["dataset"].spec
        try:  # a record may come from a stranger: nothing is looked for under a name that no data set has
            name = Spec.parse(spec, where="dataset").item.name
            load().find("dataset", name)
        except ReidbenchError as error:
            raise DataError(str(error)) from None
        wrong: list[str] = []
        # Only where such data lie already: a data set may draw itself wherever it is asked for.
        drawn = sorted(scale for scale in (self.machine.cache / SCALES).glob("*") if (scale / name).exists())
        for root in (self.machine.data, *drawn):
            try:
                split = self._split(spec, root)
            except ReidbenchError as error:
                wrong.append(str(error))
                continue
            if split.digest == record.dataset.digest:
                return split
            wrong.append(
                f"data set {spec} below {split.query.root} is other data than the run's (digest {split.digest[:12]}, "
                f"the run's {record.dataset.digest[:12]}); name its folder with --data-root"
            )
        raise DataError(wrong[0])

    def _split(self, spec: str, root: Path) -> Split:
        if (spec, root) not in self._splits:
            built: Split = load().resolve("dataset", spec).build(root)
            self._splits[spec, root] = built
        return self._splits[spec, root]

    def embeddings(self, record: RunRecord, part: Samples) -> Tensor:
        """Return one embedding a unit [n, D] float32, pooled as the run was scored, of the split's query or gallery.

        Those that were not kept are made again.
        """
        self._training(record)
        try:
            network, _ = load_network(self._folder(record))
        except ReidbenchError as error:
            raise DataError(str(error)) from None
        cache = EmbeddingCache(
            self._training(record),
            network,
            record.evaluation.views,
            torch.device("cpu"),
            self.machine.threads,
            write=False,  # a run may be writing there, and a report holds no lock
        )
        return pool_units(cache.embeddings(part, "test"), part.starts, record.evaluation.pool)

    def _folder(self, record: RunRecord) -> Path:
        if _key(record) not in self._folders:
            raise DataError(f"run {record.id[:12]} has no folder here")
        return self._folders[_key(record)]

    def _training(self, record: RunRecord) -> Path:
        results = self._folder(record).absolute().parent.parent
        folder = results / record.training
        # A record may come from a stranger: no path of it leads out of its results.
        if not folder.resolve().is_relative_to(results.resolve()) or not folder.is_dir():
            raise DataError(f"{folder} is not there: a record alone does not bring it; make the run again to see it")
        return folder


def _key(record: RunRecord) -> tuple[str, str, str]:
    return record.id, record.code, record.finished
