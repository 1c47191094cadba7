"""Print the scores of three losses on the AT&T faces, over five splits of the people.

    reidbench run faces --device cpu --threads 1 --executor "local(workers=2)"
    python benchmarks/studies/faces.py

Reads the runs of the suite ``faces`` from the results folder. A row is a loss: the mean of MAP@R over the splits and
the standard deviation over them; the score of a split is the mean over its seeds. Differences are paired by split, with
Student's t interval over the five; splits share people, so they are not independent and the intervals are too narrow.
"""

from __future__ import annotations

import itertools

import numpy as np
from scaled_runs import SEEDS, Difference, Floats, Request, Runs, mean_and_sd_text
from scipy.stats import ttest_rel

from reidbench.runs.suite import find_suite, load_suite

SUITE = "faces"
SCORE = "map_at_r"  # Recall@1 is nearly saturated on these data
METRICS = ("euclidean", "cosine")


def scores_of_splits(runs: Runs, loss: str, metric: str) -> Floats:
    """Return the mean over the seeds of MAP@R, for each split: [splits]."""
    jobs = load_suite(find_suite(SUITE)).jobs
    protocols = dict.fromkeys(str(job.protocol) for job in jobs)
    first = jobs[0]
    means = []
    for protocol in protocols:
        request = Request(loss, protocol, str(first.recipe), metric, backbone=str(first.backbone))
        means.append(np.mean([each.scores[SCORE] for each in runs.records(request)]))
    return np.array(means)


def main() -> None:
    """Print the scores, then the differences between the trained losses."""
    runs = Runs(None, seeds=SEEDS)
    losses = list(dict.fromkeys(str(job.loss) for job in load_suite(find_suite(SUITE)).jobs))
    scores = {(loss, metric): scores_of_splits(runs, loss, metric) for loss in losses for metric in METRICS}
    print(f"| loss | {' | '.join(METRICS)} |\n|---{'|---' * len(METRICS)}|")
    for loss in losses:
        print(f"| `{loss}` | {' | '.join(mean_and_sd_text(scores[loss, metric]) for metric in METRICS)} |")
    print(f"\n| difference | {' | '.join(METRICS)} |\n|---{'|---' * len(METRICS)}|")
    for a, b in itertools.combinations([loss for loss in losses if loss != "none"], 2):
        texts = []
        for metric in METRICS:
            test = ttest_rel(scores[a, metric], scores[b, metric])
            gap, (low, high) = np.mean(scores[a, metric] - scores[b, metric]), test.confidence_interval()
            texts.append(str(Difference(100 * float(gap), 100 * float(low), 100 * float(high))))
        print(f"| `{a}` - `{b}` | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
