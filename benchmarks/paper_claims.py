"""Judge the claims of ``leaderboards/paper/claims.toml`` by the runs of a results folder, with the rules of its notes.

    python benchmarks/paper_claims.py [--results FOLDER] [--seeds 3] [--write]

The runs are those of the studies table1 and steps_300 to steps_3000, and of the suite claims_scaled. Prints for each
claim with a rule the verdict and its numbers, then the claims whose runs are missing, those without a rule, Table 1,
and the differences between losses that were planned before the studies ran, with p values by Holm's procedure
(docs/study.md).
``--write`` writes verdict, numbers and command of each judged claim into ``claims.toml``, and all verdicts into
docs/reproducing.md. ``--seeds 1`` judges by the first seed alone, for a look before the rest has run.
"""

from __future__ import annotations

import argparse
import re
import textwrap
import tomllib
from functools import partial
from pathlib import Path

import claims_of_logs  # noqa: F401, its rules
from claims_of_suite import synthetic
from claims_of_table1 import MARGINS, OPTIONS, at_margin, margins_of, table
from reidbench_reports.claims import Claim, read_claims
from reidbench_reports.published import published_numbers
from scaled_runs import (
    FAILS,
    HOLDS,
    NOT_RUN,
    OPEN,
    RULES,
    Difference,
    Judgement,
    MissingRunsError,
    Runs,
    holm,
    pairs_of,
)

from reidbench.studies.comparison import ALPHA, Pair
from reidbench.utils.atomic import write_atomic

CHECKOUT = Path(__file__).parents[1]
CLAIMS, PAGE = CHECKOUT / "leaderboards" / "paper" / "claims.toml", CHECKOUT / "docs" / "reproducing.md"
HEADINGS = "\n| section | claim | verdict |\n|---|---|---|\n"
SEEDS, WIDTH = 3, 120
VALUE = r'"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'|"[^"\n]*"|\'[^\'\n]*\''  # of a text in TOML, without escaped quotes
PLANNED = [  # of Table 1, before its study ran
    ("batch_hard, 5 margins", "batch_all, 5 margins"),
    ("batch_hard, 5 margins", "triplet, 5 margins"),
    ("batch_all, 5 margins", "triplet, 5 margins"),
    ("batch_all ≠0", "batch_all, 4 margins"),
    ("batch_hard, 4 margins", "batch_hard ≠0"),
    ("lifted_generalized", "lifted"),
    ("batch_hard, soft", "batch_hard, 4 margins"),
    ("triplet_ohm, 5 margins", "triplet, 5 margins"),
]


# Claims.


def judge(claims: list[Claim], runs: Runs) -> dict[str, Judgement]:
    """Print and return the judgement of each claim by name; those that have none are only printed."""
    judged: dict[str, Judgement] = {}
    missing, others = [], []
    for claim in claims:
        if claim.name not in RULES:
            others.append(claim.name)
            continue
        try:
            verdict, measured, scaled = RULES[claim.name](runs)
        except MissingRunsError as error:
            missing.append(f"{claim.name}: {error}")
            continue
        print(f"{claim.name}: {verdict}\n    {measured}")
        if verdict != NOT_RUN:
            judged[claim.name] = verdict, measured, scaled
    counts = {verdict: [each[0] for each in judged.values()].count(verdict) for verdict in (HOLDS, FAILS, OPEN)}
    print("\n" + ", ".join(f"{verdict} {number}" for verdict, number in counts.items()))
    print(f"\nRuns are missing for {len(missing)} claims:", *missing, sep="\n    ")
    print(f"\nNo rule for {len(others)} claims:", ", ".join(others), sep="\n    ")
    return judged


def value_lines(key: str, text: str) -> str:
    """Return a key of TOML with a text, as ``claims.toml`` is written."""
    if "\n" in text:
        return f"{key} = '''\n{text}'''"
    quote = "'" if '"' in text else '"'
    line = f"{key} = {quote}{text}{quote}"
    if len(line) <= WIDTH or quote == "'":
        return line
    wrapped = textwrap.wrap(text, WIDTH - 5, break_long_words=False, break_on_hyphens=False)
    return f'{key} = """\\\n' + " \\\n".join(f"  {each}" for each in wrapped) + '"""'


def write_claims(judged: dict[str, Judgement], file: Path) -> None:
    """Write verdicts, numbers and commands into ``claims.toml``, and leave all else as it is."""
    text = file.read_text(encoding="utf-8")
    before = tomllib.loads(text)["claim"]
    head, *tables = re.split(r"(?m)^(?=\[\[claim\]\]$)", text)
    for number, claim in enumerate(before):
        if claim["name"] in judged:
            claim.update(zip(("verdict", "measured", "scaled"), judged[claim["name"]], strict=True))
            for key in ("scaled", "verdict", "measured"):
                line = re.compile(rf"(?m)^{key} = (?:{VALUE})$")
                new = value_lines(key, claim[key])
                tables[number] = line.sub(lambda _, new=new: new, tables[number], count=1)
    text = "".join([head, *tables])
    if tomllib.loads(text)["claim"] != before:
        raise ValueError(f"{file}: cannot be rewritten: it has values in another form than expected")
    write_atomic(file, text.encode())


