"""A table of the paper, or of later baselines, with our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reidbench import Column, Job, OptionError, Part, ReidbenchError, RunFiles, RunRecord, Table, hookimpl, mean_and_sd
from reidbench_reports.combinations import KINDS, LABELS, Combination, newest, percent_column
from reidbench_reports.published import (
    TABLES,
    Published,
    PublishedNumber,
    known_deviations,
    name_of,
    published_numbers,
    resolved,
    stand_ins,
)

PAPER = "Hermans et al. 2017"
# What the rows and the columns of each table are.
KEYS: Mapping[Published, tuple[str, str]] = {
    1: ("loss", "margin"),
    2: ("system", "data"),
    3: ("input", "system"),
    4: ("views", "system"),
    5: ("system", "gallery"),
    "baselines": ("system", "data"),
}
COLLAPSED = "*"  # as in the paper's Table 1


class Paper:
    """The numbers of one of the paper's tables with ours beside them, and the difference in percentage points.

    Options:
        table: which of the Tables 1 to 5, or baselines for bag of tricks, AGW and a transformer.

    Only runs of exactly the systems that the table's file in ``leaderboards/paper`` names, with every option and the
    protocol's version as they are now, on the published data, count as ours, with their known deviations in the same
    row; runs that approximate them (stand-in data, a smaller scale, another deviation) are listed apart, under their
    own names.
    """

    def __init__(self, *, table: Published = 2) -> None:
        if table not in KEYS:
            raise OptionError(
                f"section paper: option table: expected one of the Tables 1 to 5, or baselines, got {table}"
            )
        self.table = table

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: the published table with ours, and a table of the runs that approximate it."""
        published = published_numbers(self.table)
        reproducible = {number.job for number in published if number.job is not None}
        ours, standins, missing = self._sorted(records, reproducible)
        what = f"Table {self.table} of {PAPER}" if self.table in TABLES else "Strong baselines"
        part = Part(title=f"{what}, published and ours")
        part.tables.append(_published_and_ours(published, ours, KEYS[self.table]))
        filled = sum(number.job in ours for number in published)
        part.notes.append(
            f"{filled} of {len(published)} numbers have one of ours; reidbench run paper/{name_of(self.table)} runs "
            "these systems (docs/reproducing.md: hours, disk, known differences)."
        )
        part.notes.extend(_remarks(published, KEYS[self.table].index("system") if self.table != 1 else 0))
        if any("*" in number.mark for number in published):
            part.notes.append(f"{COLLAPSED} trapped in a bad local optimum; ours: collapsed, as the monitor detected.")
        part.notes.extend(f"Left out, since something is not installed: {reason}" for reason in missing)
        if standins:
            part.tables.append(_standins(published, standins, KEYS[self.table]))
        return part

    def _sorted(
        self, records: Sequence[RunRecord], reproducible: set[Job]
    ) -> tuple[dict[Job, list[RunRecord]], list[tuple[Job, str, RunRecord]], list[str]]:
        """Return the runs that count as ours, by job, and (job stood in for, why, run) for the stand-ins.

        Last, each once, why jobs cannot be resolved here; no run is one of those.
        """
        scaled = stand_ins(self.table)
        # The paper's own jobs last: what resolves to the same is theirs, whatever scale resolves to it too.
        jobs: dict[tuple[str, ...], tuple[Job, str]] = {}
        missing: dict[str, None] = {}
        unresolved: set[Job] = set()
        for job, stands_for in [*scaled.items(), *((job, (job, "")) for job in sorted(reproducible, key=str))]:
            try:
                jobs[resolved(job)] = stands_for
            except ReidbenchError as error:
                missing |= dict.fromkeys(str(error).splitlines())
                unresolved.add(job)
        ours: dict[Job, list[RunRecord]] = {}
        standins: list[tuple[Job, str, RunRecord]] = []
        for record in newest(records)[0]:
            own = replace(record.job, seed=0)
            match = next((jobs[key] for key in _keys(record) if key in jobs), None)
            if match is None and own in (reproducible | scaled.keys()) - unresolved:
                match = own if own in reproducible else scaled[own][0], "other options or another version than now"
            if match is None or match[0] not in reproducible:
                continue
            # Later recipes are of papers that have no network and protocol here with the mark.
            deviations = record.deviations if self.table in TABLES else ()
            job, reasons = match[0], [match[1]] if match[1] else list(deviations)
            reasons += ["stand-in data"] if record.standin else []
            reasons += [] if record.status in ("ok", "collapsed") else [record.status]
            if reasons:
                standins.append((job, "; ".join(reasons), record))
            else:
                ours.setdefault(job, []).append(record)
        for job, runs in ours.items():
            # Seeds of one number are seeds of one combination, on one state of the data, by one version of the code.
            newest_run = max(runs, key=lambda run: (run.finished, run.id))
            same = newest_run.group, newest_run.code
            ours[job] = [run for run in runs if (run.group, run.code) == same]
            standins += [(job, "other data or code than the newest", run) for run in runs if run not in ours[job]]
        return ours, standins, list(missing)


