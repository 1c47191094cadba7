"""``reidbench report``: finished runs as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.options import Results, settings_of


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, records, or folders above them.  [default: all results]", show_default=False),
    ] = None,
    section: Annotated[list[str] | None, typer.Option(help="Sections to show.", show_default=False)] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the tables as CSV.")] = False,
    results: Results = None,
) -> None:
    """Print the report of finished runs."""
    from rich.console import Console

    from reidbench.errors import DataError
    from reidbench.plugins import command_defaults
    from reidbench.report import build_sections, render_terminal, to_csv, to_markdown
    from reidbench.store import Store

    store = Store(settings_of(results=results).results)
    found = store.records(runs or [])
    if not found:
        raise DataError(f"{store.folder}: holds no finished run; make one with: reidbench run")
    parts = build_sections(section or command_defaults()["sections"], [record for _, record in found], store)
    if markdown or csv:
        typer.echo("\n".join((to_markdown if markdown else to_csv)(part) for part in parts), nl=False)
    else:
        render_terminal(parts, Console(highlight=False))
