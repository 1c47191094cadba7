"""The rules of ``leaderboards/paper/claims.toml`` on training logs, each a function named like its claim.

Trainings of 1,000 steps correspond to Figures 6 (margin 0.2) and 7 (soft margin). Each number is of one seed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from claims_of_suite import NORMALISED, STEPS_AND_SUITE, synthetic
from claims_of_table1 import batch_all_nonzero_helps, table1
from scaled_runs import (
    STEPS,
    SUITE,
    TABLE1,
    Floats,
    Judgement,
    Log,
    Runs,
    at_end,
    difference,
    every,
    join,
    means_of_five,
    over_seeds,
    part,
    rule,
)

MARGIN = synthetic("batch_hard(margin=0.2)", seeds=2)
SOFT = synthetic("batch_hard")
LN_2 = float(np.log(2))


def join_numbers(values: Iterable[float]) -> str:
    """Return numbers as text, one for each seed."""
    return join(f"{value:.3g}" for value in values)


def growth(log: Log, column: str) -> float:
    """Return a column's value at the end as a share of that from 45 to 50 % of the steps."""
    return at_end(log[column]) / part(log[column], 45, 50)


@rule
def one_cluster_not_one_point(runs: Runs) -> Judgement:
    logs = runs.logs(MARGIN)
    positive, negative, typical = (
        [at_end(log[name]) for log in logs] for name in ("hardest_positive", "hardest_negative", "distance_50")
    )
    verdict = over_seeds(p < n and p > t / 10 for p, n, t in zip(positive, negative, typical, strict=True))
    measured = f"at the end hardest_positive {join_numbers(positive)}, hardest_negative {join_numbers(negative)}, "
    return verdict, f"{measured}distance_50 {join_numbers(typical)}", SUITE


@rule
def random_triplets_become_trivial(runs: Runs) -> Judgement:
    random, hard = (
        [part(log["active"], 45, 50) for log in runs.logs(table1(f"{loss}(margin=0.1)"))]
        for loss in ("triplet", "batch_hard")
    )
    verdict = over_seeds(a < 0.5 and a < b for a, b in zip(random, hard, strict=True))
    return verdict, f"active from 45 to 50 %: triplet {join_numbers(random)}, batch_hard {join_numbers(hard)}", TABLE1


@rule
def batch_all_terms_vanish(runs: Runs) -> Judgement:
    active = [at_end(log["active"]) for log in runs.logs(table1("batch_all(margin=0.2)"))]
    helps, *_ = batch_all_nonzero_helps(runs)
    measured = f"active at the end {join_numbers(active)}; batch_all_nonzero_helps: {helps}"
    return every([over_seeds(share < 0.5 for share in active), helps]), measured, TABLE1


@rule
def normalising_hides_collapse(runs: Runs) -> Judgement:
    factors = [at_end(log["norm_50"]) / part(log["norm_50"], 0, 10) for log in runs.logs(table1(NORMALISED))]
    verdict = over_seeds(max(factor, 1 / factor) >= 2 for factor in factors)
    return verdict, f"norm_50 at the end is {join_numbers(factors)} times that of the first tenth", SUITE


def fall(values: Floats, first: tuple[int, int], then: tuple[int, int]) -> float:
    """Return by what share of itself a column's mean falls between two parts of its rows, in percent of them."""
    before = part(values, *first)
    return 1 - part(values, *then) / before if before else 0.0


