"""The contract checks of datasets, protocols, recipes, synthesizers, re-rankers, report sections and executors.

One generic check covers what an item declares or builds; a few checks with numbers follow it.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from reidbench.data.protocol import Protocol
from reidbench.data.samples import JUNK
from reidbench.data.split import Split
from reidbench.errors import check_fields
from reidbench.images.augment import view_crops
from reidbench.images.decode import read_image
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import BackboneInfo, Metric, Preprocess, Reranker
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.html import to_html
from reidbench.reports.sections import Part, Section
from reidbench.reports.text_formats import render_terminal, to_csv, to_markdown
from reidbench.runs.job import protocol_problems
from reidbench.runs.record import RECORD, CameraMatrix, RunRecord, read_record
from reidbench.runs.suite import leaderboards_folder
from reidbench.runs.tasks import TASKS, Executor, Task
from reidbench.testing.checked_item import Subject, clusters, expect, expect_equal, expect_finite, expect_ordered
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import local_machine

# Networks of several kinds, since a recipe may depend on any of these values.
NETWORKS = (
    BackboneInfo(128, Preprocess(64, 32), pretrained=False, parameters=650_000),
    BackboneInfo(2048, Preprocess(256, 128), pretrained=True, parameters=25_000_000, batch=(18, 4)),
    BackboneInfo(1, Preprocess(16, 16), pretrained=False, parameters=1, batch=(1, 2), faithful_to="a paper"),
)
FIRST_STEPS = 3  # of a synthesizer, which may run for hours
QUERIES = 17  # of a re-ranker: a prime, so that no block but one row or all fits evenly
HOSTILE = "[bold]<script>=cmd[/foo]../x\u202e" + "y" * 100


@dataclass
class _Builds:
    """What an item builds, with the checks that hold for every kind.

    ``subject``: the item.
    ``expected``: the type of what it builds.
    ``cases``: the positional arguments of each build.
    ``content``: what must be equal of two builds of one case.
    ``values``: one build for each case, made by the first check.
    """

    subject: Subject
    expected: type
    cases: Sequence[tuple[Any, ...]] = ((),)
    content: Callable[[Any], object] = lambda value: value
    values: list[Any] = field(default_factory=list)

    def run_checks(self, own: dict[str, Callable[[], None]]) -> tuple[str, ...]:
        """Run the checks of every kind and ``own``, those of one; returns and raises as ``Subject.run_checks``."""
        first = {"contract": self.contract, "builds repeat": self.repeat}
        return self.subject.run_checks(first | own | {"options": self.subject.check_options})

    def contract(self) -> None:
        for supplied in self.cases:
            value = self.subject.build(*supplied)
            right_type = isinstance(value, self.expected)
            expect(right_type, f"expected a reidbench.{self.expected.__name__}, got {type(value).__name__}")
            self.values.append(value)

    def repeat(self) -> None:
        for supplied, first in zip(self.cases, self.values, strict=True):
            with _no_side_effects():
                second = self.subject.spec.build(*supplied)
            expect(self.content(first) == self.content(second), f"two builds differ: {first!s:.200}, {second!s:.200}")


@contextmanager
def _no_side_effects() -> Iterator[None]:
    """Raise Violation where the block draws from a global random generator or opens a file for writing."""

    def state() -> bytes:
        return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))

    before = state()
    _written.clear()
    yield
    expect(not _written, f"building it opened files for writing: {', '.join(_written[:3])}")
    expect(state() == before, "building it drew from a global random generator; use reidbench.stream(seed, ...)")


_written: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        _written.append(str(arguments[0]))


sys.addaudithook(_audit)


def check_dataset(dataset: str | Callable[..., Split], *, root: Path | None = None, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a dataset passes.

    ``dataset`` is a spec of an installed dataset or a factory ``(root, *, options) -> Split`` with ``options``;
    ``root`` is the folder of the datasets (the machine's own by default). Raises ContractError at the first check that
    fails, OptionError for a name or an option that does not fit.
    """
    subject = Subject("dataset", dataset, options)
    builds = _Builds(subject, Split, [(root or local_machine().data,)], lambda split: split.digest)
    return builds.run_checks({"split and images": lambda: _check_split(builds.values[0])})


