"""Print the scores of three losses on the AT&T faces, over five splits of the people.

    reidbench run faces --device cpu --threads 1 --executor "local(workers=2)"
    python benchmarks/studies/faces.py

Reads the runs of the suite ``faces`` from the results folder. A row is a loss: the mean of a score over the splits and
the standard deviation over them; the score of a split is the mean over its seeds. Differences of MAP@R are paired by
split. Their intervals are Student's over the five, with the variance of Nadeau and Bengio (2003, "Inference for the
Generalization Error", corrected resampled t-test) for splits that share people: 1/5 + 20/20 in place of 1/5.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from scaled_runs import SEEDS, Difference, Floats, Request, Runs, mean_and_sd_text, run_script
from scipy.special import stdtrit

import reidbench
from reidbench.runs.suite import find_suite, load_suite

SUITE = "faces"
SCORES = {"map_at_r": "MAP@R", "recall_at_1": "Recall@1"}
METRICS = ("euclidean", "cosine")
TRAINED, TESTED = 20, 20  # people of a split


def scores_of_splits(runs: Runs, loss: str, metric: str, score: str) -> Floats:
    """Return the mean of a score over the seeds, for each split: [splits]."""
    jobs = load_suite(find_suite(SUITE)).jobs
    protocols = dict.fromkeys(str(job.protocol) for job in jobs)
    first = jobs[0]
    means = []
    for protocol in protocols:
        request = Request(loss, protocol, str(first.recipe), metric, backbone=str(first.backbone))
        means.append(np.mean([each.scores[score] for each in runs.records(request)]))
    return np.array(means)


def corrected_interval(gains: Floats) -> Difference:
    """Return the mean of the differences of the splits, in points, with its 95 % interval."""
    gap, splits = float(gains.mean()), len(gains)
    variance = float(gains.var(ddof=1)) * (1 / splits + TESTED / TRAINED)
    half = float(stdtrit(splits - 1, 0.975)) * variance**0.5
    return Difference(*(100 * end for end in (gap, gap - half, gap + half)))


def main() -> None:
    """Print the scores, then the differences between the losses."""
    reidbench.records(SUITE)  # where there are none, its error names the command
    runs = Runs(None, seeds=SEEDS)
    losses = list(dict.fromkeys(str(job.loss) for job in load_suite(find_suite(SUITE)).jobs))
    scores = {
        (loss, score, metric): scores_of_splits(runs, loss, metric, score)
        for loss, score, metric in itertools.product(losses, SCORES, METRICS)
    }
    columns = list(itertools.product(SCORES, METRICS))
    print(f"| loss | {' | '.join(f'{SCORES[score]}, {metric}' for score, metric in columns)} |")
    print(f"|---{'|---' * len(columns)}|")
    for loss in losses:
        print(f"| `{loss}` | {' | '.join(mean_and_sd_text(scores[loss, *column]) for column in columns)} |")
    print(f"\n| difference of MAP@R | {' | '.join(METRICS)} |\n|---{'|---' * len(METRICS)}|")
    for a, b in itertools.combinations(losses, 2):
        gains = [scores[b, "map_at_r", metric] - scores[a, "map_at_r", metric] for metric in METRICS]
        print(f"| `{b}` - `{a}` | {' | '.join(str(corrected_interval(each)) for each in gains)} |")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    run_script(main)
