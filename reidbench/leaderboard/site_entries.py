"""The rows of leaderboards as the site shows them: cells, interval, values for each query, and how to repeat a row."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reidbench.leaderboard.board import Board, Statement
from reidbench.leaderboard.rows import Row, chosen_seeds
from reidbench.ranking.rankings import Ranking, read_ranking
from reidbench.ranking.scores import named_score, shown_scores
from reidbench.reports.compare_runs import SEEDS, identities_of, mean_interval, same_matches
from reidbench.runs.record import RunRecord
from reidbench.utils.arrays import FloatArray, IntArray
from reidbench.utils.machine import AUTO

KINDS = {"loss": "loss", "backbone": "network", "recipe": "recipe", "metric": "metric", "rerank": "re-ranking"}
# The parts of a track: everything except the loss.
PARTS = {kind: label for kind, label in KINDS.items() if kind != "loss"}
PARTS |= {name: name for name in ("protocol", "version", "data", "study")}
UNNAMED = ("", AUTO, "none")  # what a command or a short name leaves out


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of a leaderboard as the site shows it.

    ``row``: its cells in the CSV.
    ``runs``: its runs in the order of their seeds.
    ``statement``: what the maintainers verified of it.
    ``path``: the folder of its first run, from the folder that holds the leaderboards.
    ``queries``: a name of the queries and their positives, which rows that can be compared share.
    ``identities``: the queries' identities, from 0 [queries].
    ``values``: the score that ranks it, fractions [seeds, queries]; None if its queries or positives are others.
    """

    row: Row
    runs: Sequence[RunRecord]
    statement: Statement | None
    path: Path
    queries: str
    identities: IntArray
    values: FloatArray | None

    @property
    def score(self) -> str:
        """The name of the score that ranks the protocol's rows."""
        return self.runs[0].evaluation.primary

    @cached_property
    def primary(self) -> float:
        """The score that ranks the protocol's rows; negative where lower is better."""
        value = float(self.row.get(self.score) or "nan")
        return value if named_score(self.score).higher_is_better else -value

    @property
    def by_seed(self) -> list[float]:
        """The score that ranks the protocol's rows, for each seed."""
        return [run.scores[self.score] for run in self.runs]

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of ``primary`` over the queries' identities, with three seeds or more over seeds too."""
        return mean_interval(self.runs, self.score, len(np.unique(self.identities)))

    @cached_property
    def items(self) -> dict[str, str]:
        """The short text of each item that differs between rows."""
        first = self.runs[0]
        metric = {"metric": AUTO} if first.evaluation.metric_is_auto else {}
        loss = {"loss": self.row["loss"]} if self.row["tuning"] == "tuned" else {}  # each seed has other options
        return {kind: first.items[kind].short for kind in KINDS} | metric | loss

    @cached_property
    def parts(self) -> dict[str, str]:
        """The loss and the parts of the track by name, as texts; empty where a part does not apply."""
        track, _, study = self.row["track"].partition(" study(")  # as the property of records writes it
        texts = dict(part.split("=", 1) for part in re.split(r" (?=(?:backbone|recipe|metric|rerank)=)", track))
        own = {"loss": self.items["loss"], "version": self.row["protocol"], "data": self.row["data_fingerprint"]}
        return {"protocol": ""} | texts | own | {"study": study.removesuffix(")")}

    @property
    def anchor(self) -> str:
        """The name of its permanent link in the table of tracks."""
        return f"row-{self.row['config_hash'][:16]}"

    @property
    def command(self) -> str:
        """The command that trains and scores the row again."""
        if self.row["study"]:
            return shlex.join(["reidbench", "study", f"{self.path.parts[0]}/studies/{self.row['study']}.toml"])
        items = {"protocol": self.runs[0].items["protocol"].short} | self.items
        flags = [(f"--{kind}", text) for kind, text in items.items() if kind == "loss" or text not in UNNAMED]
        flags += [("--seed", str(run.job.seed)) for run in self.runs]
        return shlex.join(["reidbench", "run", *(part for flag in flags for part in flag)])

    def cells(self, **others: Any) -> dict[str, Any]:
        """Return a row of a table: scores, interval, seeds, what filters need, and the ``others``."""
        names = [name for score in shown_scores(self.row, self.score) for name in (score, f"{score}_sd")]
        scores = {name: float(self.row[name]) for name in names if self.row.get(name)}
        low, high = self.interval or (None, None)
        chosen = " chosen" if chosen_seeds(run.job.seed for run in self.runs) else ""
        repeated = f"{SEEDS} or more" if len(self.runs) >= SEEDS else f"fewer than {SEEDS}"
        seeds = {"low": low, "high": high, "seeds": len(self.runs), "chosen": chosen, "repeated": repeated}
        named = {"family": self.row["loss"], "tuning": self.row["tuning"] or "as given"}
        return {**self.row, **scores, **self.items, **named, **seeds, **others}

    @property
    def mean_values(self) -> bytes:
        """The mean over the seeds of its value for each query, from 0 to 65535, in two bytes each."""
        return b"" if self.values is None else np.round(self.values.mean(axis=0) * 65535).astype("<u2").tobytes()


def entries_of(board: Board) -> Iterator[Entry]:
    """Yield the rows of a leaderboard; reads all rankings. Raises DataError where one is missing or damaged."""
    groups = board.groups()
    first: dict[str, Ranking] = {}
    for row in board.rows():
        paths, runs = zip(*groups[row["config_hash"]], strict=True)
        rankings = [read_ranking(path) for path in paths]
        queries = f"{row['protocol']} {row['data_fingerprint']}"
        base, values = first.setdefault(queries, rankings[0]), None
        if all(same_matches(base, ranking) for ranking in rankings):
            values = np.stack([named_score(runs[0].evaluation.primary).per_query(ranking) for ranking in rankings])
        path = Path(board.folder.resolve().name) / paths[0].relative_to(board.folder)
        identities = np.unique(identities_of(rankings[0]), return_inverse=True)[1]
        yield Entry(row, runs, board.statements.get(row["config_hash"]), path, queries, identities, values)
