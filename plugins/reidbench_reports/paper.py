"""A table of the paper, published and ours side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from reidbench import (
    Job,
    OptionError,
    Part,
    ReidbenchError,
    RunFiles,
    RunRecord,
    hookimpl,
    leaderboards_folder,
    load_suite,
    mean_and_sd,
    resolved_items,
    shown_scores,
)
from reidbench_reports.combinations import newest
from reidbench_reports.published import TABLES, Cell, cells

PAPER = "Hermans et al. 2017"
HEADINGS = {name: shown_scores()[name].label for name in ("map_market", "r1", "r5")}
# What the rows and the columns of each table are.
KEYS = {
    1: ("loss", "margin"),
    2: ("system", "data"),
    3: ("input", "system"),
    4: ("views", "system"),
    5: ("system", "gallery"),
}
ITEMS = ("protocol", "loss", "backbone", "recipe", "metric", "rerank")
NOTHING, COLLAPSED = "–", "*"  # the star is the paper's own, in Table 1


class Paper:
    """The numbers of one of the paper's tables with ours beside them, and the difference in points.

    Options:
        table: which of the Tables 1 to 5.

    Only runs of exactly the systems that ``leaderboards/paper/tableN.toml`` names, with every option and the protocol's
    version as they are now, on the published data, count as ours; others that stand for them (stand-in data, a smaller
    scale) are listed apart, by their names.
    """

    def __init__(self, *, table: int = 2) -> None:
        if table not in TABLES:
            raise OptionError(f"section paper: option table: expected one of the Tables 1 to 5, got {table}")
        self.table = table

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: the published table with ours, and a table of what stands for it."""
        published = cells(self.table)
        wanted = {cell.job for cell in published if cell.job is not None}
        ours, others, lacking = self._sorted(records, wanted)
        part = Part(title=f"Table {self.table} of {PAPER}, published and ours")
        part.tables.append(_beside(published, ours, KEYS[self.table]))
        part.tables[0].attrs["title"] = "In percent" + "; in brackets ours less the published, in points" * bool(ours)
        filled = sum(cell.job in ours for cell in published)
        part.notes.append(
            f"{filled} of {len(published)} numbers have one of ours; reidbench run paper/table{self.table} makes those "
            "of the paper's own systems (docs/reproducing.md: hours, disk, what is known to differ)."
        )
        if any("*" in cell.mark for cell in published):
            part.notes.append(f"{COLLAPSED} trapped in a bad local optimum; ours: collapsed, as the monitor saw it.")
        part.notes.extend(f"Left out, for what is not installed here: {reason}" for reason in lacking)
        if others:
            part.tables.append(_others(published, others, KEYS[self.table]))
            part.tables[-1].attrs["title"] = "In the table's places, other systems or data: no score of these is ours"
        return part

    def _sorted(
        self, records: Sequence[RunRecord], wanted: set[Job]
    ) -> tuple[dict[Job, list[RunRecord]], list[tuple[Job, str, RunRecord]], list[str]]:
        """Return the runs that count, by the job that they are, and (job stood for, why not, run) for the others.

        Last, each once, why jobs cannot be resolved here; no run is one of those.
        """
        suite = load_suite(leaderboards_folder() / "paper" / f"table{self.table}.toml")
        scaled = {
            replace(scale.of(job), seed=0): (replace(job, seed=0), scale.name)
            for scale in suite.scales.values()
            for job in suite.jobs
        }
        # The paper's own last: whatever a scale comes to, what they come to is theirs.
        known: dict[tuple[str, ...], tuple[Job, str]] = {}
        lacking: dict[str, None] = {}
        left_out: set[Job] = set()
        for job, stands_for in [*scaled.items(), *((job, (job, "")) for job in sorted(wanted, key=str))]:
            try:
                known[_resolved(job)] = stands_for
            except ReidbenchError as error:
                lacking |= dict.fromkeys(str(error).splitlines())
                left_out.add(job)
        ours: dict[Job, list[RunRecord]] = {}
        others: list[tuple[Job, str, RunRecord]] = []
        for record in newest(records)[0]:
            asked = replace(record.job, seed=0)
            found = next((known[key] for key in _keys(record) if key in known), None)
            if found is None and asked in (wanted | scaled.keys()) - left_out:
                found = asked, "other options or another version than now"
                found = (scaled[asked][0], found[1]) if asked not in wanted else found
            if found is None or found[0] not in wanted:
                continue
            job, why = found[0], [found[1]] if found[1] else []
            why += ["stand-in data"] if record.standin else []
            why += [text for text in record.deviations if text.startswith("partial data")]
            why += [] if record.scored else [record.status]
            if why:
                others.append((job, ", ".join(why), record))
            else:
                ours.setdefault(job, []).append(record)
        for job, runs in ours.items():
            # Seeds of one number are seeds of one combination, on one state of the data, made by one code.
            newest_run = max(runs, key=lambda run: (run.finished, run.id))
            ours[job] = [run for run in runs if _made_as(run) == _made_as(newest_run)]
            others += [(job, "other data or code than the newest", run) for run in runs if run not in ours[job]]
        return ours, others, list(lacking)


