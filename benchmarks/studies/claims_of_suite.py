"""The rules of ``leaderboards/paper/claims.toml`` on scores beside Table 1, each a function named like its claim.

Views, metrics, pooling and re-ranking are differences between scores of the same trainings: their intervals are paired
by training.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from claims_of_table1 import table1
from scaled_runs import (
    FAILS,
    HOLDS,
    OPEN,
    STEPS,
    SUITE,
    TABLE1,
    Difference,
    Floats,
    Judgement,
    MissingRunsError,
    Request,
    Runs,
    Scores,
    decide,
    difference,
    every,
    join,
    rule,
    same_trainings,
)

synthetic = partial(Request, protocol="synthetic", recipe="quick(steps=1000)")
STEPS_AND_SUITE = f"{STEPS.format(1000)}\n{SUITE}"
NORMALISED = "pml/TripletMarginLoss(margin=0.2, miner=BatchHardMiner, reducer=MeanReducer)"
ADADELTA, TRIPLETS = "ide(steps=300)", "hermans2017(steps=300, p=18, k=4)"


def no_gain(gains: dict[str, Difference]) -> str:
    """Return the verdict of "ends below 1 point" for each gain, against "gains by an interval without 0" for one."""
    return decide(all(gain.high < 1 for gain in gains.values()), any(gain.low > 0 for gain in gains.values()))


def named_gains(gains: dict[str, Difference]) -> str:
    """Return gains behind their names."""
    return join(f"{name} {gain}" for name, gain in gains.items())


# Metrics, re-ranking and other losses.


@rule
def metric_learning_is_obsolete(runs: Runs) -> Judgement:
    euclidean = runs.scores(synthetic("batch_hard"))
    metrics = ("xqda", "kissme")
    gains = {each: same_trainings(runs.scores(synthetic("batch_hard", metric=each)), euclidean) for each in metrics}
    return no_gain(gains), f"against euclidean: {named_gains(gains)}", STEPS_AND_SUITE


@rule
def reranking_gains_as_published(runs: Runs) -> Judgement:
    before, after = synthetic("batch_hard"), synthetic("batch_hard", rerank="k_reciprocal")
    scores = {"mAP": "map_market", "rank-1": "r1", "rank-5": "r5"}
    gains = {
        label: same_trainings(runs.scores(after, name), runs.scores(before, name)) for label, name in scores.items()
    }
    return every(gains[label].verdict for label in ("mAP", "rank-1")), named_gains(gains), STEPS_AND_SUITE


@rule
def pull_term_does_not_help(runs: Runs) -> Judgement:
    pulled, plain = table1("improved_triplet(beta=0.1)"), table1("triplet(margin=1.0)")
    gains = {"weight 0.1": difference(runs.scores(pulled), runs.scores(plain))}
    return no_gain(gains), f"{named_gains(gains)}; no other weight was run", f"{TABLE1}\n{SUITE}"


@rule
def normalising_is_not_necessary(runs: Runs) -> Judgement:
    plain = runs.scores(table1("batch_hard(margin=0.2)"))
    metrics = ("euclidean", "cosine")
    gains = {each: difference(runs.scores(table1(NORMALISED, metric=each)), plain) for each in metrics}
    return no_gain(gains), f"against batch_hard(margin=0.2), under {named_gains(gains)}", f"{TABLE1}\n{SUITE}"


@rule
def triplet_beats_classification(runs: Runs) -> Judgement:
    gains, commands, missing = {}, [], []
    for steps in (3000, 1000, 300):
        at = partial(synthetic, recipe=f"quick(steps={steps})")
        try:
            losses = runs.scores(at("batch_hard")), runs.scores(at("classification", metric="xqda"))
        except MissingRunsError as error:
            missing.append(error)
            continue
        gains[f"after {steps:,} steps"] = difference(*losses)
        commands += [STEPS.format(steps), STEPS.format(f"{steps}_xqda")]
    if not gains:
        raise missing[0]
    return next(iter(gains.values())).verdict, named_gains(gains), "\n".join(commands)


# Test-time views.


def views(runs: Runs, loss: str, name: str) -> Scores:
    """Return the mAP of a loss with some test-time views."""
    return runs.scores(synthetic(loss, protocol="synthetic" if name == "center_flip" else f"synthetic(views={name})"))


def view_gain(runs: Runs, more: str, fewer: str) -> Difference:
    """Return what batch hard gains from other views."""
    return same_trainings(views(runs, "batch_hard", more), views(runs, "batch_hard", fewer))


@rule
def test_time_views_gain_3_percent(runs: Runs) -> Judgement:
    gain = view_gain(runs, "five_crops_flip", "center")
    return gain.within(1.5, 4.5), f"five_crops_flip - center {gain}", STEPS_AND_SUITE


@rule
def whole_image_is_the_worst_view(runs: Runs) -> Judgement:
    names = ("original", "center", "center_flip", "five_crops", "five_crops_flip")
    means = join(f"{name} {views(runs, 'batch_hard', name).mean:.2f}" for name in names)
    gain = view_gain(runs, "center", "original")
    above = [view_gain(runs, more, fewer).plain for place, fewer in enumerate(names[:2]) for more in names[place + 1 :]]
    return every([gain.verdict, *above]), f"{means}; center - original {gain}", STEPS_AND_SUITE


@rule
def flip_is_a_big_boost(runs: Runs) -> Judgement:
    center, flip, ten = (views(runs, "batch_hard", name) for name in ("center", "center_flip", "five_crops_flip"))
    gain, half = same_trainings(flip, center), ten.minus(center).times(0.5)
    verdict = every([gain.verdict, same_trainings(flip.minus(center), half).plain])
    return verdict, f"center_flip - center {gain}, ten views - center {ten.mean - center.mean:+.2f}", STEPS_AND_SUITE


@rule
def corners_help_less_than_flip(runs: Runs) -> Judgement:
    gain = view_gain(runs, "center_flip", "five_crops")
    return gain.verdict, f"center_flip - five_crops {gain}", STEPS_AND_SUITE


@rule
def both_augmentations_are_best(runs: Runs) -> Judgement:
    gain = view_gain(runs, "five_crops_flip", "center_flip")
    return gain.verdict, f"five_crops_flip - center_flip {gain}", STEPS_AND_SUITE


@rule
def views_help_triplets_more(runs: Runs) -> Judgement:
    losses = ("batch_hard", "classification")
    gains = [views(runs, loss, "five_crops_flip").minus(views(runs, loss, "center")) for loss in losses]
    both = join(f"{loss} {gain.mean:+.2f}" for loss, gain in zip(losses, gains, strict=True))
    more = difference(*gains)
    return more.verdict, f"five_crops_flip - center: {both}, difference {more}", STEPS_AND_SUITE


# Pooling and distractors.


def pooling(runs: Runs, loss: str, recipe: str, metric: str, order: tuple[str, str]) -> Difference:
    """Return the gain of one way of pooling a multi-query over the other."""
    protocols = [f"market1501_multiquery(views=center, pool={pool})" for pool in order]
    return same_trainings(*(runs.scores(Request(loss, protocol, recipe, metric)) for protocol in protocols))


@rule
def mean_pooling_for_triplets(runs: Runs) -> Judgement:
    gain = pooling(runs, "batch_hard", TRIPLETS, "euclidean", ("mean", "max"))
    return gain.verdict, f"mean - max {gain}", SUITE


@rule
def max_pooling_for_classification(runs: Runs) -> Judgement:
    xqda, euclidean = (
        pooling(runs, "classification", ADADELTA, metric, ("max", "mean")) for metric in ("xqda", "euclidean")
    )
    return xqda.verdict, f"max - mean under xqda {xqda}, under euclidean {euclidean}", SUITE


@rule
def distractors_hurt_all_alike(runs: Runs) -> Judgement:
    models = (("batch_hard", TRIPLETS, "euclidean"), *(("classification", ADADELTA, m) for m in ("xqda", "euclidean")))
    losses = {}
    for loss, recipe, metric in models:
        protocols = [f"market1501_500k(views=center, distractors={number})" for number in (0, 10_000)]
        none, most = (runs.scores(Request(loss, protocol, recipe, metric)).mean for protocol in protocols)
        losses[f"{loss} under {metric}"] = (none, most, 1 - most / none)
    shares = [share for _, _, share in losses.values()]
    alike = max(shares) <= 1.25 * min(shares)
    each = join(
        f"{name} {none:.2f} to {most:.2f}, by {100 * share:.1f} %" for name, (none, most, share) in losses.items()
    )
    return decide(alike, not alike), f"with 10,000 distractors {each}", SUITE


# Spikes of the classification loss.


def spikes(runs: Runs, recipe: str) -> list[int]:
    """Return the number of spikes of each seed.

    A spike is a step after the first tenth whose loss exceeds the median of the 25 before by ln(identities) / 4.
    """
    request = Request("classification", "market1501_500k(views=center, distractors=0)", recipe)
    counts = []
    for record, log in zip(runs.records(request), runs.logs(request), strict=True):
        loss: Floats = log["loss"]
        limit = np.log(record.dataset.counts["train_identities"]) / 4
        steps = range(max(25, len(loss) // 10), len(loss))
        counts.append(sum(bool(loss[step] - np.median(loss[step - 25 : step]) > limit) for step in steps))
    return counts


def has_spikes(counts: list[int]) -> str:
    """Return the verdict of "two of three seeds have a spike", against "none has"."""
    seeds = sum(count > 0 for count in counts)
    return decide(3 * seeds >= 2 * len(counts), not seeds)


@rule
def classification_spikes_with_adam(runs: Runs) -> Judgement:
    counts = spikes(runs, "hermans2017(steps=300, p=72, k=1)")
    return has_spikes(counts), f"spikes by seed: {join(counts)}, of 270 steps", SUITE


@rule
def adadelta_has_no_spikes(runs: Runs) -> Judgement:
    adam, adadelta = spikes(runs, "hermans2017(steps=300, p=72, k=1)"), spikes(runs, ADADELTA)
    none = {HOLDS: FAILS, FAILS: HOLDS}.get(has_spikes(adadelta), OPEN)
    adam_has = HOLDS if has_spikes(adam) == HOLDS else OPEN  # without spikes of Adam there is nothing to compare with
    return every([none, adam_has]), f"spikes by seed: Adadelta {join(adadelta)}, Adam {join(adam)}", SUITE
