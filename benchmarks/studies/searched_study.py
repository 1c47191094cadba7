"""Print a published study with searches as its page has it, and draw its picture.

    python benchmarks/studies/searched_study.py losses
    python benchmarks/studies/searched_study.py losses docs/images/losses.png
    python benchmarks/studies/searched_study.py omniglot --other losses

Reads records, ranks and trials in ``leaderboards/studies``. The first tables have the scores of each loss with
searched and with default options, and the study's own verdicts (docs/study.md); the third has what the searches chose;
below them is what the chosen metric alone changes, and the comparison without losses whose seeds vary more than others.
With ``--other`` it prints how far two studies of the same losses agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path

from reidbench_reports.study import spec_values
from reidbench_reports.study_charts import scores as score_chart
from scaled_runs import Difference, join, mean_and_sd_text, read_scores, run_script
from scipy.stats import kendalltau

import reidbench
from reidbench import mean_and_sd, named_score
from reidbench.reports.chart_figures import chart_figure
from reidbench.studies.comparison import ALPHA, Comparison, Pair, compare
from reidbench.studies.page import compare_study
from reidbench.studies.study import NONE, StudyResult

STUDIES = Path(__file__).parents[2] / "leaderboards" / "studies"


def difference(pair: Pair | None) -> str:
    """Return a difference in points with its 95 % interval by itself."""
    return str(Difference.of(pair)) if pair else "–"


def print_scores(result: StudyResult, comparison: Comparison, primary: str) -> None:
    """Print the scores of each loss and what tuning gains, then the differences to the reference."""
    print("| loss | tuned | default | tuned - default | may be the best |\n|---|---|---|---|---|")
    by_loss = {each.loss: each for each in result.losses}
    for each in comparison.losses:
        default = mean_and_sd_text(final.record.scores[primary] for final in by_loss[each.name].defaults)
        tuned = mean_and_sd_text(each.scores) if by_loss[each.name].trials else "–"
        best = each.outside or ("yes" if each.may_be_best else "no")
        print(f"| `{each.name}` | {tuned} | {default} | {difference(comparison.gains.get(each.name))} | {best} |")
    print(f"\n| tuned, minus `{result.study.against}` | difference (95 %, by itself) | p (Holm) | verdict |")
    print("|---|---|---|---|")
    for each in comparison.losses:
        if pair := comparison.against.get(each.name):
            p = "below 0.001" if pair.p_holm < 0.0005 else f"{pair.p_holm:.3f}"
            print(f"| `{each.name}` | {difference(pair)} | {p} | {pair.verdict} |")


def print_choices(result: StudyResult) -> None:
    """Print the values of each searched option, and the metrics, that the searches of a loss chose, in their order."""
    print("\n| loss | option | chosen by the searches |\n|---|---|---|")
    for each in result.losses:
        options = [spec_values(trial) for trial in each.trials]
        for name in dict.fromkeys(name for values in options for name in values):
            if len({str(values.get(name)) for values in options}) > 1:
                chosen = ["as given" if trial.number == 1 else spec_values(trial)[name] for trial in each.winners]
                print(f"| `{each.loss}` | {name} | {join(chosen)} |")
        if each.trials:
            print(f"| `{each.loss}` | metric | {join(trial.metric for trial in each.winners)} |")


def print_gains_by_metric(result: StudyResult, primary: str) -> None:
    """Print validation scores of the options as given by metric, and what the chosen metric alone gains on the test."""
    print()
    for each in result.losses:
        if not each.trials:
            continue
        by_metric = [trial.scores for trial in each.trials if trial.number == 1]
        means = [f"{metric} {100 * mean_and_sd(by[metric] or 0 for by in by_metric)[0]:.1f}" for metric in by_metric[0]]
        print(f"{each.loss}: the options as given, on validation: {join(means)}")
        tuned, default = ({run.record.train_id: run.record for run in runs} for runs in (each.finals, each.defaults))
        same = [key for key in tuned.keys() & default.keys() if tuned[key].id != default[key].id]
        gains = sorted(100 * (tuned[key].scores[primary] - default[key].scores[primary]) for key in same)
        if gains:
            print(f"    the same trainings under the chosen metric: {join(f'{gain:+.2f}' for gain in gains)}")


def print_comparison(name: str, comparison: Comparison) -> None:
    """Print the pooled standard deviation, the losses that may be the best, and the p values against the reference."""
    best = join(each.name for each in comparison.losses if each.may_be_best)
    ps = join(f"{loss} {pair.p_holm:.3f}" for loss, pair in comparison.against.items())
    print(f"\n{name}: pooled sd {100 * comparison.pooled**0.5:.2f}; may be the best: {best}\np (Holm): {ps}")


def without(excluded: Collection[str], result: StudyResult, primary: str) -> Comparison:
    """Return the comparison of a study without some of its losses."""
    trained = [each for each in result.losses if each.loss not in {NONE, *excluded}]
    scores = {
        each.loss: read_scores([(final.folder, final.record) for final in each.finals], primary) for each in trained
    }
    pids = next(iter(scores.values())).pids
    return compare({name: each.values for name, each in scores.items()}, pids, against=result.study.against)


def print_agreement(comparison: Comparison, other: Comparison) -> None:
    """Print Kendall's tau between the means of two studies, and the pairs of losses that both tell apart."""
    means = [{each.name: each.mean for each in study.compared} for study in (comparison, other)]
    tau = kendalltau(*([by_name[name] for name in means[0]] for by_name in means)).statistic
    better = [
        {
            frozenset((pair.a, pair.b)): max(pair.a, pair.b, key=by_name.__getitem__)
            for pair in study.pairs
            if apart(pair)
        }
        for study, by_name in zip((comparison, other), means, strict=True)
    ]
    both = better[0].keys() & better[1].keys()
    same = sum(better[0][pair] == better[1][pair] for pair in both)
    print(f"Kendall's tau between the orders by mean: {tau:.2f}")
    print(f"pairs told apart: {len(better[0])} and {len(better[1])}, {len(both)} in both, {same} of these in one order")