def _made_as(run: RunRecord) -> tuple[str, str]:
    return run.group, run.code


def _resolved(job: Job) -> tuple[str, ...]:
    """Return what a job comes to here: its items with every option, and the version of its protocol."""
    items, version = resolved_items(job)
    return (*(items[kind] for kind in ITEMS), str(version))


def _keys(record: RunRecord) -> Iterator[tuple[str, ...]]:
    """Yield what a run came to, in the words of ``_resolved``: a metric that is the loss's own is "auto" too."""
    items = {kind: record.items[kind].spec for kind in ITEMS}
    version = str(record.evaluation.version)
    yield (*items.values(), version)
    if record.evaluation.metric_is_auto:
        yield (*(items | {"metric": "auto"}).values(), version)


def _rows(published: Sequence[Cell]) -> dict[tuple[str, str], dict[str, Cell]]:
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in published:
        rows.setdefault((cell.row, cell.column), {})[cell.score] = cell
    return rows


def _beside(published: Sequence[Cell], ours: Mapping[Job, Sequence[RunRecord]], keys: tuple[str, str]) -> pd.DataFrame:
    scores = [score for score in HEADINGS if any(cell.score == score for cell in published)]
    rows: list[dict[str, str]] = []
    best: dict[str, list[int]] = {HEADINGS[score]: [] for score in scores}
    for number, (key, found) in enumerate(_rows(published).items()):
        row = dict(zip(keys, key, strict=True))
        for score in scores:
            cell = found.get(score)
            runs = ours.get(cell.job, []) if cell is not None and cell.job is not None else []
            row[HEADINGS[score]] = NOTHING if cell is None else cell.printed
            if ours:
                row[f"ours: {HEADINGS[score]}"] = NOTHING if cell is None else _ours(cell, runs)
            if cell is not None and "bold" in cell.mark:
                best[HEADINGS[score]].append(number)
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.attrs["best"] = best
    return frame


def _ours(cell: Cell, runs: Sequence[RunRecord]) -> str:
    """Return ours and its difference from the published number as they are printed."""
    if not runs:
        return NOTHING
    ended = [run for run in runs if run.status == "ok"] or list(runs)
    mean, sd = mean_and_sd(100 * run.scores[cell.score] for run in ended)
    star = COLLAPSED * (ended[0].status == "collapsed")
    spread = "" if sd is None else f" ±{sd:.2f}"
    return f"{mean:.2f}{star}{spread} ({mean - cell.value:+.2f})"


def _others(
    published: Sequence[Cell], others: Sequence[tuple[Job, str, RunRecord]], keys: tuple[str, str]
) -> pd.DataFrame:
    places = {cell.job: (cell.row, cell.column) for cell in reversed(published) if cell.job is not None}
    order = list(places.values())[::-1]
    rows = []
    for job, why, record in sorted(others, key=lambda other: (order.index(places[other[0]]), other[2].job.seed)):
        row = dict(zip(keys, places[job], strict=True))
        # The row says which loss, network and gallery are stood for; what stands for them has its own.
        row |= {"reason": why, "own loss": record.items["loss"].short, "own backbone": record.items["backbone"].short}
        row["seed"] = str(record.job.seed)
        row["own gallery"] = f"{record.scores['gallery']:,.0f}" if record.scored else NOTHING
        for score, heading in HEADINGS.items():
            if any(cell.score == score for cell in published):
                row[heading] = f"{100 * record.scores[score]:.2f}" if record.scored else NOTHING
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.attrs["minor"] = ["own backbone", "own loss", "seed"]
    return frame


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Paper]]:
    return {"paper": Paper}
