"""Judge the claims of ``leaderboards/paper/claims.toml`` by the runs of a results folder, with the rules of its notes.

    python benchmarks/studies/paper_claims.py [--results FOLDER] [--seeds 3] [--write]

The runs are those of the studies table1 and steps_300 to steps_3000, and of the suite claims_scaled. Prints for each
claim with a rule the verdict and its numbers, then the claims whose runs are missing, and those without a rule.
``--write`` writes verdict, numbers and command of each judged claim into ``claims.toml``, and all verdicts into
docs/reproducing.md. ``--seeds 1`` judges by the first seed alone, for a look before the rest has run.
"""

from __future__ import annotations

import argparse
import re
import textwrap
import tomllib
from pathlib import Path

import claims_of_logs  # noqa: F401, its rules
import claims_of_suite  # noqa: F401
import claims_of_table1  # noqa: F401
from reidbench_reports.claims import Claim, read_claims
from scaled_runs import FAILS, HOLDS, NOT_RUN, OPEN, RULES, SEEDS, Judgement, MissingRunsError, Runs

from reidbench.utils.atomic import write_atomic

CHECKOUT = Path(__file__).parents[2]
CLAIMS, PAGE = CHECKOUT / "leaderboards" / "paper" / "claims.toml", CHECKOUT / "docs" / "reproducing.md"
HEADINGS = "\n| section | claim | verdict |\n|---|---|---|\n"
WIDTH = 120
VALUE = r'"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'|"[^"\n]*"|\'[^\'\n]*\''  # of a text in TOML, without escaped quotes


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
            earlier = f"; its verdict stays {claim.verdict!r}" * (claim.verdict != NOT_RUN)
            missing.append(f"{claim.name}: {error}{earlier}")
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
    before, headings, rest = file.read_text(encoding="utf-8").partition(HEADINGS)
    if not headings:
        raise ValueError(f"{file}: has no table of claims")
    _, _, after = rest.partition("\n\n")
    rows = "\n".join(f"| {claim.section} | {claim.claim} | {claim.verdict} |" for claim in claims)
    write_atomic(file, f"{before}{HEADINGS}{rows}\n\n{after}".encode())


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
    if arguments.write:
        write_claims(judged, CLAIMS)
        write_page(read_claims(CLAIMS), PAGE)


if __name__ == "__main__":
    main()
