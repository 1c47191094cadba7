"""``reidbench suites``: list what runs by name."""

from __future__ import annotations

from reidbench.cli.output import print_rows

KINDS = {"systems": "system", "studies": "study"}  # by folder
CLAIMS = "paper/claims"  # the one TOML file that is no suite


def suites() -> None:
    """List the systems, suites and studies that run by name, each with one line on what it is."""
    from reidbench.runs.suite import SUITE_BYTES, leaderboards_folder
    from reidbench.utils.untrusted_files import read_text

    folder = leaderboards_folder()
    rows = []
    for file in sorted(folder.rglob("*.toml")):
        parent = file.parent.relative_to(folder).as_posix()
        name = file.stem if parent in (".", "systems") else f"{parent}/{file.stem}"
        rows.append([KINDS.get(parent, "suite"), name, read_text(file, SUITE_BYTES).partition("\n")[0].lstrip("# ")])
    rows = [row for row in rows if row[1] != CLAIMS]
    print_rows(("kind", "name", "what"), sorted(rows, key=lambda row: ("suite", "system", "study").index(row[0])))
