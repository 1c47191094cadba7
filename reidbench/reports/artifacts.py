"""The artifacts of the runs of a report: rankings, logs, embeddings and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from reidbench.data.samples import Samples
from reidbench.data.split import Split, across
from reidbench.embedding.cache import EmbeddingCache
from reidbench.embedding.pooling import pool_units
from reidbench.errors import DataError, ReidbenchError
from reidbench.plugins.catalogue import load
from reidbench.plugins.spec import Spec
from reidbench.ranking.rankings import Ranking, read_ranking
from reidbench.runs.job import DATASETS
from reidbench.runs.record import RunRecord
from reidbench.runs.store import content_changes
from reidbench.training.checkpoint import LOG
from reidbench.utils.arrays import read_arrays
from reidbench.utils.machine import SCALES, Machine
from reidbench.utils.untrusted_files import real_path

Runs = Sequence[tuple[Path, RunRecord]]


class RunFiles:
    """The files beside the records of a report, and the data below ``machine.data``.

    Created with ``runs``, pairs of run folder and record, the ``machine``, whether ``figures`` are shown, and whether
    ``pictures`` of real people may be. Every method takes one of these records, and raises DataError where its file is
    missing or damaged, or belongs to other data.
    """

    def __init__(self, runs: Runs, machine: Machine, *, figures: bool = True, pictures: bool = False) -> None:
        self.machine, self.figures, self.pictures = machine, figures, pictures
        self._folders = {_key(record): folder for folder, record in runs}
        self._part: Callable[..., Split] = cache(lambda spec, root: load().resolve("dataset", spec).build(root))
        self._split = cache(lambda specs, root: across(*(self._part(spec, root) for spec in specs)))

    def ranking(self, record: RunRecord) -> Ranking:
        """Return the rank of every positive."""
        folder = self.folder(record)
        if not record.scored:
            raise DataError(f"{folder}: was not scored: {record.error or record.status}")
        ranking = read_ranking(folder)
        if ranking.gallery > record.scores.get("gallery", 0):
            raise DataError(f"{folder}: its rankings need more gallery units than its record has")
        return ranking

    def log(self, record: RunRecord) -> Mapping[str, NDArray[Any]]:
        """Return the columns of the training's log by name, each [steps], ``items`` [steps, 128]."""
        if record.items["loss"].spec == "none":
            raise DataError("the untrained network has no log")
        file = self._training(record) / LOG
        if not file.is_file():
            raise DataError(f"{file} is missing: the run is {record.status}: {record.error or 'no reason recorded'}")
        return read_arrays(file)

    def split(self, record: RunRecord) -> Split:
        """Return the data that the run was scored on, below the data root or synthesized for a scale of a suite."""
        specs = tuple(record.items[kind].spec for kind in DATASETS if kind in record.items)
        try:  # the record is untrusted: only a known dataset's name becomes a path
            name = Spec.parse(specs[0], where="dataset").item.name
            load().find("dataset", name)
        except ReidbenchError as error:
            raise DataError(str(error)) from None
        wrong: list[str] = []
        # Only existing folders: a dataset may synthesize itself wherever it is built.
        synthesized = sorted(scale for scale in (self.machine.cache / SCALES).glob("*") if (scale / name).exists())
        for root in (self.machine.data, *synthesized):
            try:
                split = self._split(specs, root)
            except ReidbenchError as error:
                wrong.append(str(error))
                continue
            place = f"dataset {specs[0]} below {split.query.root}"
            if split.digest != (expected := record.dataset.digest):
                digests = f"digest {split.digest[:12]}, the run's {expected[:12]}"
                wrong.append(f"{place} is other data than the run's ({digests}); name its folder with --data-root")
            elif changes := content_changes(record.dataset.content, split, self.machine):
                wrong.append(f"{place} has changed since the run: {changes}")
            else:
                return split
        raise DataError(wrong[0])

    def embeddings(self, record: RunRecord, part: Samples) -> Tensor:
        """Return one embedding per unit [n, D] float32 of the query or gallery, pooled as for the run's scores.

        Embeddings that are not cached are extracted.
        """
        from reidbench.runs.export import load_network  # noqa: PLC0415 - only reports on images embed again

        self._training(record)
        try:
            network, _ = load_network(self.folder(record))
        except ReidbenchError as error:
            raise DataError(str(error)) from None
        cpu = replace(self.machine, device=torch.device("cpu"))
        # Nothing is written: a run may be writing there, and a report holds no lock.
        embeddings = EmbeddingCache(self._training(record), network, record.evaluation.views, cpu, write=False)
        return pool_units(embeddings.embeddings(part, "test"), part.starts, record.evaluation.pool)

    def folder(self, record: RunRecord) -> Path:
        """Return the run's folder."""
        if _key(record) not in self._folders:
            raise DataError(f"run {record.id[:12]} has no folder here")
        return self._folders[_key(record)]

    def _training(self, record: RunRecord) -> Path:
        results = self.folder(record).absolute().parent.parent
        folder = results / record.training
        # The record is untrusted: its path must not lead out of its results folder.
        if not real_path(folder).is_relative_to(real_path(results)) or not folder.is_dir():
            raise DataError(f"{folder} is missing: a record does not contain it; repeat the run to create it")
        return folder


def _key(record: RunRecord) -> tuple[str, str, str]:
    return record.id, record.code, record.finished
