"""Do the first eight losses of the study ``losses`` keep their order when they train four times as long?

    python benchmarks/studies/longer_training.py suite > leaderboards/losses_800.toml
    reidbench run losses_800 --device cpu --threads 1 --executor "local(workers=2)"
    python benchmarks/studies/longer_training.py compare

``suite`` prints a suite: each loss with the options and the metric that its searches chose at 200 steps, with the seed
of each search, at 800 steps. ``compare`` reads the runs of both lengths, from the results folder and from the published
study, and prints the means and Kendall's tau between the orders by mean. Options that were chosen at 200 steps need not
suit 800.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from scaled_runs import OPEN, Difference, mean_and_sd_text, pairs_of, read_scores, run_script
from scipy.stats import kendalltau

import reidbench
from reidbench.runs.suite import find_suite, load_suite
from reidbench.studies.comparison import with_holm
from reidbench.studies.study import LossResult, StudyResult

STUDY = Path(__file__).parents[2] / "leaderboards" / "studies" / "losses"
SUITE = "losses_800"
LOSSES, STEPS = 8, 800
HEAD = f"""\
# The first eight losses of the study losses at four times the steps: does their order change?
#
#     reidbench run {SUITE} --device cpu --threads 1 --executor "local(workers=2)"
#
# Each has the options and the metric that its searches chose at 200 steps, with the seed of each search: 40 trainings,
# about 0.8 core-hours; no download. benchmarks/studies/longer_training.py prints this file and compares the lengths.
# docs/losses/index.md has the result.

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
            if "steps=200" not in trial.recipe_text:
                raise ValueError(f"{trial.recipe_text}: expected steps=200")
            recipe = trial.recipe_text.replace("steps=200", f"steps={STEPS}")
            print(f"\n[[job]] # {each.loss}, search {trial.search}")
            for kind, text in (("loss", trial.loss_text), ("recipe", recipe), ("metric", trial.metric)):
                print(f"{kind} = {json.dumps(text)}")
            print(f"seed = {trial.search}")


def compare() -> None:
    """Print the means at both lengths, the pairs whose order changes, and Kendall's tau."""
    losses = first_losses(reidbench.study(STUDY))
    names = [each.loss for each in losses]
    before = {each.loss: read_scores([(final.folder, final.record) for final in each.finals]) for each in losses}
    records, jobs = reidbench.records(SUITE), load_suite(find_suite(SUITE)).jobs
    runs = {record.job: (folder, record) for folder, record in zip(records.folders, records, strict=True)}
    if missing := [job for job in jobs if job not in runs]:
        raise SystemExit(f"{len(missing)} of {len(jobs)} runs are missing: reidbench run {SUITE}")
    seeds = len(jobs) // LOSSES
    of_losses = [[runs[job] for job in jobs[first : first + seeds]] for first in range(0, len(jobs), seeds)]
    after = {name: read_scores(of_loss) for name, of_loss in zip(names, of_losses, strict=True)}

    by_length = (before, after)
    places = [sorted(names, key=lambda name: -scores[name].mean) for scores in by_length]
    print("| loss | 200 steps | 800 steps | place after 200 | after 800 |\n|---|---|---|---|---|")
    for name in places[1]:
        texts = [mean_and_sd_text(scores[name].values.mean(axis=1)) for scores in by_length]
        print(f"| `{name}` | {' | '.join(texts)} | {' | '.join(str(1 + order.index(name)) for order in places)} |")
    tau = kendalltau(*([scores[name].mean for name in names] for scores in by_length)).statistic

    pairs = list(itertools.combinations(names, 2))
    families = []
    for scores in by_length:
        by_names = pairs_of(scores)
        families.append(with_holm([by_names[pair][0] for pair in pairs]))
    reversals = [n for n, (a, b) in enumerate(pairs) if len({s[a].mean > s[b].mean for s in by_length}) == 2]
    print(f"\n{len(reversals)} of {len(pairs)} pairs change their order by mean: Kendall's tau {tau:.2f}.")
    for number in reversals:
        verdicts = [family[number].verdict for family in families]
        print(f"{' and '.join(pairs[number])}: {verdicts[0]} after 200 steps, {verdicts[1]} after {STEPS}")
    apart = [{number for number, pair in enumerate(family) if pair.verdict != OPEN} for family in families]
    counts = f"{len(apart[0])} after 200 steps, {len(apart[1])} after {STEPS}, {len(apart[0] & apart[1])} after both"
    print(f"told apart (Holm over {len(pairs)}): {counts}")
    for steps, family, own, other in zip((200, STEPS), families, apart, reversed(apart), strict=True):
        print(f"after {steps} steps only:")
        for number in sorted(own - other):
            print(f"    {family[number].a} - {family[number].b}: {Difference.of(family[number])}")


if __name__ == "__main__":
    parts = {"suite": suite, "compare": compare}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    run_script(parts[parser.parse_args().part])