def _check_split(split: Split) -> None:
    parts = {"train": split.train, "query": split.query, "gallery": split.gallery, "fit": split.fit}
    for name, part in parts.items():
        expect(len(part) > 0, f"{name} is empty")
        for column, array in (("pids", part.pids), ("cams", part.cams), ("starts", part.starts)):
            expect(array.dtype == np.int64 and array.ndim == 1, f"{name}.{column} must be 1-d int64, got {array.dtype}")
        read_image(part.path(0))  # that all of them exist was checked by the digest
    identities, counts = np.unique(split.train.pids, return_counts=True)
    expect(
        len(identities) > 1 and counts.max() > 1,
        f"train has {len(identities)} identities with at most {counts.max()} units; expected two, one with two units",
    )
    lowest = split.query.pids.min(), split.gallery.pids.min()
    expect(lowest[0] > 0 and lowest[1] >= JUNK, f"pids must be above 0, and from {JUNK} in the gallery, got {lowest}")
    shared = np.intersect1d(identities, np.concatenate([split.query.pids, split.gallery.pids]))
    expect(not len(shared), f"{len(shared)} identities are in training and in test, such as {shared[:3]}")
    expect(bool(np.isin(split.query.pids, split.gallery.pids).any()), "no query has its identity in the gallery")
    expect(not len(np.setdiff1d(split.fit.pids, identities)), "fit has identities that train lacks")
    expect(not split.wrong_counts, f"it is incomplete: {'; '.join(split.wrong_counts)}")


