"""The rows of a leaderboard: columns derived from records, and the CSV file that holds them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from reidbench.plugins.spec import Item, Spec, Term, write_value
from reidbench.ranking.bootstrap import mean_and_sd
from reidbench.ranking.scores import headline_scores, scores_at
from reidbench.runs.record import ITEMS, RunRecord
from reidbench.utils.lock import lock

Row = dict[str, str]


def changing(folder: Path) -> AbstractContextManager[object]:
    """Return the lock under which the leaderboards in a folder are changed; it waits five minutes for others."""
    return lock(folder / ".lock", "changing the leaderboards", wait=300.0)


def board_name(record: RunRecord) -> str:
    """Return the name of the leaderboard that a record belongs to; stand-ins and data with a name have their own."""
    # The protocol "owner/name" of a third-party plugin becomes one file name: no item's name holds a "-".
    protocol = record.items["protocol"]
    name = Spec.parse(protocol.spec).item.name.replace("/", "-")
    if protocol.label:
        name += "." + re.sub(r"[^\w.+-]+", "_", protocol.label)[:48]
    return f"{name}.standin" if record.standin else name


def utc_time(text: str) -> datetime | None:
    """Return the moment of an ISO 8601 text in UTC; None where it is none, or has no offset from UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def chosen_seeds(seeds: Iterable[int]) -> str:
    """Return a note on the seeds of a row that are not 0, 1, 2 and so on, and may have been chosen by their scores."""
    numbers = sorted(seeds)
    return "" if numbers == list(range(len(numbers))) else f"chosen seeds: {', '.join(map(str, numbers))}"


def row_of(runs: Iterable[RunRecord], own: Row | None = None, tier: str = "self-reported") -> Row:
    """Return the row of one combination, in the order of the file's columns.

    ``runs`` are one for each seed, ``own`` the cells that a study determines, ``tier`` what was verified.
    """
    seeds = sorted(runs, key=lambda record: (record.job.seed, record.id))
    first, latest = seeds[0], max(seeds, key=lambda run: (str(utc_time(run.finished)), run.finished, run.id))
    items = {kind: Spec.parse(first.items[kind].spec) for kind in ITEMS}
    terms, backbone, metric = items["loss"].terms, items["backbone"].item, items["metric"].item
    options = dict(backbone.options)
    scores: dict[str, str] = {}
    shared = set(first.scores).intersection(*(run.scores for run in seeds))  # a record may lack newer scores
    for name in filter(shared.__contains__, scores_at(first.scores)):
        mean, sd = mean_and_sd(run.scores[name] for run in seeds)
        scores[name] = f"{mean:.6f}"
        if name in headline_scores(first.scores, first.evaluation.primary):
            scores[f"{name}_sd"] = "" if sd is None else f"{sd:.6f}"
    finished = utc_time(latest.finished)
    code = {file for run in seeds for file in run.code_files.items()}
    notes = [deviation for run in seeds for deviation in run.deviations]
    notes += [
        chosen_seeds(run.job.seed for run in seeds),
        "seeds made by different code" * (len(code) > len(dict(code))),
    ]
    return {
        "schema": str(first.schema),
        "dataset": items["dataset"].item.name,
        "protocol": f"{items['protocol'].item.name}@{first.evaluation.version}",
        "track": first.track,
        "loss": str(Spec(tuple(Term(term.weight, Item(term.item.name)) for term in terms))),
        "loss_params": " + ".join(_options(term.item) for term in terms),
        "backbone": backbone.name,
        **{name: write_value(options[name]) if name in options else "" for name in ("weights", "head")},
        "embedding_dim": str(first.network.embedding_dim),
        "test_metric": metric.name,
        "pool": first.evaluation.pool,
        "normalize": write_value(first.evaluation.normalize),
        "tta": first.evaluation.views,
        "rerank": str(items["rerank"]),
        "metric_learner": metric.name if first.evaluation.learned else "",
        **scores,
        "n_seeds": str(len(seeds)),
        "iterations": str(first.recipe.steps),
        "params_m": f"{first.network.parameters / 1e6:.6f}",
        "train_s": f"{mean_and_sd(run.seconds['train'] for run in seeds)[0]:.2f}",
        "extract_s": f"{mean_and_sd(run.seconds['embed'] for run in seeds)[0]:.2f}",
        "gpu": _distinct(run.environment.device_name for run in seeds),
        "reidbench": _distinct(run.environment.reidbench for run in seeds),
        "plugin_dist": first.items["loss"].distribution,
        "plugin_version": first.items["loss"].version,
        "commit": latest.commit,
        "dirty": write_value(any(run.dirty for run in seeds)),
        "data_fingerprint": first.dataset.digest[:16],
        "config_hash": first.group,
        "verified": tier,
        "faithful": write_value(all(run.faithful for run in seeds)),
        "trained_on": Spec.parse(first.items.get("train", first.items["dataset"]).spec).item.name,
        "source": "reidbench",
        "date": str(finished.date()) if finished else "",
        **({"study": "", "tuning": ""} | (own or {})),
        "notes": _distinct(filter(None, notes)),
    }


def _options(item: Item) -> str:
    return ", ".join(f"{name}={write_value(value)}" for name, value in item.options)


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def unsafe_cells(row: Row) -> Iterator[tuple[str, str]]:
    """Yield (column, problem) for cells that a spreadsheet runs as a formula, or that hold unprintable characters."""
    for column, text in row.items():
        if text.startswith(("=", "+", "-", "@")):
            yield column, f"begins with {text[0]!r}, which spreadsheets run as a formula: {text!r:.80}"
        if not text.isprintable():
            yield column, f"holds unprintable characters: {text!r:.80}"


def write_rows(rows: Sequence[Row]) -> bytes:
    """Return the bytes of a leaderboard's file, none without rows; cells are empty of scores that other rows have."""
    columns = list(dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row))
    text = io.StringIO()
    cells = ([row.get(column, "") for column in columns] for row in rows)
    csv.writer(text, lineterminator="\n").writerows([*([columns] if rows else []), *cells])
    return text.getvalue().encode()
