"""Verification tiers, and the file beside a leaderboard's CSV in which its maintainers state what they verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from reidbench.ranking.rankings import RANKINGS
from reidbench.runs.record import RECORD
from reidbench.studies.study import parse_typed
from reidbench.utils.machine import Environment
from reidbench.utils.untrusted_files import file_digest, read_text

Tier = Literal["self-reported", "consistent", "recomputed", "retrained"]
# What each tier means, from the least to the most that a checking machine did.
TIERS: Mapping[Tier, str] = {
    "self-reported": "the submitter's word: the stored files were checked against one another, and nothing else was",
    "consistent": "the scores follow from the stored rankings, and these rank the queries and the gallery of the "
    "dataset's lists; this says nothing about a network, since a ranking can be invented or altered",
    "recomputed": "consistent, and the checking machine embedded the test images with the published weights of every "
    "seed: each score agrees within 0.1 points; this does not say how the weights were trained",
    "retrained": "consistent, and the checking machine trained the row again with seeds of its own: the row's mean "
    "agrees with the mean of these trainings as far as their spread tells (99 % interval)",
}


@dataclass(frozen=True)
class Statement:
    """What one machine verified of a row of a leaderboard.

    ``tier``: the highest tier that it reached.
    ``date``: the day (UTC).
    ``commit``: the commit of its checkout, 40 hex digits; empty outside of one.
    ``dirty``: whether the checkout had uncommitted changes.
    ``environment``: the machine and the versions of its libraries.
    ``runs``: for each run of the row, by the first 12 digits of its id, the digest of its files.
    ``seeds``: the seeds that were trained for the tier "retrained".
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    tier: Tier
    date: str
    commit: str
    dirty: bool
    environment: Environment
    runs: dict[str, str]
    seeds: list[int]

    def __str__(self) -> str:
        checkout = f", commit {self.commit[:12]}{' with changes' * self.dirty}" if self.commit else ""
        seeds = f", seeds {', '.join(map(str, self.seeds))}" if self.seeds else ""
        versions = f"reidbench {self.environment.reidbench}, torch {self.environment.torch}"
        return f"{self.tier} on {self.date}{seeds} ({versions}{checkout})"


Statements = dict[str, Statement]


def run_digest(folder: Path) -> str:
    """Return a sha256 (hex) over the record and the rankings in a run's folder."""
    return hashlib.sha256(" ".join(file_digest(folder / name) for name in (RECORD, RANKINGS)).encode()).hexdigest()


def read_statements(file: Path) -> Statements:
    """Return the statements in a file by the row's ``config_hash``, none without a file; raises DataError."""
    if not file.exists():
        return {}
    statements: Statements = parse_typed(read_text(file), file, Statements)
    return statements


def write_statements(statements: Statements) -> str:
    """Return the text of a file of statements."""
    return json.dumps({key: asdict(each) for key, each in statements.items()}, indent=1, sort_keys=True) + "\n"
