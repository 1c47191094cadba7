"""Where numbers come from: the exact command of every run, versions, deviations, and the digest of the data."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from reidbench import Part, RunFiles, RunRecord, hookimpl
from reidbench_reports.combinations import KINDS, TRAINING, names, newest

VERSIONS = ("reidbench", "torch", "numpy", "python", "system", "cpu", "device_name", "threads")


class Provenance:
    """What made each number: command, code, versions, machine, data, and what differs from the named recipe."""

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: runs with their commands, then machines and plugins."""
        runs = newest(records)[0]
        frames = [_runs(runs), _commands(runs), _machines(runs), _plugins(runs)]
        for frame, title in zip(frames, ("Runs", "Commands", "Machines", "Plugins"), strict=True):
            frame.attrs["title"] = title
        notes = [
            "Commands leave out options at their defaults of the versions named here; the same run, whatever became of "
            "these: reidbench run RECORD.json. Ids and digests are sha256, their first digits.",
        ]
        return Part(title="Provenance", tables=[frame for frame in frames if len(frame)], notes=notes)


def command(run: RunRecord) -> str:
    """Return the command line that asks for the same run."""
    flags = [part for kind in KINDS for part in (f"--{kind}", run.items[kind].short)]
    return shlex.join(["reidbench", "run", *flags, "--seed", str(run.job.seed)])


def _runs(runs: Sequence[RunRecord]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": name,
                "status": run.status,
                "id": run.id[:12],
                "code": run.code[:12],
                "commit": (run.commit[:12] or "none") + " with changes" * run.dirty,
                "data": f"{run.dataset.digest[:12]}{' stand-in' * run.standin}",
                "deviations": "; ".join(run.deviations) or "none",
                "finished": run.finished[:16].replace("T", " "),
            }
            for name, run in zip(names(runs, TRAINING), runs, strict=True)
        ]
    )


def _commands(runs: Sequence[RunRecord]) -> pd.DataFrame:
    return pd.DataFrame([{"id": run.id[:12], "command": command(run)} for run in runs])


def _machines(runs: Sequence[RunRecord]) -> pd.DataFrame:
    rows: dict[tuple[str, ...], int] = {}
    for run in runs:
        row = tuple(str(getattr(run.environment, name)) for name in VERSIONS)
        rows[row] = rows.get(row, 0) + 1
    return pd.DataFrame(
        [dict(zip(VERSIONS, row, strict=True)) | {"runs": str(count)} for row, count in rows.items()]
    ).rename(columns={"device_name": "device"})


def _plugins(runs: Sequence[RunRecord]) -> pd.DataFrame:
    seen = {
        (kind, item.spec.partition("(")[0], item.plugin, f"{item.distribution} {item.version}")
        for run in runs
        for kind, item in run.items.items()
        if item.plugin
    }
    return pd.DataFrame(sorted(seen), columns=["kind", "item", "plugin", "distribution"])


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Provenance]]:
    return {"provenance": Provenance}
