"""Shared by the dataset readers: finding official folders below the data root, and the counts they should have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from reidbench import DataError, OptionError, parse_json, read_text

# The file in which a rendered stand-in gives its counts.
CARD = "STANDIN.json"

Views = Literal["original", "center", "center_flip", "five_crops", "five_crops_flip"]


def check_holdout(dataset: str, holdout: float) -> None:
    """Raise OptionError where the fraction of held-out identities is not from 0 to below 1."""
    if not 0 <= holdout < 1:
        raise OptionError(f"{dataset}: option holdout: expected a fraction from 0 to below 1, got {holdout:g}")


def lacking(folder: Path, names: Iterable[str]) -> str:
    """Return which of these files or folders a folder lacks, as one line that begins with its path, or ""."""
    if missing := [name for name in names if not (folder / name).exists()]:
        return f"{folder}: " + (f"lacks {', '.join(missing)}" if folder.is_dir() else "no such folder")
    return ""


def find_tree(dataset: str, root: Path, spellings: Iterable[str], folders: Sequence[str]) -> Path:
    """Return the first of the spellings below ``root`` that has all folders; raises DataError with all that were tried.

    ``dataset`` is the name of the dataset and of the synthesizer of its stand-in.
    """
    tried = []
    for spelling in spellings:
        if not (line := lacking(root / spelling, folders)):
            return root / spelling
        tried.append(line)
    raise DataError(
        f"{dataset}: found no folder with {', '.join(folders)}; tried\n  "
        + "\n  ".join(tried)
        + "\nName the folder with the unpacked archives as the data root (--data-root, REIDBENCH_DATA), or render a "
        f"stand-in: reidbench data synthesize {dataset} DIR"
    )


def expected_counts(
    tree: Path, published: Mapping[str, int], counts_of: Callable[[Any], dict[str, int]]
) -> dict[str, int]:
    """Return the published counts, or for a stand-in those that ``counts_of`` reads from its STANDIN.json.

    Raises DataError where that file cannot be read or does not give the same counts.
    """
    file = tree / CARD
    if not file.exists():
        return dict(published)
    try:
        counts = counts_of(parse_json(read_text(file), str(file)))
        if counts.keys() == published.keys() and all(type(count) is int for count in counts.values()):
            return counts
        reason = f"expected whole numbers for {', '.join(published)}"
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DataError(f"{file}: cannot read the stand-in's counts: {reason}; render it again into another folder")
