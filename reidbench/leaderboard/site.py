"""The site: one page per leaderboard with its tracks, and an index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reidbench.errors import DataError
from reidbench.leaderboard.board import TIERS, check, load_boards
from reidbench.leaderboard.external import external_rows, load_external
from reidbench.leaderboard.rows import Row
from reidbench.leaderboard.site_entries import PARTS, UNNAMED, Entry, entries_of
from reidbench.ranking.scores import headline_scores, named_score, scores_at, shown_scores
from reidbench.reports.charts import Chart, Series
from reidbench.reports.html import OWN_FILES, render
from reidbench.reports.table import MISSING, Column, Table
from reidbench.studies.comparison import LossScores, compare
from reidbench.utils.atomic import write_atomic

COMPARED = 50  # rows of a page that the browser can compare: their values for each query are in it
FILTERS = {"family": "loss", "backbone": "network", "dataset": "dataset", "tuning": "tuning", "repeated": "seeds"}
FILTERS |= {"verified": "verified", "track": "track"}
FACETS = {"protocol": "protocol", "metric": "metric", "rerank": "re-ranking"}  # of rows made by other programs


def build_site(folder: Path, target: Path, docs: str = "") -> list[Path]:
    """Write a page for each leaderboard in ``folder``, and an index, to ``target``; return the files.

    ``docs`` is the address of the folder of the documentation, to which the index links.
    Each row shows the tier that the leaderboard's maintainers state. Pages need no network, and equal leaderboards give
    equal bytes. Raises DataError where ``check`` finds a problem.
    """
    if problems := check(folder):
        listed = "\n".join(map(str, problems))
        raise DataError(f"no site is built of leaderboards that fail leaderboard check:\n{listed}")
    boards = {board.name: entries for board in load_boards(folder)[0] if (entries := list(entries_of(board)))}
    external = external_rows(load_external(folder)[0])
    pages = {"index.html": index_page(boards, docs, len(external))}
    pages |= {"_external.html": external_page(external)} if external else {}  # no leaderboard's name begins so
    pages |= {f"{name}.html": board_page(name, entries) for name, entries in boards.items()}
    for name, page in pages.items():
        write_atomic(target / name, page)
    return [target / name for name in pages]


def index_page(boards: Mapping[str, Sequence[Entry]], docs: str = "", external: int = 0) -> str:
    """Return the page that lists the leaderboards and a number of ``external`` rows, with links below ``docs``."""
    return _render("leaderboards.html.j2", "Leaderboards of reidbench", boards=boards, docs=docs, external=external)


def external_page(rows: Sequence[Row]) -> str:
    """Return the page of rows made by other programs."""
    columns = [Column("method"), *_score_columns([(row, "") for row in rows]), *map(Column, FACETS)]
    table = Table([row | {name: float(row[name]) for name in shown_scores(row)} for row in rows], columns)
    by_id = {f"row-{row['id']}": row for row in rows}
    return _render("external.html.j2", "Rows made by other programs", table=table, rows=by_id, filters=FACETS)


def board_page(name: str, entries: Sequence[Entry]) -> str:
    """Return the page of one leaderboard."""
    tested = [entry for entry in entries if entry.values is not None and entry.identities.any()]
    best = sorted(tested, key=lambda entry: -entry.primary)[:COMPARED]
    shared = [kind for kind in PARTS if len({entry.parts[kind] for entry in entries}) == 1]
    tracks = _ranked_tracks(entries)
    differing = [kind for kind in PARTS if kind not in shared]
    costs = {"train_s": "training time, s", "params_m": "parameters, million"}
    charts = [chart for cost, label in costs.items() for chart in _scatter(entries, differing, cost, label)]
    return _render(
        "leaderboard.html.j2",
        f"{name}: leaderboard",
        standin=name.endswith(".standin"),
        protocols={entry.parts["protocol"] or entry.row["protocol"]: entry.runs[0] for entry in entries},
        shared=_texts(entries[0], [kind for kind in shared if kind != "version"]),  # the heading says it
        tracks=_tracks(tracks, differing),
        entries={entry.anchor: entry for entry in entries},
        verdicts=dict(item for ranked in tracks for item in _verdicts(ranked).items()),
        compared={entry.anchor for entry in best},
        filters={key: label for key, label in FILTERS.items() if key != "track" or differing != ["backbone"]},
        charts=charts,
        queries={entry.queries: entry.identities.astype("<u4").tobytes() for entry in best},
    )


def _render(template: str, title: str, **values: Any) -> str:
    values |= {"title": title, "tiers": TIERS, "scores_at": scores_at, "named_score": named_score}
    return render(template, files=(*OWN_FILES, "leaderboard.css", "leaderboard.js"), **values)


def _texts(entry: Entry, kinds: Sequence[str]) -> list[str]:
    """Return some parts of an entry's track as texts, such as "re-ranking none"; the network's name is enough."""
    return [text if kind == "backbone" else f"{PARTS[kind]} {text}" for kind in kinds if (text := entry.parts[kind])]


def _scatter(entries: Sequence[Entry], differing: Sequence[str], column: str, label: str) -> Iterator[Chart]:
    """Yield a chart of the score that ranks the rows against a column, by network; none where the column is constant.

    Untrained networks are left out.
    """
    trained = [entry for entry in entries if entry.row["loss"] != "none" and float(entry.row[column]) > 0]
    if len({entry.row[column] for entry in trained}) < 2:
        return
    named = ["loss", *(kind for kind in differing if kind != "backbone")]
    names = {entry: [entry.parts[kind] for kind in named if entry.parts[kind] not in UNNAMED] for entry in trained}
    series = []
    for network in dict.fromkeys(entry.items["backbone"] for entry in trained):
        members = [entry for entry in trained if entry.items["backbone"] == network]
        points = ([float(entry.row[column]) for entry in members], [100 * abs(entry.primary) for entry in members])
        series.append(Series(network, *points, labels=[" + ".join(names[entry]) for entry in members]))
    score = named_score(trained[0].score).label
    yield Chart("scatter", f"{score} by {label.partition(',')[0]}", series, label, f"{score}, %", "x")


def _ranked_tracks(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the rows of each track, best first; the longest track first. Within a track only the loss differs."""
    tracks: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        # The same track on other data, or under another version, is not comparable.
        tracks[entry.row["track"], entry.row["protocol"], entry.row["data_fingerprint"]].append(entry)
    longest_first = sorted(tracks.items(), key=lambda item: (-len(item[1]), item[0]))
    return [sorted(each, key=lambda entry: (-entry.primary, entry.row["config_hash"])) for _, each in longest_first]