@rule
def flat_loss_is_not_flat_progress(runs: Runs) -> Judgement:
    """Each fifth begins at a multiple of a tenth, the first of them after the first tenth of the steps."""
    truths, counts = [], []
    for log in runs.logs(MARGIN):
        falls = []
        for begin in range(10, 90, 10):
            steps = slice(len(log["loss"]) * begin // 100, len(log["loss"]) * (begin + 20) // 100)
            falls.append([fall(log[column][steps], (0, 25), (75, 100)) for column in ("loss", "active")])
        flat = [each for each in falls if each[0] < 0.05 and each[1] >= 0.05]
        truths.append(bool(flat))
        counts.append(f"{len(flat)} of {len(falls)}")
    measured = f"fifths where loss falls by less than 5 % and active by more, by seed: {join(counts)}"
    return over_seeds(truths), measured, SUITE


@rule
def first_together_then_apart(runs: Runs) -> Judgement:
    truths, lowest, ends = [], [], []
    for log in [*runs.logs(MARGIN), *runs.logs(SOFT)]:
        means = means_of_five(log["distance_50"])
        lowest.append(means[: len(log["distance_50"]) // 2].min() / means[0])
        ends.append(at_end(log["distance_50"]) / means.min())
        truths.append(lowest[-1] < 0.8 and ends[-1] >= 2)
    measured = f"distance_50, margin 0.2 before soft: falls to {join_numbers(lowest)} of its first value, "
    return over_seeds(truths), f"{measured}ends at {join_numbers(ends)} times its lowest", STEPS_AND_SUITE


@rule
def two_margins_similar_scores(runs: Runs) -> Judgement:
    gain = difference(runs.scores(SOFT), runs.scores(MARGIN))
    soft, margin = ([at_end(log["distance_50"]) for log in runs.logs(request)] for request in (SOFT, MARGIN))
    ratios = [a / b for a, b in zip(soft, margin, strict=False)]  # margin 0.2 has fewer seeds
    verdict = every([gain.within(-3, 3), over_seeds(max(ratio, 1 / ratio) >= 2 for ratio in ratios)])
    measured = f"soft - margin 0.2 {gain}; distance_50 at the end {join_numbers(ratios)} times as large"
    return verdict, measured, STEPS_AND_SUITE


@rule
def soft_margin_keeps_pushing_apart(runs: Runs) -> Judgement:
    distance, loss = ([growth(log, name) for log in runs.logs(SOFT)] for name in ("distance_50", "loss"))
    verdict = over_seeds(d >= 1.1 and change < 1 for d, change in zip(distance, loss, strict=True))
    measured = f"from 45-50 % to the end distance_50 times {join_numbers(distance)}, loss times {join_numbers(loss)}"
    return verdict, measured, STEPS.format(1000)


@rule
def margin_keeps_embeddings_bounded(runs: Runs) -> Judgement:
    logs = runs.logs(MARGIN)
    distance, norm, middle = ([growth(log, name) for log in logs] for name in ("distance_95", "norm_95", "distance_50"))
    soft = [growth(log, "distance_50") for log in runs.logs(SOFT)][: len(logs)]
    verdict = over_seeds(d < 1.1 and n < 1.1 and m < s for d, n, m, s in zip(distance, norm, middle, soft, strict=True))
    measured = f"from 45-50 % to the end distance_95 times {join_numbers(distance)}, norm_95 {join_numbers(norm)}, "
    return verdict, f"{measured}distance_50 {join_numbers(middle)} (soft {join_numbers(soft)})", STEPS_AND_SUITE


@rule
def rate_decay_lowers_the_loss_again(runs: Runs) -> Judgement:
    truths, percentages = [], []
    for request, columns in ((MARGIN, ("loss", "active")), (SOFT, ("loss",))):
        for log in runs.logs(request):
            falls = [(fall(log[name], (55, 60), (70, 75)), fall(log[name], (40, 45), (55, 60))) for name in columns]
            truths.append(all(after > before for after, before in falls))
            percentages.append(" and ".join(f"{100 * before:.0f} then {100 * after:.0f} %" for after, before in falls))
    measured = f"falls before and after the decay, loss and active with margin 0.2, loss with soft: {join(percentages)}"
    return over_seeds(truths), measured, STEPS_AND_SUITE


@rule
def small_network_gets_packed(runs: Runs) -> Judgement:
    truths, norms, distances, stays = [], [], [], []
    for log in runs.logs(SOFT):
        norm, distance = (means_of_five(log[name]) for name in ("norm_50", "distance_50"))
        norms.append(norm.min() / norm[0])
        distances.append(distance.min() / distance[0])
        near = np.abs(log["loss"] - LN_2) <= 0.05
        stays.append(max(map(len, "".join("x" if each else " " for each in near).split()), default=0))
        spread = at_end(log["distance_50"]) > log["distance_50"][0]
        truths.append(norms[-1] < 0.5 and distances[-1] < 0.5 and stays[-1] >= 10 and bool(spread))
    measured = f"norm_50 falls to {join_numbers(norms)}, distance_50 to {join_numbers(distances)} of the first"
    return over_seeds(truths), f"{measured}; loss near ln 2 for {join(stays)} steps", STEPS.format(1000)


@rule
def soft_margin_terms_vanish(runs: Runs) -> Judgement:
    lowest = [float(log["active"].min()) for log in runs.logs(SOFT)]
    return over_seeds(share < 1 for share in lowest), f"lowest active {join_numbers(lowest)}", STEPS.format(1000)
