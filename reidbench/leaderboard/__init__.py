"""Leaderboards: kept records and rankings, and a CSV a protocol that follows from them byte for byte."""

from reidbench.leaderboard.adding import Added, add, merge
from reidbench.leaderboard.checking import check
from reidbench.leaderboard.findings import Finding
from reidbench.leaderboard.rows import COLUMNS
from reidbench.leaderboard.site import build_site
from reidbench.leaderboard.verifying import Verification, verify

__all__ = ["COLUMNS", "Added", "Finding", "Verification", "add", "build_site", "check", "merge", "verify"]
