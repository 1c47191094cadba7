"""The site: one page per leaderboard with its tracks and named systems, and an index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import reidbench
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.board import Board, board_names, check
from reidbench.leaderboard.rows import Row, chosen_seeds
from reidbench.leaderboard.tiers import TIERS, Statement
from reidbench.ranking.scores import named_score, shown_scores
from reidbench.reports.html import render, table_view
from reidbench.reports.table import Column, Table
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RunRecord
from reidbench.runs.suite import load_suite
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO

KINDS = {"loss": "loss", "backbone": "network", "recipe": "recipe", "metric": "metric", "rerank": "re-ranking"}

# A named system: its name and the resolved spec of each item that it names.
System = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Entry:
    """A row of a leaderboard as the site shows it.

    ``row``: its cells in the CSV.
    ``runs``: its runs in the order of their seeds.
    ``statement``: what the maintainers verified of it.
    """

    row: Row
    runs: Sequence[RunRecord]
    statement: Statement | None

    @property
    def primary(self) -> float:
        """The score that ranks the protocol's rows; negative where lower is better."""
        name = self.runs[0].evaluation.primary
        value = float(self.row.get(name) or "nan")
        return value if named_score(name).higher_is_better else -value

    @property
    def items(self) -> dict[str, str]:
        """The short text of each item that differs between rows."""
        first = self.runs[0]
        metric = {"metric": AUTO} if first.evaluation.metric_is_auto else {}
        loss = {"loss": self.row["loss"]} if self.row["study"] else {}  # each seed has other options
        return {kind: first.items[kind].short for kind in KINDS} | metric | loss

    @property
    def anchor(self) -> str:
        """The name of its permanent link in the table of tracks."""
        return f"row-{self.row['config_hash'][:16]}"

    def cells(self, **others: Any) -> dict[str, Any]:
        """Return a row of a table: scores, seeds, tier and the ``others``."""
        names = [name for score in shown_scores() for name in (score, f"{score}_sd")]
        scores = {name: float(self.row[name]) for name in names if self.row.get(name)}
        chosen = " chosen" if chosen_seeds(run.job.seed for run in self.runs) else ""
        seeds = {"seeds": int(self.row["n_seeds"]), "chosen": chosen}
        return {**scores, **seeds, "verified": self.row["verified"], **others}

    def details(self) -> list[tuple[str, str]]:
        """Return (label, text) of every column with a text, of the resolved items and of the runs."""
        verified = str(self.statement) if self.statement and self.statement.tier == self.row["verified"] else ""
        texts = self.row | {"verified": verified or self.row["verified"]}
        cells = [(column, text) for column, text in texts.items() if text]
        items = [(f"{kind}, resolved", item.spec) for kind, item in sorted(self.runs[0].items.items())]
        runs = [
            (f"run, seed {run.job.seed}", f"{run.id[:12]}, finished {run.finished}, weights {run.weights[:12] or '–'}")
            for run in self.runs
        ]
        return [*cells, *items, *runs]


def build_site(folder: Path, target: Path, planner: Planner) -> list[Path]:
    """Write a page for each leaderboard in ``folder``, and an index, to ``target``; return the files.

    Each row shows the tier that the leaderboard's maintainers state. Pages need no network, and equal leaderboards give
    equal bytes. Raises DataError where ``check`` finds a problem.
    """
    if problems := check(folder):
        listed = "\n".join(map(str, problems))
        raise DataError(f"no site is built of leaderboards that fail leaderboard check:\n{listed}")
    systems = _named_systems(folder, planner)
    pages, boards = {}, []
    for name in board_names(folder):
        board, _ = Board.load(folder, name, files=False)
        runs = {key: [record for _, record in each] for key, each in board.groups().items()}
        keyed = [(row["config_hash"], row) for row in board.rows()]
        entries = [Entry(row, runs[key], board.statements.get(key)) for key, row in keyed]
        pages[f"{name}.html"] = _page(name, entries, systems)
        counts = Counter(entry.row["verified"] for entry in entries)
        tiers = ", ".join(f"{counts[tier]} {tier}" for tier in TIERS if counts[tier])
        boards.append({"name": name, "rows": len(entries), "tiers": tiers})
    title, version = "Leaderboards of reidbench", reidbench.__version__
    pages = {"index.html": render("leaderboards.html.j2", title=title, boards=boards, version=version)} | pages
    for name, page in pages.items():
        write_atomic(target / name, page)
    return [target / name for name in pages]


