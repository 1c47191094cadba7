"""The site: a page for each leaderboard, with tracks, systems, and what each row has shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import reidbench
from reidbench.errors import DataError, ReidbenchError
from reidbench.leaderboard.board import Board, board_names
from reidbench.leaderboard.rows import Row
from reidbench.leaderboard.verify import Verification, verify
from reidbench.ranking.scores import named_score, shown_scores
from reidbench.reports.page import Cell, Column, Entry, Filter, Table, render
from reidbench.runs.prepare import Planner
from reidbench.runs.record import RunRecord
from reidbench.runs.suite import load_suite
from reidbench.utils.atomic import write_atomic
from reidbench.utils.machine import AUTO

KINDS = {"loss": "loss", "backbone": "network", "recipe": "recipe", "metric": "metric", "rerank": "re-ranking"}
TIERS = {
    "self-reported": "what the submitter's machine said; nobody has looked at more than the form",
    "consistent": "the scores follow from the kept rankings, and the rankings from the data set's lists. "
    "This does not show that a network produced them",
    "reproduced": "consistent, and somebody else made every run again from its record: each score lay within three "
    "standard deviations over the seeds",
}


@dataclass(frozen=True)
class _Line:
    """A row of a leaderboard with the runs that it is made of, and its tier."""

    row: Row
    runs: Sequence[RunRecord]
    tier: str

    @property
    def primary(self) -> float:
        """The score by which the protocol ranks; negative where lower is better."""
        name = self.runs[0].evaluation.primary
        value = float(self.row.get(name) or "nan")
        return value if named_score(name).higher_is_better else -value

    @property
    def fields(self) -> dict[str, str]:
        first = self.runs[0]
        return {kind: first.items[kind].short for kind in KINDS} | (
            {"metric": AUTO} if first.evaluation.metric_is_auto else {}
        )


def build_site(folder: Path, target: Path, planner: Planner) -> list[Path]:
    """Write a page for each leaderboard in ``folder``, and one that lists them, to ``target``; return the files.

    Leaderboards are verified first, and each row shows the tier that this gives. Pages need no network, and the same
    leaderboards give the same bytes. Raises DataError where ``verify`` finds something wrong.
    """
    found = verify(folder, planner)
    if found.findings:
        listed = "\n".join(map(str, found.findings))
        raise DataError(f"no site is built of leaderboards in which something is wrong:\n{listed}")
    named = _named_systems(folder, planner)
    files, boards = [], []
    for name in board_names(folder):
        board = Board.open(folder, name)
        if reasons := list(board.derive(allow_mixed=True)):
            raise DataError("\n".join(reasons))
        lines = _lines(board, found)
        page = render("leaderboard.html.j2", **_page(name, lines, named, found))
        files.append(_write(target / f"{name}.html", page))
        boards.append({"name": name, "rows": len(lines), "tiers": _counts(lines)})
    index = render(
        "leaderboards.html.j2", title="Leaderboards of reidbench", boards=boards, version=reidbench.__version__
    )
    return [_write(target / "index.html", index), *files]


def _write(file: Path, page: str) -> Path:
    write_atomic(file, page)
    return file


def _lines(board: Board, found: Verification) -> list[_Line]:
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    for _, record in sorted(board.kept, key=lambda kept: kept[1].job.seed):
        runs[record.group].append(record)
    return [_Line(row, runs[row["config_hash"]], found.tiers[row["config_hash"]]) for row in board.rows]


def _counts(lines: Sequence[_Line]) -> str:
    counts = Counter(line.tier for line in lines)
    return ", ".join(f"{counts[tier]} {tier}" for tier in TIERS if counts[tier])


def _page(
    name: str, lines: Sequence[_Line], named: Sequence[tuple[str, Mapping[str, str]]], found: Verification
) -> dict[str, object]:
    protocols = {line.row["protocol"]: line for line in lines}
    systems = [(title, line) for title, asked in named for line in lines if _is(line.runs[0], asked)]
    return {
        "title": f"{name}: leaderboard",
        "version": reidbench.__version__,
        "standin": name.endswith(".standin"),
        "protocols": [_about(protocol, line) for protocol, line in protocols.items()],
        "tracks": _tracks(lines),
        "systems": _systems(systems) if systems else None,
        "tiers": TIERS,
        "notes": found.notes,
    }


def _about(protocol: str, line: _Line) -> str:
    scores = line.runs[0].scores
    return (
        f"{protocol}: {scores['queries']:,.0f} queries × {scores['gallery']:,.0f} gallery items, "
        f"{scores['unmatched']:,.0f} unmatched; ranked by {line.runs[0].evaluation.primary}"
    )


def _tracks(lines: Sequence[_Line]) -> Table:
    """Return the table in which only the loss differs within a track: rows are ranked there, best first."""
    tracks: dict[tuple[str, str, str], list[_Line]] = defaultdict(list)
    for line in lines:
        # One track on other data, or under another version, is another contest.
        tracks[line.row["track"], line.row["protocol"], line.row["data_fingerprint"]].append(line)
    several = Counter(track for track, _, _ in tracks)
    entries, names = [], []
    for (track, protocol, data), members in sorted(tracks.items(), key=lambda item: (-len(item[1]), item[0])):
        title = track if several[track] == 1 else f"{track} ({protocol}, data {data})"
        names.append(title)
        ranked = sorted(members, key=lambda line: (-line.primary, line.row["config_hash"]))
        for line in ranked:
            place = 1 + sum(other.primary > line.primary for other in ranked)
            loss = Cell(line.fields["loss"])
            cells = [loss, Cell(str(place), value=place), *_scores(line, ranked), *_last(line), Cell(title)]
            entries.append(Entry(_anchor(line), cells, {"track": title, "tier": line.tier}, _details(line)))
    columns = [
        Column("loss"),
        Column("place", "number", "place within the track"),
        *_score_columns(),
        Column("seeds", "number"),
        Column("tier", "text", "what the row has shown"),
        Column("track", "text", "all but the loss"),
    ]
    filters = [Filter("track", "Track", names), Filter("tier", "Tier", list(TIERS))]
    return Table("Tracks", columns, entries, filters)


def _systems(systems: Sequence[tuple[str, _Line]]) -> Table:
    """Return the table of named combinations, with the items in which they differ."""
    differ = [kind for kind in KINDS if len({line.fields[kind] for _, line in systems}) > 1]
    columns = [Column("system"), *(Column(KINDS[kind]) for kind in differ), *_score_columns()]
    columns += [Column("seeds", "number"), Column("tier", "text", "what the row has shown")]
    everything = [line for _, line in systems]
    entries = [
        Entry(
            f"system-{number}-{_anchor(line)}",
            [Cell(name), *(Cell(line.fields[kind]) for kind in differ), *_scores(line, everything), *_last(line)],
            {"tier": line.tier},
            _details(line),
        )
        for number, (name, line) in enumerate(systems, start=1)
    ]
    return Table("Systems", columns, entries, [Filter("tier", "Tier", list(TIERS))])


def _score_columns() -> list[Column]:
    return [Column(each.label, "number", f"{each.description}, in percent") for each in shown_scores().values()]


def _scores(line: _Line, among: Sequence[_Line]) -> Iterator[Cell]:
    for name, score in shown_scores().items():
        value, sd = float(line.row[name]), line.row.get(f"{name}_sd")
        best = len(among) > 1 and value == score.best(float(other.row[name]) for other in among)
        yield Cell(f"{100 * value:.2f}", value, f"±{100 * float(sd):.2f}" if sd else "", best)


def _last(line: _Line) -> list[Cell]:
    seeds = int(line.row["n_seeds"])
    return [Cell(str(seeds), seeds), Cell(line.tier)]


def _anchor(line: _Line) -> str:
    return f"row-{line.row['config_hash'][:16]}"


def _details(line: _Line) -> list[tuple[str, str]]:
    """Return where a row comes from: every column that says something, and its runs."""
    said = [(column, text) for column, text in line.row.items() if text and column != "tier"]
    items = [(f"{kind}, resolved", item.spec) for kind, item in sorted(line.runs[0].items.items())]
    runs = [(f"run, seed {run.job.seed}", f"{run.id[:12]}, finished {run.finished}") for run in line.runs]
    return [*said, *items, *runs]


def _named_systems(folder: Path, planner: Planner) -> list[tuple[str, dict[str, str]]]:
    """Return the names that the suites in the folder give to jobs, and the items of each, resolved."""
    named: dict[tuple[str, tuple[tuple[str, str], ...]], None] = {}
    for file in sorted(folder.rglob("*.toml")):
        try:
            suite = load_suite(file)
            for job, name in suite.names.items():
                items, _ = planner.resolve(job)
                asked = {kind: item.text for kind, item in items.items() if kind != "dataset"}  # the protocol names it
                named[name, tuple(sorted(asked.items()))] = None
        except ReidbenchError as error:
            raise DataError(f"{file}: names a system that cannot be looked up: {error}") from None
    return [(name, dict(asked)) for name, asked in named]


def _is(record: RunRecord, asked: Mapping[str, str]) -> bool:
    """Whether a run is the named combination; one that names no metric means the loss's own."""
    if any(record.items[kind].spec != text for kind, text in asked.items()):
        return False
    return "metric" in asked or bool(record.evaluation.metric_is_auto)