def _verdicts(ranked: Sequence[Entry]) -> dict[str, LossScores]:
    """Return what the values for each query tell of the rows of a track, by anchor, as in a study.

    Nothing of untrained networks; empty where the seeds are too few to compare more than these checkpoints.
    """
    comparable = [(entry, entry.values) for entry in ranked if entry.values is not None]
    sign = 1 if all(named_score(entry.score).higher_is_better for entry in ranked) else -1
    if all(len(values) == 1 for _, values in comparable):
        return {}
    untrained = [entry.anchor for entry, _ in comparable if entry.row["loss"] == "none"]
    by_anchor = {entry.anchor: sign * values for entry, values in comparable}
    comparison = compare(by_anchor, comparable[0][0].identities, outside=untrained)
    return {loss.name: loss for loss in comparison.losses if loss.places}


def _tracks(tracks: Sequence[Sequence[Entry]], differing: Sequence[str]) -> Table:
    """Return the table of all rows by track; ``differing`` are the names of the parts in which tracks differ."""
    entries = [entry for ranked in tracks for entry in ranked]
    rows: list[dict[str, Any]] = []
    best: set[tuple[int, str]] = set()
    for ranked in tracks:
        names = set(ranked[0].row).intersection(*(entry.row for entry in ranked))
        for name, score in shown_scores(names, ranked[0].score).items() if len(ranked) > 1 else ():
            values = [float(entry.row[name]) for entry in ranked]
            best |= {(len(rows) + number, name) for number, value in enumerate(values) if value == score.best(values)}
        for entry in ranked:
            place = 1 + sum(other.primary > entry.primary for other in ranked)
            track = " · ".join(_texts(entry, differing))
            rows.append(entry.cells(anchor=entry.anchor, place=place, track=track))
    scores = _score_columns([(entry.row, entry.score) for entry in entries])
    columns = [
        Column("loss"),
        Column("track", description="what differs between the tracks: everything except the loss"),
        Column("place", kind="number", description="place in the track, and its 95 % range"),
        scores[0],
        Column("low", "95 %", "number", _interval, description=f"95 % interval of {scores[0].label}"),
        *scores[1:],
        Column("seeds", kind="number", format=lambda row: f"{row['seeds']}{row['chosen']}"),
        Column("verified", description="what the maintainers of this leaderboard state that they verified"),
        Column("tuning", description="of a study's rows; its trials are self-reported"),
    ]
    return Table(rows, columns, best=best)


def _score_columns(rows: Sequence[tuple[Row, str]]) -> list[Column]:
    """Return the columns of the scores of rows, each given with its primary score; the primary ones first."""
    names = [name for row, primary in rows for name in headline_scores(row, primary)]
    names += [name for row, primary in rows for name in shown_scores(row, primary) if name != "map_step"]
    scores = {name: named_score(name) for name in dict.fromkeys(names)}
    return [
        Column(name, score.label, "number", partial(_percent, name), description=f"{score.description}, in percent")
        for name, score in scores.items()
    ]


def _percent(name: str, row: Mapping[str, Any]) -> str:
    mean, deviation = row.get(name), row.get(f"{name}_sd")
    return (MISSING if mean is None else f"{100 * mean:.2f}") + (
        f" ±{100 * deviation:.2f}" if isinstance(deviation, float) else ""
    )


def _interval(row: Mapping[str, Any]) -> str:
    return MISSING if row["low"] is None else f"{100 * row['low']:.1f}–{100 * row['high']:.1f}"