def _page(name: str, entries: Sequence[Entry], systems: Sequence[System]) -> str:
    protocols = {entry.row["protocol"]: entry.runs[0] for entry in entries}
    named = [(title, entry) for title, specs in systems for entry in entries if _is_system(entry, specs)]
    return render(
        "leaderboard.html.j2",
        title=f"{name}: leaderboard",
        version=reidbench.__version__,
        standin=name.endswith(".standin"),
        protocols=[
            f"{protocol}: {run.scores['queries']:,.0f} queries × {run.scores['gallery']:,.0f} gallery items, "
            f"{run.scores['unmatched']:,.0f} unmatched; ranked by {run.evaluation.primary}"
            for protocol, run in protocols.items()
        ],
        tracks=_tracks(entries),
        systems=_systems(named) if named else None,
        tiers=TIERS,
    )


def _tracks(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the table of all rows by track, best first within each: only the loss differs within a track."""
    tracks: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        # The same track on other data, or under another version, is not comparable.
        tracks[entry.row["track"], entry.row["protocol"], entry.row["data_fingerprint"]].append(entry)
    variants = Counter(track for track, _, _ in tracks)
    shown: list[Entry] = []
    rows: list[dict[str, Any]] = []
    best: set[tuple[int, str]] = set()
    for (track, protocol, data), members in sorted(tracks.items(), key=lambda item: (-len(item[1]), item[0])):
        title = track if variants[track] == 1 else f"{track} ({protocol}, data {data})"
        ranked = sorted(members, key=lambda entry: (-entry.primary, entry.row["config_hash"]))
        best |= {(len(rows) + place, name) for place, name in _best(ranked)}
        for entry in ranked:
            rank = 1 + sum(other.primary > entry.primary for other in ranked)
            rows.append(entry.cells(loss=entry.items["loss"], tuning=entry.row["tuning"], rank=rank, track=title))
        shown += ranked
    first = [Column("loss"), Column("rank", kind="number", description="rank within the track")]
    tuning = (
        [Column("tuning", description="of a study's rows; its trials are self-reported")]
        if any(row["tuning"] for row in rows)
        else []
    )
    columns = [*first, *tuning, *_common_columns(), Column("track", description="everything except the loss")]
    details = [entry.details() for entry in shown]
    table = Table(rows, columns, best=best)
    return table_view(
        table, "Tracks", [entry.anchor for entry in shown], filters=("track", "verified"), details=details
    )


def _systems(named: Sequence[tuple[str, Entry]]) -> dict[str, Any]:
    """Return the table of named systems, with the items in which they differ."""
    entries = [entry for _, entry in named]
    differing = [kind for kind in KINDS if len({entry.items[kind] for entry in entries}) > 1]
    columns = [Column("system"), *(Column(kind, KINDS[kind]) for kind in differing), *_common_columns()]
    rows = [entry.cells(system=name, **entry.items) for name, entry in named]
    ids = [f"system-{number}-{entry.anchor}" for number, entry in enumerate(entries, start=1)]
    details = [entry.details() for entry in entries]
    return table_view(Table(rows, columns, best=_best(entries)), "Systems", ids, filters=("verified",), details=details)


def _common_columns() -> list[Column]:
    scores = [
        Column(name, each.label, "number", partial(_percent, name), description=f"{each.description}, in percent")
        for name, each in shown_scores().items()
    ]
    seeds = Column("seeds", kind="number", format=lambda row: f"{row['seeds']}{row['chosen']}")
    verified = Column("verified", description="what the maintainers of this leaderboard state that they verified")
    return [*scores, seeds, verified]


def _percent(name: str, row: Mapping[str, Any]) -> str:
    deviation = row.get(f"{name}_sd")
    return f"{100 * row[name]:.2f}" + (f" ±{100 * deviation:.2f}" if deviation is not None else "")


def _best(entries: Sequence[Entry]) -> set[tuple[int, str]]:
    """Return (place, score) of the best values among several entries."""
    best = set()
    for name, score in shown_scores().items() if len(entries) > 1 else ():
        values = [float(entry.row[name]) for entry in entries]
        best |= {(place, name) for place, value in enumerate(values) if value == score.best(values)}
    return best


def _named_systems(folder: Path, planner: Planner) -> list[System]:
    """Return the systems that suites in the folder name."""
    named: list[System] = []
    for file in sorted(folder.rglob("*.toml")):
        try:
            for job, name in load_suite(file).names.items():
                items = planner.resolve(job).items
                specs = {kind: item.text for kind, item in items.items() if kind != "dataset"}  # the protocol names it
                named += [(name, specs)] if (name, specs) not in named else []
        except ReidbenchError as error:
            raise DataError(f"{file}: names a system that cannot be resolved: {error}") from None
    return named


def _is_system(entry: Entry, specs: Mapping[str, str]) -> bool:
    """Return whether a row is a named system, no study's; one that names no metric has the loss's own."""
    record = entry.runs[0]
    same = all(record.items[kind].spec == text for kind, text in specs.items())
    return same and not entry.row["study"] and ("metric" in specs or record.evaluation.metric_is_auto)