def _keys(record: RunRecord) -> Iterator[tuple[str, ...]]:
    """Yield a run as ``resolved`` gives it: a metric that is the loss's default is "auto" too."""
    items = {kind: record.items[kind].spec for kind in KINDS}
    version = str(record.evaluation.version)
    yield (*items.values(), version)
    if record.evaluation.metric_is_auto:
        yield (*(items | {"metric": "auto"}).values(), version)


def _remarks(published: Sequence[PublishedNumber], key: int) -> Iterator[str]:
    """Yield what is to be known of each system, the row or the column (``key``), and of what runs here for it."""
    notes: dict[str, dict[str, None]] = {}
    deviations: dict[str, dict[str, None]] = {}
    for number in published:
        system = (number.row, number.column)[key]
        notes.setdefault(system, {}).update(dict.fromkeys(filter(None, number.note.split("; "))))
        differs = known_deviations(number.job) if number.job is not None else []
        deviations.setdefault(system, {}).update(dict.fromkeys(each for each in differs if each not in notes[system]))
    for system, own in notes.items():
        differs = [f"ours: {'; '.join(deviations[system])}"] if deviations[system] else []
        if own or differs:
            yield f"{system}: {'; '.join([*own, *differs])}."


def _published_and_ours(
    published: Sequence[PublishedNumber], ours: Mapping[Job, Sequence[RunRecord]], keys: tuple[str, str]
) -> Table:
    places: dict[tuple[str, str], dict[str, Any]] = {}
    best = set()
    for number in published:
        place = number.row, number.column
        row = places.setdefault(place, dict(zip(keys, place, strict=True)))
        row |= {number.score: number.value / 100, f"{number.score}_printed": number.printed}
        if number.job is not None and number.job in ours:
            row |= _ours(number, ours[number.job])
        if "bold" in number.mark:
            best.add((list(places).index(place), number.score))
    columns = [Column(key) for key in keys]
    scores = {number.score for number in published}
    # A narrow terminal leaves out the last scores first, never the deviations.
    for minor, score in enumerate(score for score in LABELS if score in scores):
        columns.append(Column(score, LABELS[score], "number", _text(f"{score}_printed"), minor))
        if ours:
            label = f"ours: {LABELS[score]}"
            columns.append(Column(f"ours_{score}", label, "number", _text(f"ours_{score}_printed"), minor))
    if any(row.get("deviations") for row in places.values()):
        columns.append(Column("deviations", "ours differs in"))
    title = "In percent; in brackets the difference to the published number" if ours else "In percent"
    return Table(list(places.values()), columns, title, best)


def _text(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: str(row.get(key, "–"))


def _ours(number: PublishedNumber, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return ours: mean, standard deviation, what is printed with its difference to the published, known deviations."""
    combination = Combination(tuple(runs))
    mean, sd = mean_and_sd(run.scores[number.score] for run in combination.scored)
    star = COLLAPSED * (combination.scored[0].status == "collapsed")
    spread = "" if sd is None else f" ±{100 * sd:.2f}"
    key = f"ours_{number.score}"
    printed = f"{100 * mean:.2f}{star}{spread} ({100 * mean - number.value:+.2f})"
    deviations = "; ".join(known_deviations(runs[0].job))
    return {key: mean, f"{key}_sd": sd, f"{key}_printed": printed, "deviations": deviations}


def _standins(
    published: Sequence[PublishedNumber], standins: Sequence[tuple[Job, str, RunRecord]], keys: tuple[str, str]
) -> Table:
    places = {number.job: (number.row, number.column) for number in reversed(published) if number.job is not None}
    order = list(places.values())[::-1]
    rows: list[dict[str, Any]] = [
        dict(zip(keys, places[job], strict=True))
        # The row names the loss, network and gallery of the paper; those of the stand-in are its own.
        | {"reason": reason, "own_loss": run.items["loss"].short, "own_backbone": run.items["backbone"].short}
        | {"seed": run.job.seed, "own_gallery": int(run.scores["gallery"]) if run.scored else None}
        | {score: run.scores[score] if run.scored else None for score in LABELS}
        for job, reason, run in sorted(standins, key=lambda each: (order.index(places[each[0]]), each[2].job.seed))
    ]
    columns = [*map(Column, keys), Column("reason"), Column("own_loss", "own loss", minor=2)]
    columns += [Column("own_backbone", "own backbone", minor=1), Column("seed", "", "number", minor=3)]
    columns.append(Column("own_gallery", "own gallery", "number", ",d"))
    scores = {number.score for number in published}
    columns += [percent_column(score) for score in LABELS if score in scores]
    return Table(rows, columns, "Stand-ins (other systems or data): no score of these counts as ours")


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Paper]]:
    return {"paper": Paper}
