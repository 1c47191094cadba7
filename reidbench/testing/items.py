"""The contract checks of datasets, protocols, recipes, synthesizers, re-rankers, report sections and executors.

One generic check covers what an item declares or builds; a few checks with numbers follow it.
"""

from __future__ import annotations

import inspect
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.data.protocol import Protocol
from reidbench.data.samples import JUNK
from reidbench.data.split import Split
from reidbench.errors import checked
from reidbench.images.augment import view_crops
from reidbench.images.decode import read_image
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import BackboneInfo, Metric, Preprocess, Reranker
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.html import to_html
from reidbench.reports.sections import Part, Section
from reidbench.reports.text_formats import to_csv, to_markdown, to_terminal
from reidbench.runs.job import build_protocol
from reidbench.runs.record import RECORD, CameraMatrix, RunRecord, read_record
from reidbench.runs.suite import leaderboards_folder
from reidbench.runs.tasks import TASKS, Executor, Task
from reidbench.testing.checked_item import Checks, clusters, expect, expect_equal, expect_finite, expect_ordered
from reidbench.training.build import build_recipe, build_split
from reidbench.training.recipe import Recipe
from reidbench.utils.arrays import IntArray
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


class BuildChecks(Checks):
    """The checks of what an item builds, which hold for every kind.

    ``expected``: the type of what it builds.
    ``cases``: the positional arguments of each build.
    """

    expected: type = object
    cases: Sequence[Any] = ((),)

    def create(self, *supplied: Any) -> Any:
        """Return what the item builds, checked as a run checks it."""
        return checked(self.spec.owner, self.build(*supplied), self.expected)

    def content(self, value: Any) -> object:
        """Return what must be equal of two builds of one case."""
        return (
            value.digest if isinstance(value, Split) else value if isinstance(value, Protocol | Recipe) else type(value)
        )

    def check_contract(self) -> None:
        self.values = [self.create(*supplied) for supplied in self.cases]

    def check_builds_repeat(self) -> None:
        for supplied, first in zip(self.cases, self.values, strict=True):
            with _no_side_effects():
                second = self.spec.build(*supplied)
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
    checks = _DatasetChecks("dataset", dataset, options)
    checks.cases = [(root or local_machine().data,)]
    return checks.run()


class _DatasetChecks(BuildChecks):
    def create(self, *supplied: Path) -> Split:
        return build_split(self.spec, *supplied)

    def check_split_and_images(self) -> None:
        split: Split = self.values[0]
        for name, part in {"train": split.train, "query": split.query, "gallery": split.gallery}.items():
            expect(len(part) > 0, f"{name} is empty")
            read_image(part.path(0))  # that all of them exist was checked by the digest
        identities, counts = np.unique(split.labelled.pids, return_counts=True)
        found = f"train has {len(identities)} identities with at most {counts.max()} units"
        expect(len(identities) > 1 and counts.max() > 1, f"{found}; expected two, one with two units")
        lowest = split.gallery.pids.min()
        expect(lowest >= JUNK, f"pids must be from {JUNK} in the gallery, got {lowest}")
        shared = np.intersect1d(identities, np.concatenate([split.query.pids, split.gallery.pids]))
        expect(not len(shared), f"{len(shared)} identities are in training and in test, such as {shared[:3]}")
        expect(bool(np.isin(split.query.pids, split.gallery.pids).any()), "no query has its identity in the gallery")
        expect({*split.fit.pids.tolist()} <= {*identities.tolist()}, "fit has identities that train lacks")
        expect(not split.wrong_counts, f"it is incomplete: {'; '.join(split.wrong_counts)}")