def check_protocol(protocol: str | Callable[..., Protocol], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a protocol passes; its data are not read.

    ``protocol`` is a spec of an installed protocol or a factory ``(*, options) -> Protocol`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    builds = _Builds(Subject("protocol", protocol, options), Protocol)
    return builds.run_checks({"values": lambda: _check_protocol(builds.values[0])})


def _check_protocol(protocol: Protocol) -> None:
    check_fields("its values", protocol)
    problems = protocol_problems(protocol)
    expect(not problems, "; ".join(problems))
    load().resolve("dataset", protocol.dataset)
    load().resolve("recipe", protocol.recipe, protocol.defaults).build(NETWORKS[0])
    view_crops(protocol.views, NETWORKS[0].preprocess)


def check_recipe(recipe: str | Callable[..., Recipe], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a recipe passes, for networks of several kinds.

    ``recipe`` is a spec of an installed recipe or a factory ``(backbone, *, options) -> Recipe`` with ``options``.
    Raises ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    builds = _Builds(Subject("recipe", recipe, options), Recipe, [(network,) for network in NETWORKS])

    def values() -> None:
        for value in builds.values:
            check_fields("its values", value)

    return builds.run_checks({"values": values})


def check_synthesizer(synthesizer: str | Callable[..., Iterator[tuple[int, int]]], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a synthesizer passes in its first steps, in a temporary folder.

    ``synthesizer`` is a spec of an installed one or a factory ``(directory, *, options)`` with ``options`` that yields
    (images done, images in all). Raises ContractError at the first check that fails, OptionError for what does not fit.
    """
    subject = Subject("synthesizer", synthesizer, options)

    def progress() -> None:
        with tempfile.TemporaryDirectory() as folder:
            stopped, resumed = (list(islice(subject.build(Path(folder)), FIRST_STEPS)) for _ in range(2))
        for done, total in stopped + resumed:
            expect(0 <= done <= total, f"expected (images done, images in all), got {(done, total)!r:.80}")
        expect(bool(stopped) and bool(resumed), "it yields nothing; expected (images done, images in all)")
        expect(len({total for _, total in stopped + resumed}) == 1, f"the number of images in all changes: {stopped}")
        expect(stopped == sorted(stopped), f"the number of images done falls: {stopped}")
        expect(resumed[-1] >= stopped[-1], f"it was stopped at {stopped[-1]} and resumes at {resumed}")

    return subject.run_checks({"progress and resuming": progress, "options": subject.check_options})


def check_reranker(
    reranker: str | Callable[..., Reranker], *, metric: Metric | None = None, seed: int = 0, **options: Any
) -> tuple[str, ...]:
    """Return the names of the contract checks that a re-ranker passes.

    ``reranker`` is a spec of an installed re-ranker or a factory ``(*, options) -> Reranker`` with ``options``;
    ``metric`` is what it is given, the Euclidean distance by default; ``seed`` gives the embeddings. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    builds = _Builds(Subject("reranker", reranker, options), Reranker, content=type)
    rows, pids = clusters(15, 5, seed, "reranker")
    query, gallery = rows[:QUERIES].float(), rows[QUERIES:].float()

    def distances(rows: int, query: Tensor = query, gallery: Tensor = gallery) -> Tensor:
        blocks = list(builds.subject.build(seed=seed).blocks(query, gallery, metric or _Euclidean(), rows))
        for block in blocks:
            expect(block.is_floating_point(), f"blocks must be float32 or float64, got {block.dtype}")
            expect(block.shape[1:] == gallery.shape[:1], f"blocks must be [rows, {len(gallery)}], got {block.shape}")
            expect_finite(block, "a block")
        counts = [len(block) for block in blocks]
        complete = sum(counts) == len(query) and max(counts) <= rows
        expect(complete, f"expected {len(query)} rows in all, at most {rows} in a block, got blocks of {counts} rows")
        return torch.cat(blocks)

    def all_queries() -> None:
        whole = distances(QUERIES)
        for rows in (1, 4, 10 * QUERIES):
            expect_equal(whole, distances(rows), f"the distances in one block and in blocks of {rows} rows", 1e-6)
        distances(3, gallery[:1].expand(3, -1), gallery[:1].expand_as(gallery))  # equal embeddings

    return builds.run_checks(
        {
            "every query once": all_queries,
            "smaller is closer": lambda: expect_ordered(distances(QUERIES), pids[:QUERIES], pids[QUERIES:]),
        }
    )


class _Euclidean(Metric):
    """The Euclidean distance, from differences."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def check_section(section: str | Callable[..., Section], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a report section passes, on records whose files are missing.

    ``section`` is a spec of an installed section or a factory ``(*, options) -> Section`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    builds = _Builds(Subject("section", section, options), object, content=type)
    first, second = map(_read_example, sorted(leaderboards_folder().rglob(RECORD))[:2])
    failed = replace(
        second, status="failed", error=HOSTILE, scores={}, seconds={}, intervals={}, cameras=CameraMatrix()
    )
    texts = replace(first.items["loss"], given=HOSTILE, spec=HOSTILE, short=HOSTILE)
    hostile = replace(first, job=replace(first.job, loss=HOSTILE), items={**first.items, "loss": texts})

    def render(*records: RunRecord) -> None:
        part = builds.values[0].build(records, RunFiles([], local_machine()))
        expect(isinstance(part, Part), f"build must return a reidbench.Part, got {type(part).__name__}")
        content = [*part.tables, *part.figures, *part.notes]
        expect(bool(content) or not records, "the part is empty; a note must say why there is nothing to show")
        render_terminal([part], Console(file=io.StringIO(), width=100))
        to_markdown([part])
        to_csv([part])
        to_html([part], "contract check", "")

    return builds.run_checks(
        {
            "no records": render,
            "records without files": lambda: render(first, second),
            "failed runs": lambda: render(first, failed),
            "hostile texts": lambda: render(hostile),
        }
    )


def _read_example(file: Path) -> RunRecord:
    """Return a record, made one of a dataset that is not installed so that no section builds its data."""
    record = read_record(file)
    return replace(record, items={**record.items, "dataset": replace(record.items["dataset"], spec="not_installed")})


def check_executor(executor: str | Callable[..., Executor], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that an executor passes; nothing is run, here or elsewhere.

    ``executor`` is a spec of an installed executor or a factory ``(*, options) -> Executor`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    builds = _Builds(Subject("executor", executor, options), Executor, content=type)
    folder = Path("results/batches/0")
    task = Task(0, "a training", ("work", str(folder / TASKS), "0"), "auto", 0)

    def answers() -> None:
        built = builds.values[0]
        expect(isinstance(built.tries, int) and built.tries >= 1, f"tries must be 1 or more, got {built.tries!r}")
        here = built.uses_this_process("cpu", 2)
        expect(isinstance(here, bool), f"uses_this_process must return a bool, got {here!r:.80}")
        for name, supplied in (("unavailable", ()), ("describe", ([task], folder)), ("after_interrupt", (folder,))):
            text = getattr(built, name)(*supplied)
            expect(isinstance(text, str), f"{name} must return a text, got {type(text).__name__}")

    def generator() -> None:
        expect(inspect.isgeneratorfunction(builds.values[0].run), "run must be a generator, which can be closed")

    return builds.run_checks({"answers": answers, "run is a generator": generator})
