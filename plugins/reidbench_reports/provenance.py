"""Where numbers come from: the exact command of every run, versions, deviations, and the digest of the data."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reidbench import Column, Part, RunFiles, RunRecord, Table, hookimpl
from reidbench_reports.combinations import KINDS, TRAINING, names, newest

VERSIONS = ("reidbench", "torch", "numpy", "python", "system", "cpu", "device_name", "threads")
SHOWN = 12  # digits of an id or a digest


class Provenance:
    """What produced each number: command, code, versions, machine, data, and what differs from the named recipe."""

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: runs with their commands, then machines and plugins."""
        runs = newest(records)[0]
        tables = [_runs(runs), _commands(runs), _machines(runs), _plugins(runs)]
        notes = [
            "Commands leave out options at their defaults; reidbench run RECORD.json repeats a run even if defaults "
            f"have changed since. Ids and digests are the first {SHOWN} hex digits of sha256.",
        ]
        return Part(title="Provenance", tables=[table for table in tables if table.rows], notes=notes)


def command(run: RunRecord) -> str:
    """Return the command line of a run."""
    flags = [part for kind in KINDS for part in (f"--{kind}", run.items[kind].short)]
    return shlex.join(["reidbench", "run", *flags, "--seed", str(run.job.seed)])


def _runs(runs: Sequence[RunRecord]) -> Table:
    rows = [
        {
            "run": name,
            "status": run.status,
            "id": run.id[:SHOWN],
            "code": run.code[:SHOWN],
            "commit": (run.commit[:SHOWN] or "none") + " with changes" * run.dirty,
            "data": run.dataset.digest[:SHOWN] + " stand-in" * run.standin,
            "deviations": "; ".join(run.deviations) or "none",
            "finished": run.finished[:16].replace("T", " "),
        }
        for name, run in zip(names(runs, TRAINING), runs, strict=True)
    ]
    return Table(rows, title="Runs")


def _commands(runs: Sequence[RunRecord]) -> Table:
    return Table([{"id": run.id[:SHOWN], "command": command(run)} for run in runs], title="Commands")


def _machines(runs: Sequence[RunRecord]) -> Table:
    counts: dict[tuple[str, ...], int] = {}
    for run in runs:
        machine = tuple(str(getattr(run.environment, name)) for name in VERSIONS)
        counts[machine] = counts.get(machine, 0) + 1
    rows: list[dict[str, Any]] = [
        dict(zip(VERSIONS, machine, strict=True)) | {"runs": count} for machine, count in counts.items()
    ]
    columns = [Column(name, name.replace("_name", "")) for name in VERSIONS]
    return Table(rows, [*columns, Column("runs", "", "number")], "Machines")


def _plugins(runs: Sequence[RunRecord]) -> Table:
    items = {
        (kind, item.spec.partition("(")[0], item.plugin, f"{item.distribution} {item.version}")
        for run in runs
        for kind, item in run.items.items()
        if item.plugin
    }
    keys = ("kind", "item", "plugin", "distribution")
    return Table([dict(zip(keys, each, strict=True)) for each in sorted(items)], title="Plugins")


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Provenance]]:
    return {"provenance": Provenance}