def check_protocol(protocol: str | Callable[..., Protocol], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a protocol passes; its data are not read.

    ``protocol`` is a spec of an installed protocol or a factory ``(*, options) -> Protocol`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    return _ProtocolChecks("protocol", protocol, options).run()


class _ProtocolChecks(BuildChecks):
    def create(self) -> Protocol:
        return build_protocol(self.spec)

    def check_values(self) -> None:
        protocol: Protocol = self.values[0]
        load().resolve("dataset", protocol.dataset)
        load().resolve("recipe", protocol.recipe, protocol.defaults).build(NETWORKS[0])
        view_crops(protocol.views, NETWORKS[0].preprocess)


def check_recipe(recipe: str | Callable[..., Recipe], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a recipe passes, for networks of several kinds.

    ``recipe`` is a spec of an installed recipe or a factory ``(backbone, *, options) -> Recipe`` with ``options``.
    Raises ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    return _RecipeChecks("recipe", recipe, options).run()


class _RecipeChecks(BuildChecks):
    cases = tuple((network,) for network in NETWORKS)

    def create(self, *supplied: BackboneInfo) -> Recipe:
        return build_recipe(self.spec, *supplied)


def check_synthesizer(synthesizer: str | Callable[..., Iterator[tuple[int, int]]], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a synthesizer passes in its first steps, in a temporary folder.

    ``synthesizer`` is a spec of an installed one or a factory ``(directory, *, options)`` with ``options`` that yields
    (images done, images in all). Raises ContractError at the first check that fails, OptionError for what does not fit.
    """
    return _SynthesizerChecks("synthesizer", synthesizer, options).run()


class _SynthesizerChecks(Checks):
    def check_progress_and_resuming(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            stopped, resumed = (list(islice(self.build(Path(folder)), FIRST_STEPS)) for _ in range(2))
        for done, total in stopped + resumed:
            expect(0 <= done <= total, f"expected (images done, images in all), got {(done, total)!r:.80}")
        expect(bool(stopped) and bool(resumed), "it yields nothing; expected (images done, images in all)")
        expect(len({total for _, total in stopped + resumed}) == 1, f"the number of images in all changes: {stopped}")
        expect(stopped == sorted(stopped), f"the number of images done falls: {stopped}")
        expect(resumed[-1] >= stopped[-1], f"it was stopped at {stopped[-1]} and resumes at {resumed}")


def check_reranker(reranker: str | Callable[..., Reranker], *, seed: int = 0, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a re-ranker of Euclidean distances passes.

    ``reranker`` is a spec of an installed re-ranker or a factory ``(*, options) -> Reranker`` with ``options``;
    ``seed`` gives the embeddings. Raises ContractError at the first check that fails, OptionError for a name or an
    option that does not fit.
    """
    return _RerankerChecks("reranker", reranker, options, seed).run()


class _RerankerChecks(BuildChecks):
    expected = Reranker

    def embeddings(self) -> tuple[Tensor, IntArray]:
        """Return the embeddings of queries, then of the gallery, and their identities."""
        rows, pids = clusters(15, 5, self.seed, "reranker")
        return rows.float(), pids

    def distances(self, embeddings: Tensor, rows: int) -> Tensor:
        query, gallery = embeddings[:QUERIES], embeddings[QUERIES:]
        blocks = list(self.create().blocks(query, gallery, _Euclidean(), rows))
        for block in blocks:
            expect(block.is_floating_point(), f"blocks must be float32 or float64, got {block.dtype}")
            expect(block.shape[1:] == gallery.shape[:1], f"blocks must be [rows, {len(gallery)}], got {block.shape}")
            expect_finite(block, "a block")
        counts = [len(block) for block in blocks]
        complete = sum(counts) == len(query) and max(counts) <= rows
        expect(complete, f"expected {len(query)} rows in all, at most {rows} in a block, got blocks of {counts} rows")
        return torch.cat(blocks)

    def check_every_query_once(self) -> None:
        embeddings, _ = self.embeddings()
        whole = self.distances(embeddings, QUERIES)
        for rows in (1, 4, 10 * QUERIES):
            blocks = self.distances(embeddings, rows)
            expect_equal(whole, blocks, f"the distances in one block and in blocks of {rows} rows", 1e-6)
        self.distances(embeddings[:1].expand_as(embeddings), QUERIES)

    def check_smaller_is_closer(self) -> None:
        embeddings, pids = self.embeddings()
        expect_ordered(self.distances(embeddings, QUERIES), pids[:QUERIES], pids[QUERIES:])


class _Euclidean(Metric):
    """The Euclidean distance, from differences."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def check_section(section: str | Callable[..., Section], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a report section passes, on records whose files are missing.

    ``section`` is a spec of an installed section or a factory ``(*, options) -> Section`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    return _SectionChecks("section", section, options).run()


class _SectionChecks(BuildChecks):
    def render(self, *records: RunRecord) -> None:
        part = self.values[0].build(records, RunFiles([], local_machine()))
        expect(isinstance(part, Part), f"build must return a reidbench.Part, got {type(part).__name__}")
        content = [*part.tables, *part.charts, *part.figures, *part.pictures, *part.notes]
        expect(bool(content) or not records, "the part is empty; a note must say why there is nothing to show")
        for text_format in (to_terminal, to_markdown, to_csv):
            text_format([part])
        to_html([part], "contract check", "")

    def check_no_records(self) -> None:
        self.render()

    def check_records_without_files(self) -> None:
        self.render(*example_records())

    def check_failed_runs(self) -> None:
        first, second = example_records()
        failed = replace(second, status="failed", error=HOSTILE, scores={}, seconds={}, intervals={})
        self.render(first, replace(failed, cameras=CameraMatrix()))

    def check_hostile_texts(self) -> None:
        record = example_records()[0]
        texts = replace(record.items["loss"], given=HOSTILE, spec=HOSTILE, short=HOSTILE)
        self.render(replace(record, job=replace(record.job, loss=HOSTILE), items={**record.items, "loss": texts}))


def example_records() -> list[RunRecord]:
    """Return two records, made records of a dataset that is not installed so that no section builds its data."""
    records = map(read_record, sorted(leaderboards_folder().rglob(RECORD))[:2])
    return [
        replace(each, items={**each.items, "dataset": replace(each.items["dataset"], spec="not_installed")})
        for each in records
    ]


def check_executor(executor: str | Callable[..., Executor], **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that an executor passes; nothing is run, here or elsewhere.

    ``executor`` is a spec of an installed executor or a factory ``(*, options) -> Executor`` with ``options``. Raises
    ContractError at the first check that fails, OptionError for a name or an option that does not fit.
    """
    return _ExecutorChecks("executor", executor, options).run()


class _ExecutorChecks(BuildChecks):
    expected = Executor

    def check_answers(self) -> None:
        built, folder = self.values[0], Path("results/batches/0")
        task = Task(0, "a training", ("work", str(folder / TASKS), "0"), "auto", 0)
        expect(isinstance(built.tries, int) and built.tries >= 1, f"tries must be 1 or more, got {built.tries!r}")
        count = built.processes("cpu", 2)
        expect(isinstance(count, int) and count >= 0, f"processes must return 0 or more, got {count!r:.80}")
        for name, supplied in (("unavailable", ()), ("describe", ([task], folder)), ("after_interrupt", (folder,))):
            text = getattr(built, name)(*supplied)
            expect(isinstance(text, str), f"{name} must return a text, got {type(text).__name__}")

    def check_run_is_a_generator(self) -> None:
        expect(inspect.isgeneratorfunction(self.values[0].run), "run must be a generator, which can be closed")
