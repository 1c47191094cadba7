"""The contract checks of datasets, protocols, recipes, synthesizers, re-rankers, report sections, executors, trackers.

What a run or a report checks of an item is called here too; a few checks with numbers follow it.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidbench.data.split import Split
from reidbench.images.augment import view_crops
from reidbench.images.decode import read_image
from reidbench.plugins.catalogue import load
from reidbench.plugins.interfaces import BackboneInfo, Metric, Preprocess, Reranker
from reidbench.ranking.pipeline import reranked_blocks
from reidbench.reports.artifacts import RunFiles
from reidbench.reports.html import to_html
from reidbench.reports.sections import build_part
from reidbench.reports.text_formats import to_csv, to_terminal
from reidbench.runs.job import build_protocol
from reidbench.runs.record import RECORD, CameraMatrix, RunRecord, read_record
from reidbench.runs.suite import leaderboards_folder, synthesizer_steps
from reidbench.runs.tasks import TASKS, Executor, Task
from reidbench.runs.tracking import TrackedRun, Tracker
from reidbench.testing.checked_item import Checks, clusters, contract_check
from reidbench.training.build import build_recipe, build_split
from reidbench.utils.machine import local_machine

# Networks of several kinds, since a recipe may depend on any of these values.
NETWORKS = (
    BackboneInfo(128, Preprocess(64, 32), pretrained=False, parameters=650_000),
    BackboneInfo(2048, Preprocess(256, 128), pretrained=True, parameters=25_000_000, batch=(18, 4)),
    BackboneInfo(1, Preprocess(16, 16), pretrained=False, parameters=1, batch=(1, 2), faithful_to="a paper"),
)
FIRST_STEPS = 3  # of a synthesizer, which may run for hours
EMBEDDINGS, PIDS = clusters(15, 5, "reranker")  # of queries, then of the gallery
QUERIES = 17  # a prime, so that no block but one row or all fits evenly
HOSTILE = "[bold]<script>=cmd[/foo]../x\u202e" + "y" * 100


class _DatasetChecks(Checks):
    root: Path

    def check_contract(self) -> None:
        self.split, again = (build_split(self.spec, self.root) for _ in range(2))
        self.expect(self.split.digest == again.digest, f"two builds differ: {self.split!s:.200}, {again!s:.200}")

    def check_split_and_images(self) -> None:
        split = self.split
        for name, part in {"train": split.train, "query": split.query, "gallery": split.gallery}.items():
            self.expect(len(part) > 0, f"{name} is empty")
            read_image(part.path(0))  # that all of them exist was checked by the digest
        identities, counts = np.unique(split.labelled.pids, return_counts=True)
        observation = f"train has {len(identities)} identities with at most {counts.max()} units"
        self.expect(len(identities) > 1 and counts.max() > 1, f"{observation}; expected two, one with two units")
        both = [f"{kind}: {len(names)}, such as {names[0]}" for kind, names in split.contradictions.items()]
        self.expect(not both, "; ".join(both))
        matched = bool(np.isin(split.query.pids, split.gallery.pids).any())
        self.expect(matched, "no query has its identity in the gallery")
        self.expect({*split.fit.pids.tolist()} <= {*identities.tolist()}, "fit has identities that train lacks")
        self.expect(not split.wrong_counts, f"it is incomplete: {'; '.join(split.wrong_counts)}")


def check_dataset(dataset: str | Callable[..., Split], *, root: Path | None = None, **options: Any) -> tuple[str, ...]:
    """Return the names of the contract checks that a dataset passes.

    ``dataset`` is a spec of an installed dataset or a factory ``(root, *, options) -> Split`` with ``options``;
    ``root`` is the folder of the datasets (the machine's own by default). Raises ContractError at the first check that
    fails, OptionError for a name or an option that does not fit.
    """
    checks = _DatasetChecks("dataset", dataset, options)
    checks.root = root or local_machine().data
    return checks.run()


class _ProtocolChecks(Checks):
    """The checks of a protocol, whose data are not read."""

    def check_contract(self) -> None:
        self.protocol = build_protocol(self.spec)

    def check_values(self) -> None:
        protocol = self.protocol
        load().resolve("dataset", protocol.dataset)
        load().resolve("recipe", protocol.recipe, protocol.defaults).build(NETWORKS[0])
        view_crops(protocol.views, NETWORKS[0].preprocess)


class _RecipeChecks(Checks):
    def check_contract(self) -> None:
        for network in NETWORKS:
            first, second = (build_recipe(self.spec, network) for _ in range(2))
            self.expect(first == second, f"two builds differ: {first!s:.200}, {second!s:.200}")


class _SynthesizerChecks(Checks):
    """The check of a synthesizer's first steps, in a temporary folder."""

    def check_contract(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            stopped, resumed = (list(islice(synthesizer_steps(self.spec, Path(folder)), FIRST_STEPS)) for _ in range(2))
        self.expect(bool(stopped) and bool(resumed), "it yields nothing; expected (images done, images in all)")
        totals = {total for _, total in stopped + resumed}
        self.expect(len(totals) == 1, f"the number of images in all changes: {stopped}")
        self.expect(stopped == sorted(stopped), f"the number of images done falls: {stopped}")
        self.expect(resumed[-1] >= stopped[-1], f"it was stopped at {stopped[-1]} and resumes at {resumed}")


class _RerankerChecks(Checks):
    """The checks of a re-ranker, with Euclidean distances."""

    expected = Reranker

    def distances(self, embeddings: Tensor = EMBEDDINGS, rows: int = QUERIES) -> Tensor:
        query, gallery = embeddings[:QUERIES].float(), embeddings[QUERIES:].float()
        blocks = list(reranked_blocks(self.build(), query, gallery, _Euclidean(), QUERIES, rows))
        counts = [len(block) for block in blocks]
        self.expect(max(counts) <= rows, f"expected at most {rows} rows in a block, got blocks of {counts} rows")
        self.expect_finite(torch.cat(blocks), "the blocks")
        return torch.cat(blocks)

    def check_every_query_once(self) -> None:
        whole = self.distances()
        for rows in (1, 4, 10 * QUERIES):
            blocks = self.distances(rows=rows)
            self.expect_equal(whole, blocks, f"the distances in one block and in blocks of {rows} rows", 1e-6)
        self.distances(EMBEDDINGS[:1].expand_as(EMBEDDINGS))

    def check_smaller_is_closer(self) -> None:
        self.expect_ordered(self.distances(), PIDS[:QUERIES], PIDS[QUERIES:])


class _Euclidean(Metric):
    """The Euclidean distance, from differences."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class _SectionChecks(Checks):
    """The checks of a report section, on records whose files are missing."""

    def render(self, *records: RunRecord) -> None:
        part = build_part(self.spec, records, RunFiles([], local_machine()))
        self.expect(not part.error, part.error)
        to_terminal([part])
        to_csv([part])
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


class _ExecutorChecks(Checks):
    """The checks of an executor; nothing is run, here or elsewhere."""

    expected = Executor

    def check_answers(self) -> None:
        built, folder = self.build(), Path("results/batches/0")
        task = Task(0, "a training", ("work", str(folder / TASKS), "0"), "auto", 0)
        self.expect(isinstance(built.tries, int) and built.tries >= 1, f"tries must be 1 or more, got {built.tries!r}")
        count = built.processes("cpu", 2)
        self.expect(isinstance(count, int) and count >= 0, f"processes must return 0 or more, got {count!r:.80}")
        for name, supplied in (("unavailable", ()), ("describe", ([task], folder)), ("after_interrupt", (folder,))):
            text = getattr(built, name)(*supplied)
            self.expect(isinstance(text, str), f"{name} must return a text, got {type(text).__name__}")
        self.expect(inspect.isgeneratorfunction(built.run), "run must be a generator, which can be closed")


class _TrackerChecks(Checks):
    """The checks of a tracker, on a run in a temporary folder that is interrupted and resumes."""

    expected = Tracker

    def check_a_run_that_resumes(self) -> None:
        record = example_records()[0]
        interrupted = replace(record, status="interrupted", error=HOSTILE, scores={})
        with tempfile.TemporaryDirectory() as folder:
            for step, result in ((0, interrupted), (2, record)):
                built = self.build()
                built.start(TrackedRun("a-run", 64 * "0", Path(folder), step, {"loss": HOSTILE, "seed": 0, "steps": 4}))
                for each in range(step, 4):
                    built.log(each, {"loss": 0.5, "validation.r1": 1.0})
                built.log(3, {"active": 1.0})
                built.finish(result)


check_protocol = contract_check("protocol", _ProtocolChecks)
check_recipe = contract_check("recipe", _RecipeChecks)
check_synthesizer = contract_check("synthesizer", _SynthesizerChecks)
check_reranker = contract_check("reranker", _RerankerChecks)
check_section = contract_check("section", _SectionChecks)
check_executor = contract_check("executor", _ExecutorChecks)
check_tracker = contract_check("tracker", _TrackerChecks)
