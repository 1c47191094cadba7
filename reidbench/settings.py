"""What belongs to a machine and never enters an id: folders, device, threads, how often to save."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

# Below the cache folder: the data that are drawn for a suite's scales.
SCALES = "scales"


def _folder(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else otherwise


def default_data() -> Path:
    """Return ``REIDBENCH_DATA``, or the platform's folder for user data."""
    return _folder("REIDBENCH_DATA", platformdirs.user_data_path("reidbench"))


def default_results() -> Path:
    """Return ``REIDBENCH_RESULTS``, or ``results`` in the present folder."""
    return _folder("REIDBENCH_RESULTS", Path("results"))


def default_cache() -> Path:
    """Return ``REIDBENCH_CACHE``, or the platform's cache folder."""
    return _folder("REIDBENCH_CACHE", platformdirs.user_cache_path("reidbench"))


@dataclass(frozen=True)
class Settings:
    """A machine's settings.

    ``device`` is "auto", "cpu" or "cuda[:N]"; ``threads`` is the number of CPU threads of torch and of decoding (0: as
    many as there are cores); ``checkpoint_seconds`` is the time between two checkpoints; ``allow_partial`` goes on with
    a data set whose counts are not those that it should have, which the record then says; ``pixels`` says where the
    decoded training pixels are held: "auto", or one of the names in tiers.py.
    """

    data: Path = field(default_factory=default_data)
    results: Path = field(default_factory=default_results)
    cache: Path = field(default_factory=default_cache)
    device: str = "auto"
    threads: int = 0
    checkpoint_seconds: float = 15.0
    allow_partial: bool = False
    pixels: str = "auto"
