"""Shared by datasets of classes: both parts by class, each test image a query in a gallery of all, and Recall@K."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from reidbench import DataError, Protocol, Samples, Split, read_text
from reidbench_datasets.dataset_trees import check_holdout, checked_split

SELF = ("self",)  # each query leaves its own ranking, and nothing else does
RANKS = (1, 2, 4, 8)


def class_parts(tree: Path, *parts: Sequence[tuple[str, int]]) -> list[Samples]:
    """Return parts of images, given as path and class; each image has a camera of its own, since theirs are unknown."""
    ends = accumulate(map(len, parts), initial=0)
    return [
        Samples.of_images(tree, (path for path, _ in part), (label for _, label in part), range(*cameras))
        for part, cameras in zip(parts, pairwise(ends), strict=True)
    ]


def class_split(
    dataset: str, parts: tuple[Samples, Samples, Samples], published: Mapping[str, int], holdout: float, seed: int
) -> Split:
    """Return the split of training images, queries and gallery, or of held-out training classes.

    Raises as ``checked_split``, and OptionError for a fraction outside 0 to 1.
    """
    check_holdout(dataset, holdout)
    return checked_split(parts, published, holdout=holdout, holdout_seed=seed)


def class_protocol(
    dataset: str, views: str, options: Mapping[str, Any], ranks: tuple[int, ...] = RANKS, **fields: Any
) -> Protocol:
    """Return a protocol of a dataset with these options, ranked by Recall@1."""
    text = ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items())
    given = {"recipe": "hermans2017", "exclude": SELF, "defaults": {"height": 224, "width": 224}} | fields
    return Protocol(
        f"{dataset}({text})", version=1, views=views, primary="recall_at_1", recall_at_k=True, ranks=ranks, **given
    )


def listed(file: Path, pattern: str, skip: int = 0) -> list[tuple[str, ...]]:
    """Return the groups of ``pattern`` in each line of a list after the first ``skip`` that is not blank.

    Raises DataError, naming the line, where one does not match as a whole.
    """
    rows = []
    for number, line in enumerate(read_text(file).splitlines()[skip:], start=skip + 1):
        match = re.fullmatch(pattern, line.strip())
        if match:
            rows.append(match.groups())
        elif line.strip():
            raise DataError(f"{file}: line {number}: {line[:80]!r} is not like {pattern}; unpack the archive again")
    return rows
