"""``check_section``: what a part of a report promises, on made-up runs whose files are not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from reidbench.errors import DataError
from reidbench.ranking.scores import HEADLINE, scores_at
from reidbench.reports.html import to_html
from reidbench.reports.render import render_terminal, to_csv, to_markdown
from reidbench.reports.sections import Part, Section
from reidbench.reports.table import Table
from reidbench.runs.artifacts import RunFiles
from reidbench.runs.job import Job
from reidbench.runs.record import (
    ITEMS,
    SCHEMA,
    CameraMatrix,
    DatasetRecord,
    EvaluationRecord,
    ItemRecord,
    MonitorRecord,
    NetworkRecord,
    PreprocessRecord,
    RunRecord,
    TrainingEnvironment,
)
from reidbench.testing.subject import Subject, expect
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import local_machine

STRANGE = "[bold]<script>=cmd[/foo]../x\u202e" + "y" * 100


def check_section(section: str | Callable[..., Section], **options: Any) -> tuple[str, ...]:
    """Return the promises that a section keeps.

    ``section`` is a spec of an installed section or a factory ``(*, options) -> Section`` with ``options``. Raises
    ContractError at the first promise that is broken, OptionError for a name or an option that does not fit.
    """
    subject = Subject("section", section, options)
    failed = replace(
        made_up(1), status="failed", error=STRANGE, scores={}, seconds={}, intervals={}, cameras=CameraMatrix()
    )

    def contract() -> None:
        _built(subject, [made_up(0), made_up(1)])

    def says_something() -> None:
        part = _built(subject, [made_up(0), made_up(1)])
        expect(bool(part.tables or part.figures or part.notes), "it is empty; say in a note why there is nothing")
        _shown(part)

    return subject.keep(
        {
            "contract": contract,
            "no run is no error": lambda: _shown(_built(subject, [])),
            "runs without their files are shown": says_something,
            "failed runs are shown": lambda: _shown(_built(subject, [made_up(0), failed])),
            "strangers' texts are shown": lambda: _shown(_built(subject, [made_up(0, STRANGE)])),
            "spec round trip": subject.check_spec,
        }
    )


def _built(subject: Subject, records: Sequence[RunRecord]) -> Part:
    built = subject.build()
    expect(callable(getattr(built, "build", None)), f"{type(built).__name__} has no method build(records, files)")
    try:
        part = built.build(records, RunFiles([], local_machine()))
    except DataError as error:
        raise DataError(f"{error}; what is missing becomes a note of the part") from error
    expect(isinstance(part, Part), f"build must return a reidbench.Part, got {type(part).__name__}")
    wrong = [type(each).__name__ for each in part.tables if not isinstance(each, Table)]
    wrong += [type(each).__name__ for each in part.figures if not isinstance(each, Figure)]
    expect(not wrong, f"tables are reidbench.Table and figures matplotlib's Figures, got {', '.join(wrong)}")
    return part  # type: ignore[no-any-return]


def _shown(part: Part) -> None:
    """Render a part everywhere; whatever cannot be drawn raises."""
    render_terminal([part], Console(file=io.StringIO(), width=100))
    to_markdown([part])
    to_csv([part])
    to_html([part], "checked", "")


def made_up(seed: int, loss: str = "made_up") -> RunRecord:
    """Return a run that nobody made: a small network with plausible scores."""
    specs = dict.fromkeys(ITEMS, "made_up") | {"loss": loss, "rerank": "none"}
    items = {kind: ItemRecord(spec, spec, spec, {}, "made_up", "made_up", "1") for kind, spec in specs.items()}
    device = TrainingEnvironment("0", "0", "0", "0", "0", "0", "0", "made_up", "made_up", 1, "cpu", "cpu", 1, 1)
    return RunRecord(
        schema=SCHEMA,
        status="ok",
        id=f"{seed:064x}",
        train_id=f"{seed:064x}",
        group="0" * 64,
        code="0" * 64,
        code_files={},
        job=Job("made_up", loss, "made_up", "made_up", "made_up", "none", seed),
        items=items,
        training="trainings/made_up",
        evaluation=EvaluationRecord(1, "full", "mean", [], "map_market", True, False, False),
        dataset=DatasetRecord("0" * 64, "0" * 64, {"query": 10, "gallery": 40}),
        recipe=Recipe(steps=10, decay_start=5, learning_rate=0.001, p=2, k=2),
        network=NetworkRecord(8, 1_000, False, PreprocessRecord(32, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        standin=False,
        faithful=False,
        deviations=[],
        scores={**dict.fromkeys(scores_at(), 0.2 + seed / 100), "queries": 10, "gallery": 40, "unmatched": 0},
        seconds={"train": 10.0, "rounds": 1.0, "embed": 1.0, "rank": 0.1},
        peak_memory_mib=100,
        environment=device,
        scored_in=device,
        observed=MonitorRecord(),
        commit="",
        dirty=False,
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        intervals={name: [0.1, 0.4] for name in HEADLINE},
        cameras=CameraMatrix([1, 2], [[5, 5], [5, 5]], [[0.2, 0.2], [0.2, 0.2]], [[0.2, 0.2], [0.2, 0.2]]),
    )
