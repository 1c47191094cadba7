"""Print the planned differences of the published studies, as docs/studies has them.

    python benchmarks/studies/planned_differences.py table1
    python benchmarks/studies/planned_differences.py steps
    python benchmarks/studies/planned_differences.py ablation

Reads records and ranks in ``leaderboards/studies``. ``table1``: Table 1 of Hermans et al. 2017, families of its cells,
and how much of the order of the cells agrees. ``steps``: batch hard under the Euclidean distance against classification
under XQDA after 300, 1,000 and 3,000 steps. ``ablation``: how the differences between three losses change with the
length of the embedding and with the form of the batch. p values are Holm's over the differences of one table
(docs/study.md).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from claims_of_suite import synthetic
from claims_of_table1 import MARGINS, OPTIONS, SOFT, at_margin, margins_of, table
from reidbench_reports.published import published_numbers
from scaled_runs import OPEN, SEEDS, Difference, Runs, Scores, mean_and_sd_text, pairs_of, run_script

from reidbench.studies.comparison import ALPHA, Pair, compare, with_holm

STUDIES = Path(__file__).parents[2] / "leaderboards" / "studies"
PLANNED = [  # of Table 1, committed when six of its 111 runs had ended
    ("batch_hard, 5 margins", "batch_all, 5 margins"),
    ("batch_hard, 5 margins", "triplet, 5 margins"),
    ("batch_all, 5 margins", "triplet, 5 margins"),
    ("batch_all ≠0", "batch_all, 4 margins"),
    ("batch_hard, 4 margins", "batch_hard ≠0"),
    ("lifted_generalized", "lifted"),
    ("batch_hard, soft", "batch_hard, 4 margins"),
    ("triplet_ohm, 5 margins", "triplet, 5 margins"),
]
SETTINGS = {  # of the ablation, fixed before the runs of the last three: label, network and recipe of each study
    "steps_300": ("128 values, 18×4", "tiny", "quick(steps=300)"),
    "dim_64": ("64 values, 18×4", "tiny(embedding_dim=64)", "quick(steps=300)"),
    "dim_512": ("512 values, 18×4", "tiny(embedding_dim=512)", "quick(steps=300)"),
    "p9_k8": ("128 values, 9×8", "tiny", "quick(steps=300, p=9, k=8)"),
}


def mean_over_seeds(scores: Scores) -> str:
    """Return mean and standard deviation over the seeds."""
    return mean_and_sd_text(scores.values.mean(axis=1))


def print_planned(
    planned: Sequence[tuple[str, str, Pair, int]],
    published: Sequence[float] = (),
    more: str = "better",
    less: str = "worse",
) -> None:
    """Print differences as a table in Markdown, with Holm's p values over them, and the paper's beside them."""
    paper = " the paper |" * bool(published)
    print(f"\n| difference | points of mAP | 95 % interval, by itself | p (Holm) | verdict |{paper}")
    print(f"|---|---|---|---|---|{'---|' * bool(published)}")
    family = with_holm([pair for *_, pair, _ in planned])
    for number, ((a, b, _, sign), pair) in enumerate(zip(planned, family, strict=True)):
        gain = Difference.of(pair, sign)
        verdict = OPEN if pair.verdict == OPEN else more if gain.gap > 0 else less
        p = "below 0.0001" if pair.p_holm < 5e-5 else f"{pair.p_holm:.4f}"
        published_gap = f" {published[number]:+.2f} |" if published else ""
        print(f"| {a} - {b} | {gain.gap:+.2f} | {gain.low:+.2f} to {gain.high:+.2f} | {p} | {verdict} |{published_gap}")


def table1() -> None:
    """Print Table 1 with the published mAP beside ours, the planned differences, and the agreement of the orders."""
    cells = table(Runs(str(STUDIES / "table1"), seeds=SEEDS))
    numbers = [number for number in published_numbers(1) if number.job and number.score == "map_market"]
    printed = {number.job.loss: number.printed for number in numbers if number.job}
    print(f"| mAP, published / here | {' | '.join(('margin 0.1', *MARGINS[1:], 'soft'))} |\n|---{'|---' * 5}|")
    for row in OPTIONS:
        texts = []
        for loss in (at_margin(row, margin) for margin in margins_of(row)):
            texts.append(f"{printed[loss]} / {mean_over_seeds(cells.cells[loss])}")
        print(f"| `{row}` | {' | '.join((*texts, '–')[:5])} |".replace(" ≠0`", "` ≠0"))

    paper = {loss: float(text.strip("*")) for loss, text in printed.items()}
    means = {f"{row}, 5 margins": [paper[at_margin(row, each)] for each in margins_of(row)] for row in SOFT}
    means |= {f"{row}, 4 margins": [paper[at_margin(row, each)] for each in MARGINS] for row in SOFT}
    means |= {row: [paper[at_margin(row, each)] for each in MARGINS] for row in OPTIONS}
    means["batch_hard, soft"] = [paper["batch_hard"]]
    gaps = [float(np.mean(means[a]) - np.mean(means[b])) for a, b in PLANNED]
    print_planned([(a, b, *cells.pairs[a, b]) for a, b in PLANNED], gaps)

    ours = {loss: each.mean for loss, each in cells.cells.items()}
    whole = [at_margin(row, margin) for row in OPTIONS if not row.startswith("triplet") for margin in margins_of(row)]
    for losses in (list(ours), whole):
        chosen = {loss: cells.cells[loss] for loss in losses}
        pids = next(iter(chosen.values())).pids
        of_study = [cells.pairs[a, b][0] for a, b in itertools.combinations(losses, 2)]
        alone = compare({loss: each.values for loss, each in chosen.items()}, pids).pairs
        # The matrix of the study has Holm's p over all of its pairs, also where only some of them are counted here.
        apart = [pair for pair in of_study if pair.p_holm is not None and pair.p_holm <= ALPHA]
        same = sum((ours[pair.a] > ours[pair.b]) == (paper[pair.a] > paper[pair.b]) for pair in of_study)
        ties = sum(paper[pair.a] == paper[pair.b] for pair in of_study)
        sds = [each.values.mean(axis=1).var(ddof=1) for each in chosen.values()]
        smallest = 100 * min(abs(pair.difference) for pair in apart)
        print(
            f"\n{len(losses)} cells, {len(of_study)} pairs: {same} in the published order, {ties} of equal published "
            f"mAP; {len(apart)} told apart in the study, the smallest gap {smallest:.2f}; "
            f"{sum(pair.verdict != 'not told apart' for pair in alone)} in a comparison of these cells alone; "
            f"pooled sd {100 * float(np.mean(sds)) ** 0.5:.2f}"
        )
    for row in ("triplet", "triplet_ohm"):
        sds = [cells.cells[at_margin(row, margin)].values.mean(axis=1).var(ddof=1) for margin in margins_of(row)]
        print(f"{row}: pooled sd {100 * float(np.mean(sds)) ** 0.5:.2f}")


def steps() -> None:
    """Print the learning curves, of the lengths that are published, and their planned differences."""
    losses, metrics = ("batch_hard", "classification"), ("euclidean", "xqda")
    names = "batch_hard, euclidean", "classification, xqda"
    print("| steps | " + " | ".join(f"`{loss}`, {metric}" for loss in losses for metric in metrics) + " |")
    print(f"|---{'|---' * 4}|")
    planned = []
    for number in (300, 1000, 3000):
        studies = {"euclidean": STUDIES / f"steps_{number}", "xqda": STUDIES / f"steps_{number}_xqda"}
        if not studies["xqda"].is_dir():
            continue
        at = partial(synthetic, recipe=f"quick(steps={number})")
        runs = {metric: Runs(str(study), seeds=SEEDS) for metric, study in studies.items()}
        scores = {f"{loss}, {each}": runs[each].scores(at(loss, metric=each)) for loss in losses for each in metrics}
        print(f"| {number:,} | {' | '.join(mean_over_seeds(each) for each in scores.values())} |")
        pairs = pairs_of({name: scores[name] for name in names})  # other scores of the same trainings tell nothing new
        planned.append((f"{number:,} steps: {names[0]}", names[1], *pairs[names]))
    print_planned(planned)


def ablation() -> None:
    """Print three losses with other embeddings and batches, and how the differences between them change."""
    losses = ("lifted_generalized", "batch_hard", "classification")
    print(f"| embedding, batch | {' | '.join(f'`{loss}`' for loss in losses)} |\n|---{'|---' * len(losses)}|")
    gaps: dict[tuple[str, str], dict[str, Scores]] = {}  # by pair of losses and setting
    for study, (label, backbone, recipe) in SETTINGS.items():
        runs = Runs(str(STUDIES / study), seeds=SEEDS)
        scores = {loss: runs.scores(synthetic(loss, recipe=recipe, backbone=backbone)) for loss in losses}
        print(f"| {label} | {' | '.join(mean_over_seeds(each) for each in scores.values())} |")
        for a, b in itertools.combinations(losses, 2):
            gaps.setdefault((a, b), {})[label] = scores[a].minus(scores[b])
    # The variance between seeds is pooled over the settings of a pair: the third pair of losses follows from two.
    pairs = {pair: pairs_of(by_setting) for pair, by_setting in gaps.items()}
    basis, *changed = (label for label, *_ in SETTINGS.values())
    planned = []
    for label, (a, b) in itertools.product(changed, gaps):
        planned.append((f"{a} over {b}: {label}", basis, *pairs[a, b][label, basis]))
    print_planned(planned, more="larger", less="smaller")


if __name__ == "__main__":
    tables = {"table1": table1, "steps": steps, "ablation": ablation}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    run_script(tables[parser.parse_args().table])
