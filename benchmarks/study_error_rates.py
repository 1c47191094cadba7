"""How often a study calls equal losses different, misses the best, and finds one that is better, on simulated studies.

Run: python benchmarks/study_error_rates.py [--studies 1000] [--searched 400]; a few minutes on one core.
The average precision of a query is the standard normal distribution function of a sum of effects: the loss (and its
options), the seed, and for identities and queries a common part, one of the loss and one of the single training. Their
standard deviations fit trainings on the synthetic data set: mean AP 0.48, seed effects of 1.1 points give scores with
a standard deviation of 1.25 points over 150 identities. In a searched study every search has 20 random trials of two
options, a quadratic response that spans 5 or 15 points, the same for all losses, and validation scores with a noise of
1.5.
Required: at most 5.5 % false alarms among three equal losses, at most 5 % elsewhere.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from reidbench.studies.comparison import Comparison, compare

FloatArray = NDArray[np.float64]
# Standard deviations of (identity, query) effects, on the scale of the normal distribution.
COMMON, OF_LOSS, OF_TRAINING = (0.559, 0.481), (0.127, 0.152), (0.141, 0.340)
LEVEL = -0.0657
POINT = 0.01 / 0.304  # one point of mAP on that scale
NOISE = 1.5  # points, of a validation score


@dataclass(frozen=True)
class Design:
    """One kind of study: its size, and what is true in it; sd and gap in points of mAP.

    ``gap``: by how much the first loss is better than all others.
    ``trials``: of each search; 0 for a study without.
    ``searches``: of each loss, as many as seeds or 1.
    ``span``: by how many points the worst options are worse than the best.
    """

    losses: int
    seeds: int
    identities: int
    sd: float
    gap: float = 0.0
    trials: int = 0
    searches: int = 1
    span: float = 0.0


def average_precisions(design: Design, random: np.random.Generator) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return average precisions [losses, seeds, queries] of one study, and the queries' identities [queries]."""
    counts = random.integers(3, 7, design.identities)
    pids = np.repeat(np.arange(design.identities), counts)

    def effects(sds: tuple[float, float], *shape: int) -> FloatArray:
        return (
            sds[0] * random.standard_normal((*shape, design.identities))[..., pids]
            + sds[1] * random.standard_normal((*shape, len(pids)))
        )  # fmt: skip

    level = design.sd * random.standard_normal((design.losses, design.seeds))
    level[0] += design.gap
    if design.trials:
        options = random.uniform(-1, 1, (design.losses, design.searches, design.trials, 2))
        response = -design.span / 2 * (options**2).sum(axis=-1)
        chosen = (response + NOISE * random.standard_normal(response.shape)).argmax(axis=-1)
        level = level + np.take_along_axis(response, chosen[..., None], axis=-1)[..., 0]
    eta = LEVEL + POINT * level[..., None] + effects(COMMON) + effects(OF_LOSS, design.losses, 1)
    return ndtr(eta + effects(OF_TRAINING, design.losses, design.seeds)), pids


def comparisons(design: Design, studies: int, seed: int = 0) -> list[Comparison]:
    """Return the comparisons of simulated studies; the losses' names are 0, 1, ..."""
    random = np.random.default_rng(seed)
    compared = []
    for _ in range(studies):
        values, pids = average_precisions(design, random)
        compared.append(compare({str(loss): ap for loss, ap in enumerate(values)}, pids))
    return compared


def false_alarms(compared: list[Comparison]) -> float:
    """Return the share of studies whose matrix calls any two losses different."""
    return float(np.mean([any(pair.verdict != "not told apart" for pair in each.pairs) for each in compared]))


def missing(compared: list[Comparison]) -> float:
    """Return the share of studies in which loss 0 is not in the set that may be the best."""
    return float(np.mean([not loss.may_be_best for each in compared for loss in each.losses if loss.name == "0"]))


def power(compared: list[Comparison]) -> float:
    """Return the share of studies whose matrix tells that loss 0 is better than loss 1."""
    verdicts = [
        pair.verdict == ("better" if pair.a == "0" else "worse")
        for each in compared
        for pair in each.pairs
        if {pair.a, pair.b} == {"0", "1"}
    ]
    return float(np.mean(verdicts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1_000, help="of each row without a search")
    parser.add_argument("--searched", type=int, default=400, help="of each row with searches")
    arguments = parser.parse_args()
    print(f"{'study':58}{'false alarms':>14}{'0 missing':>11}{'0 better than 1':>17}   %")

    def line(text: str, design: Design, studies: int) -> None:
        compared = comparisons(design, studies)
        cells = [f"{100 * false_alarms(compared):.1f}", f"{100 * missing(compared):.1f}", "–"]
        if design.gap:
            cells = ["–", cells[1], f"{100 * power(compared):.1f}"]
        print(f"{text:58}{cells[0]:>14}{cells[1]:>11}{cells[2]:>17}", flush=True)

    for seeds in (2, 3, 5):
        for gap in (0, 3, 5):
            text = f"3 losses, {seeds} seeds, 150 identities, " + (f"0 better by {gap}" if gap else "equal")
            line(text, Design(3, seeds, 150, 1.1, gap), arguments.studies)
    line("33 losses, 3 seeds, 100 identities, sd 2.5, equal", Design(33, 3, 100, 2.5), max(arguments.studies // 5, 1))
    for span, seeds in product((5, 15), (3, 5)):
        for searches in (seeds, 1):
            kind = "a search each" if searches > 1 else "one search"
            text = f"10 losses, {seeds} seeds, {kind}, 20 trials over {span} points"
            line(text, Design(10, seeds, 150, 1.1, 0, 20, searches, span), arguments.searched)


if __name__ == "__main__":
    main()