def apart(pair: Pair) -> bool:
    """Return whether a pair is told apart in the matrix of its study."""
    return pair.p_holm is not None and pair.p_holm <= ALPHA


def main(study: str, picture: str | None, other: str | None) -> None:
    """Print the tables of a study, or draw its final seeds and means, or compare it with another study."""
    result = reidbench.study(STUDIES / study)
    comparison, primary = compare_study(result), result.losses[0].finals[0].record.evaluation.primary
    if other:
        print_agreement(comparison, compare_study(reidbench.study(STUDIES / other)))
        return
    if picture:
        figure = chart_figure(score_chart(comparison))
        figure.axes[0].set_xlabel(f"{named_score(primary).label}, %")
        figure.savefig(picture, dpi=150, facecolor="white")
        return
    print_scores(result, comparison, primary)
    print_choices(result)
    print_gains_by_metric(result, primary)
    print_comparison("all", comparison)
    if unstable := [each.name for each in comparison.losses if each.seeds_vary_more]:
        print_comparison(f"without {join(unstable)}", without(unstable, result, primary))
    trials = [trial for each in result.losses for trial in each.trials]
    finals = {record.train_id: sum(record.seconds.values()) for record in result.runs.values()}
    hours = (sum(trial.seconds for trial in trials) + sum(finals.values())) / 3600
    print(f"\n{len(trials)} trials and {len(finals)} trainings of finals, untrained networks among them: {hours:.1f} h")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = sorted(file.parent.name for file in STUDIES.glob("*/trials.jsonl"))
    parser.add_argument("study", choices=studies, help="the name of a study with searches")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("picture", nargs="?", help="a file that is written instead, such as x.png")
    instead.add_argument("--other", choices=studies, help="another study of the same losses, which it is compared with")
    run_script(partial(main, **vars(parser.parse_args())))
