"""Leaderboards: kept records and rankings, and a CSV a protocol that follows from them byte for byte."""

from reidbench.leaderboard.check_board import check as check
from reidbench.leaderboard.findings import Finding as Finding
from reidbench.leaderboard.publish import Added as Added
from reidbench.leaderboard.publish import add as add
from reidbench.leaderboard.publish import merge as merge
from reidbench.leaderboard.rows import columns as columns
from reidbench.leaderboard.site import build_site as build_site
from reidbench.leaderboard.verify import Verification as Verification
from reidbench.leaderboard.verify import verify as verify

__all__ = ["Added", "Finding", "Verification", "add", "build_site", "check", "columns", "merge", "verify"]
