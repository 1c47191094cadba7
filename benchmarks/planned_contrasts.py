"""Test the differences that were named before the committed studies ran, from their records and rankings.

    python benchmarks/planned_contrasts.py table1
    python benchmarks/planned_contrasts.py steps

``table1``: families of Hermans et al. 2017's Table 1, each the mean over its margins, of the study ``table1``.
``steps``: batch hard under the Euclidean distance against classification under XQDA after 300, 1,000 and 3,000 steps.
Prints the differences in percentage points with their 95 % intervals, each by itself, p values by Holm's procedure over
the differences of one table, and the verdict at 5 %. Formulas: docs/study.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import named_score
from reidbench.reports.compare_runs import identities_of
from reidbench.studies.comparison import ALPHA, Pair, compare
from reidbench.studies.study import read_study

STUDIES = Path(__file__).parents[1] / "leaderboards" / "studies"
MARGINS = ("(margin=0.1{})", "(margin=0.2{})", "(margin=0.5{})", "(margin=1.0{})")

Values = NDArray[np.float64]  # of a loss: [seeds, queries]


def read_values(name: str) -> tuple[dict[str, Values], NDArray[np.int64]]:
    """Return the values of each loss at the options as given in a study, and the identities [queries]."""
    result = read_study(STUDIES / name)
    values, pids = {}, np.array([])
    for each in result.losses:
        rankings = [read_ranking(final.folder) for final in each.defaults]
        score = named_score(each.defaults[0].record.evaluation.primary)
        values[each.loss] = np.array([score.per_query(ranking) for ranking in rankings])
        pids = identities_of(rankings[0])
    return values, pids


def family(values: Mapping[str, Values], loss: str, options: str = "", *, soft: bool = False) -> Values:
    """Return the mean of a loss over its four margins, and over the soft margin too with ``soft``."""
    cells = [loss + margin.format(options) for margin in MARGINS] + [loss] * soft
    return np.mean([values[cell] for cell in cells], axis=0)


def table1() -> None:
    """Print the planned differences of Table 1."""
    values, pids = read_values("table1")
    nonzero = ", average=nonzero"
    families = {
        f"{loss}, 5 margins": family(values, loss, soft=True)
        for loss in ("triplet", "triplet_ohm", "batch_hard", "batch_all")
    } | {
        "batch_hard, 4 margins": family(values, "batch_hard"),
        "batch_hard ≠0": family(values, "batch_hard", nonzero),
        "batch_hard, soft": values["batch_hard"],
        "batch_all, 4 margins": family(values, "batch_all"),
        "batch_all ≠0": family(values, "batch_all", nonzero),
        "lifted_generalized": family(values, "lifted_generalized", ", include_anchor=false"),
        "lifted": family(values, "lifted", ", pairs=triplets, negatives=all"),
    }
    planned = [
        ("batch_hard, 5 margins", "batch_all, 5 margins"),
        ("batch_hard, 5 margins", "triplet, 5 margins"),
        ("batch_all, 5 margins", "triplet, 5 margins"),
        ("batch_all ≠0", "batch_all, 4 margins"),
        ("batch_hard, 4 margins", "batch_hard ≠0"),
        ("lifted_generalized", "lifted"),
        ("batch_hard, soft", "batch_hard, 4 margins"),
        ("triplet_ohm, 5 margins", "triplet, 5 margins"),
    ]
    print_differences(planned, compare(families, pids).pairs)


def steps() -> None:
    """Print the planned differences of the learning curves."""
    rows: list[tuple[str, str]] = []
    pairs: list[Pair] = []
    for number in (300, 1000, 3000):
        euclidean, pids = read_values(f"steps_{number}")
        xqda, _ = read_values(f"steps_{number}_xqda")
        named = {
            f"{loss}, {metric}, {number}": values[loss]
            for metric, values in (("euclidean", euclidean), ("xqda", xqda))
            for loss in ("batch_hard", "classification")
        }
        rows.append((f"batch_hard, euclidean, {number}", f"classification, xqda, {number}"))
        pairs += compare(named, pids).pairs
    print_differences(rows, pairs)


def print_differences(planned: Sequence[tuple[str, str]], pairs: Sequence[Pair]) -> None:
    """Print the planned differences with Holm's p values over them."""
    by_names = {(pair.a, pair.b): (pair, 1) for pair in pairs} | {(pair.b, pair.a): (pair, -1) for pair in pairs}
    chosen = [by_names[names] for names in planned]
    order = np.argsort([pair.p for pair, _ in chosen], kind="stable")
    scaled = [min((len(order) - place) * chosen[number][0].p, 1.0) for place, number in enumerate(order)]
    adjusted = dict(zip(order.tolist(), accumulate(scaled, max), strict=True))
    for number, ((a, b), (pair, sign)) in enumerate(zip(planned, chosen, strict=True)):
        low, high = sorted(100 * sign * end for end in pair.interval)
        difference, p = 100 * sign * pair.difference, adjusted[number]
        verdict = "not told apart" if p > ALPHA else "better" if difference > 0 else "worse"
        print(f"{a} - {b}: {difference:+.2f} points, 95 % {low:+.2f} to {high:+.2f}, p (Holm) {p:.4f}: {verdict}")


if __name__ == "__main__":
    {"table1": table1, "steps": steps}[sys.argv[1]]()