def write_page(claims: list[Claim], file: Path) -> None:
    """Write the table of all claims into docs/reproducing.md."""
    before, _, rest = file.read_text(encoding="utf-8").partition(HEADINGS)
    _, _, after = rest.partition("\n\n")
    rows = "\n".join(f"| {claim.section} | {claim.claim} | {claim.verdict} |" for claim in claims)
    write_atomic(file, f"{before}{HEADINGS}{rows}\n\n{after}".encode())


# Planned differences.


def print_planned(planned: list[tuple[str, str, Pair, int]]) -> None:
    """Print differences as a table in Markdown, with Holm's p values over them."""
    print("\n| difference | points of mAP | 95 % interval, by itself | p (Holm) | verdict |\n|---|---|---|---|---|")
    adjusted = holm([pair.p for *_, pair, _ in planned])
    for (a, b, pair, sign), p in zip(planned, adjusted, strict=True):
        gain = Difference.of(pair, sign)
        verdict = "not told apart" if p > ALPHA else "better" if gain.gap > 0 else "worse"
        shown = f"{gain.gap:+.2f} | {gain.low:+.2f} to {gain.high:+.2f} | {p:.4f}"
        print(f"| {a} - {b} | {shown} | {verdict} |".replace("| 0.0000 |", "| below 0.0001 |"))


def print_cells(runs: Runs) -> None:
    """Print Table 1 in Markdown: in each cell the published mAP and ours, mean and standard deviation over seeds."""
    numbers = [number for number in published_numbers(1) if number.job and number.score == "map_market"]
    published = {number.job.loss: number.printed for number in numbers if number.job}
    print(f"\n| mAP, published / here | {' | '.join((*MARGINS, 'soft'))} |\n|---{'|---' * 5}|")
    for row in OPTIONS:
        cells = []
        for loss in (at_margin(row, margin) for margin in margins_of(row)):
            by_seed = 100 * table(runs).cells[loss].values.mean(axis=1)
            cells.append(f"{published[loss]} / {by_seed.mean():.2f} ± {by_seed.std(ddof=1):.2f}")
        print(f"| {row} | {' | '.join((*cells, '–')[:5])} |")


def print_all_planned(runs: Runs) -> None:
    """Print Table 1 and its planned differences, of means over margins, and those of the learning curves.

    The latter are batch hard under the Euclidean distance against classification under XQDA after 300 to 3,000 steps.
    """
    try:
        print_cells(runs)
        print_planned([(a, b, *table(runs).pairs[a, b]) for a, b in PLANNED])
    except MissingRunsError as error:
        print(f"\nNo planned differences of Table 1: {error}")
    of_steps = []
    for steps in (300, 1000, 3000):
        at = partial(synthetic, recipe=f"quick(steps={steps})")
        metrics_losses = [
            (metric, loss) for metric in ("euclidean", "xqda") for loss in ("batch_hard", "classification")
        ]
        try:
            scores = {f"{loss}, {metric}": runs.scores(at(loss, metric=metric)) for metric, loss in metrics_losses}
        except MissingRunsError as error:
            print(f"\nWithout the planned difference after {steps:,} steps: {error}")
            continue
        names = "batch_hard, euclidean", "classification, xqda"
        of_steps.append((f"{steps:,} steps: {names[0]}", names[1], *pairs_of(scores)[names]))
    if of_steps:
        print_planned(of_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", help="the results folder; by default that of reidbench")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="judge by this many seeds, from 0")
    parser.add_argument("--write", action="store_true", help="write the verdicts into claims.toml and the page")
    arguments = parser.parse_args()
    if arguments.write and arguments.seeds < SEEDS:
        parser.error(f"--write needs all {SEEDS} seeds, not --seeds {arguments.seeds}")
    runs, claims = Runs(arguments.results, arguments.seeds), read_claims(CLAIMS)
    if unknown := RULES.keys() - {claim.name for claim in claims}:
        raise SystemExit(f"rules of no claim: {', '.join(sorted(unknown))}")
    if arguments.seeds < SEEDS:
        print(f"PARTIAL: by {arguments.seeds} of {SEEDS} seeds\n")
    judged = judge(claims, runs)
    print_all_planned(runs)
    if arguments.write:
        write_claims(judged, CLAIMS)
        write_page(read_claims(CLAIMS), PAGE)


if __name__ == "__main__":
    main()
