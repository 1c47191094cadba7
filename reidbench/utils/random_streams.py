"""Named random streams of one seed: random numbers are a function of (seed, names), not of earlier random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from reidbench.errors import OptionError

MOST_SEED = 2**63 - 1
SEEDS = f"a whole number from 0 to {MOST_SEED}"


def check_seed(seed: int) -> None:
    """Raise OptionError where ``seed`` is out of range."""
    if not 0 <= seed <= MOST_SEED:
        raise OptionError(f"seed: expected {SEEDS}, got {f'{seed:,}' if abs(seed) < 10**30 else 'a larger one'}")


def stream_key(seed: int, *names: str | int) -> int:
    """Return the 128-bit key of the stream that ``names`` picks under ``seed``.

    The key is a sha256 over the parts with their lengths, so ("a", "bc") and ("ab", "c") differ. Raises OptionError
    where the seed lies outside 0..2^63-1.
    """
    check_seed(seed)
    digest = hashlib.sha256()
    for part in (seed, *names):
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(f"{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest()[:16], "little")


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a fresh generator for the stream that ``names`` picks under ``seed``.

    The same arguments give the same numbers on every machine, whatever was generated before.
    """
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *names)))


def torch_seed(seed: int, *names: str | int) -> int:
    """Return a seed in 0..2^63-1 for ``torch.manual_seed``, for code that uses torch's own generator."""
    return stream_key(seed, *names) & ((1 << 63) - 1)


def with_seed(function: Callable[[], Any], seed: int, *names: str) -> Any:
    """Return ``function()`` with torch's generator seeded by the stream of ``names``, and the generator restored."""
    import torch  # noqa: PLC0415 - listing a dataset uses streams and needs no torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, *names))
        return function()
