"""Do the first eight losses of the study ``losses`` keep their order when they train four times as long?

    python benchmarks/longer_training.py suite > leaderboards/losses_800.toml
    reidbench run losses_800 --device cpu --threads 1 --executor "local(workers=2)"
    python benchmarks/longer_training.py compare

``suite`` prints a suite: each loss with the options and the metric that its searches chose at 200 steps, with the seed
of each search, at 800 steps. ``compare`` reads the runs of both lengths, from the results folder and from the published
study, and prints the means and Kendall's tau between the orders by mean. Options that were chosen at 200 steps need not
suit 800.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from planned_differences import mean_and_sd
from scaled_runs import Scores, holm, pairs_of
from scipy.stats import kendalltau

import reidbench
from reidbench.ranking.rankings import read_ranking
from reidbench.ranking.scores import named_score
from reidbench.reports.compare_runs import identities_of
from reidbench.runs.suite import find_suite, load_suite
from reidbench.studies.comparison import ALPHA
from reidbench.studies.study import LossResult, StudyResult

STUDY = Path(__file__).parents[1] / "leaderboards" / "studies" / "losses"
SUITE = "losses_800"
LOSSES, STEPS = 8, 800
HEAD = f"""\
# The first eight losses of the study losses at four times the steps: does their order change?
#
#     reidbench run {SUITE} --device cpu --threads 1 --executor "local(workers=2)"
#
# Each has the options and the metric that its searches chose at 200 steps, with the seed of each search: 40 trainings,
# about 1.5 core-hours; no download. Printed by benchmarks/longer_training.py; docs/losses/index.md has the result.

protocol = "synthetic"
backbone = "tiny"
"""


def first_losses(result: StudyResult) -> list[LossResult]:
    """Return the results of the first losses of the study that are trained."""
    return [each for each in result.losses if each.trials][:LOSSES]


def suite() -> None:
    """Print the suite."""
    print(HEAD, end="")
    for each in first_losses(reidbench.study(STUDY)):
        for trial in each.winners:
            recipe = trial.recipe_text.replace("steps=200", f"steps={STEPS}")
            print(f"\n[[job]] # {each.loss}, search {trial.search}")
            for kind, text in (("loss", trial.loss_text), ("recipe", recipe), ("metric", trial.metric)):
                print(f"{kind} = {json.dumps(text)}")
            print(f"seed = {trial.search}")


def scores_of(folders: Iterable[Path]) -> Scores:
    """Return the mAP of each query in some run folders, one for each seed."""
    rankings = [read_ranking(folder) for folder in folders]
    values = np.array([named_score("map_market").per_query(ranking) for ranking in rankings])
    return Scores(values, identities_of(rankings[0]))


def compare() -> None:
    """Print the means at both lengths, the pairs whose order changes, and Kendall's tau."""
    losses = first_losses(reidbench.study(STUDY))
    names = [each.loss for each in losses]
    before = {each.loss: scores_of(final.folder for final in each.finals) for each in losses}
    stored = reidbench.records(SUITE)
    folders = {record.job: folder for folder, record in zip(stored.folders, stored, strict=True)}
    of_suite = [folders[job] for job in load_suite(find_suite(SUITE)).jobs]
    seeds = len(of_suite) // LOSSES
    after = {name: scores_of(of_suite[place * seeds :][:seeds]) for place, name in enumerate(names)}

    by_length = (before, after)
    places = [sorted(names, key=lambda name: -scores[name].mean) for scores in by_length]
    print("| loss | 200 steps | 800 steps | place after 200 | after 800 |\n|---|---|---|---|---|")
    for name in places[1]:
        texts = [mean_and_sd(scores[name]) for scores in by_length]
        print(f"| `{name}` | {' | '.join(texts)} | {' | '.join(str(1 + order.index(name)) for order in places)} |")
    tau = kendalltau(*([scores[name].mean for name in names] for scores in by_length)).statistic

    verdicts, pairs = [], list(itertools.combinations(names, 2))
    for scores in by_length:
        compared = pairs_of(scores)
        adjusted = holm([compared[pair][0].p for pair in pairs])
        verdicts.append([p <= ALPHA for p in adjusted])
    changed = [n for n, (a, b) in enumerate(pairs) if len({s[a].mean > s[b].mean for s in by_length}) == 2]
    print(f"\n{len(changed)} of {len(pairs)} pairs change their order by mean: Kendall's tau {tau:.2f}.")
    for number in changed:
        apart = ["told apart" if each[number] else "not told apart" for each in verdicts]
        print(f"{' and '.join(pairs[number])}: {apart[0]} after 200 steps, {apart[1]} after {STEPS}")
    print(f"told apart (Holm over {len(pairs)}): {sum(verdicts[0])} after 200 steps, {sum(verdicts[1])} after {STEPS}")


if __name__ == "__main__":
    {"suite": suite, "compare": compare}[sys.argv[1]]()
