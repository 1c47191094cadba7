"""One run: its scores with intervals, its options and where each comes from, the commands that repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from os.path import relpath

from reidbench import Column, Part, RunFiles, RunRecord, Table, hookimpl, shown_scores
from reidbench_reports.combinations import add_runs, best_trained_first, newest, percent_column
from reidbench_reports.provenance import SHOWN, command

SCORES = [Column("score"), percent_column("value", "%"), Column("interval", "95 %", "number")]


class Run:
    """A run's scores, options, commands to repeat it, and its provenance in sentences.

    Options:
        most: how many runs are shown, the trained ones with the highest primary score first.
    """

    def __init__(self, *, most: int = 1) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: two tables, two commands and the sentences of each run."""
        part = Part(title="Run")

        def add(run: RunRecord, name: str) -> None:
            title = f"{name}, seed {run.job.seed}"
            if run.scored:
                part.tables.append(Table(list(_scores(run)), SCORES, f"Scores: {title}"))
            part.tables.append(Table(list(_options(run)), title=f"Options: {title}"))
            place = relpath(files.folder(run))
            if place.startswith(".."):  # a page names no folders of its machine
                place = f"results/runs/{files.folder(run).name}"
            part.commands.extend([command(run), f"reidbench run {shlex.quote(place)}/record.json"])
            part.notes.extend(_sentences(run))

        add_runs(part, best_trained_first(records) or newest(records)[0], self.most, add)
        return part


def _scores(run: RunRecord) -> Iterator[dict[str, object]]:
    for name, score in shown_scores(run.scores, run.evaluation.primary).items():
        low, high = run.intervals.get(name, (None, None))
        interval = "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"
        yield {"score": score.label, "value": run.scores[name], "interval": interval}


def _options(run: RunRecord) -> Iterator[dict[str, object]]:
    """Yield each item with all its options, and where those come from that are not at their defaults."""
    for kind, item in run.items.items():
        origins = [f"{option}: {origin}" for option, origin in item.origins.items() if origin != "default"]
        source = f"{item.distribution} {item.version}".strip()
        yield {"kind": kind, "item": item.spec, "not at defaults": ", ".join(origins), "from": source}


def _sentences(run: RunRecord) -> Iterator[str]:
    """Yield sentences about data, network, training, evaluation and code."""
    network, recipe, how, machine = run.network, run.recipe, run.evaluation, run.environment
    if run.error:
        yield f"Status {run.status}: {run.error}"
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in run.dataset.counts.items())
    standin = ", a stand-in: not comparable with published numbers" if run.standin else ""
    yield f"Data: {run.items['dataset'].short}{standin}; {counts}; digest {run.dataset.digest[:SHOWN]}."
    start = "pretrained weights" if network.pretrained else "random weights"
    size = f"{network.parameters:,} parameters, {network.embedding_dim} dimensions"
    yield f"Network: {size}, input {network.preprocess.height} × {network.preprocess.width}, from {start}."
    if run.items["loss"].spec != "none" and "train" in run.seconds:
        batch = f"{recipe.steps:,} steps of {recipe.p} × {recipe.k} images"
        seconds = f"{run.seconds['train']:,.0f} s on {machine.device_name}, {machine.threads} threads"
        yield f"Training: {batch} in {seconds}; verdict {run.observed.verdict or 'none'}."
    rules = ", ".join(how.exclude) or "nothing"
    unit = ", embeddings of unit length" if how.normalize else ""
    yield f"Evaluation: views {how.views}, {how.pool} pooling{unit}; rankings exclude {rules}."
    commit = f", commit {run.commit[:SHOWN]}{' with changes' * run.dirty}" if run.commit else ""
    versions = f"reidbench {machine.reidbench}, torch {machine.torch}, Python {machine.python}"
    yield f"Code: {versions}, digest {run.code[:SHOWN]}{commit}; run {run.id[:SHOWN]}, finished {run.finished[:10]}."
    if run.faithful or run.deviations:
        yield "Follows its paper." if run.faithful else f"Differs from its paper in: {'; '.join(run.deviations)}."


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Run]]:
    return {"run": Run}
