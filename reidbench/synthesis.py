"""Drawing a data set's stand-in, and showing how far it is."""

from __future__ import annotations

from pathlib import Path

from reidbench.plugins import load
from reidbench.progress import progress


def synthesize(spec: str, directory: Path) -> tuple[int, int]:
    """Draw with a synthesizer (a spec) into a folder and return how many images are there of how many.

    The same again goes on where it stopped. Raises OptionError, and DataError where the folder cannot be used.
    """
    steps = iter(load().resolve("synthesizer", spec).build(directory))
    done, total = next(steps, (0, 0))
    with progress("drawing images", total, done) as update:
        for done, _ in steps:
            update(done, "")
    return done, total
