"""Verification tiers, and the file beside a leaderboard's CSV in which its maintainers state what they verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

from reidbench.ranking.rankings import RANKINGS
from reidbench.runs.record import RECORD, RunRecord
from reidbench.studies.study import parse_typed
from reidbench.utils.machine import Environment
from reidbench.utils.untrusted_files import file_digest, read_text

Tier = Literal["self-reported", "consistent", "recomputed", "retrained"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # from the least to the most that a checking machine did


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


def run_digests(runs: Iterable[tuple[Path, RunRecord]]) -> dict[str, str]:
    """Return a sha256 (hex) over the files of record and rankings for each run, by the first 12 digits of its id."""
    files = {record.id[:12]: [folder / name for name in (RECORD, RANKINGS)] for folder, record in runs}
    digests = {key: [file_digest(file) for file in each if file.is_file()] for key, each in files.items()}
    return {key: hashlib.sha256(" ".join(each).encode()).hexdigest() for key, each in digests.items()}


def read_statements(file: Path) -> Statements:
    """Return the statements in a file by the row's ``config_hash``, none without a file; raises DataError."""
    if not file.exists():
        return {}
    statements: Statements = parse_typed(read_text(file), file, Statements)
    return statements


def write_statements(statements: Statements) -> str:
    """Return the text of a file of statements."""
    return json.dumps({key: asdict(each) for key, each in statements.items()}, indent=1, sort_keys=True) + "\n"
