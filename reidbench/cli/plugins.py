"""``reidbench plugins``: what is installed, who brings it, what failed, and the options of an item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from reidbench.plugins import Catalogue

app = typer.Typer(help="List plugins and what they offer.", invoke_without_command=True, rich_markup_mode=None)

HEADINGS = ("name", "kind", "distribution", "version", "state")


@app.callback()
def list_plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List every item of every plugin, and the plugins that failed with their reasons."""
    if context.invoked_subcommand is not None:
        return
    import json

    from rich.text import Text

    from reidbench.plugins import load

    rows = _rows(load())
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    _print(_table(HEADINGS, [[row[heading] for heading in HEADINGS] for row in rows]))
    # Below the table, since a column would fold a reason into a ribbon.
    for row in rows:
        if row["error"]:
            _print(Text(f"\n{row['name']} failed at {row['error']}"), soft_wrap=True)


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="Kind of the item, such as loss.")],
    name: Annotated[str, typer.Argument(help="Name of the item.")],
) -> None:
    """Show an item: its provider, and every option with type, default and meaning."""
    from rich.text import Text

    from reidbench.options import options_of, summary_of
    from reidbench.plugins import load
    from reidbench.spec import write_value

    entry = load().entry(kind, name)
    options = options_of(entry.factory).values()
    _print(Text(f"{kind} {name}", style="bold"))
    _print(Text(summary_of(entry.factory) or "It has no docstring."))
    _print(Text(f"from {entry.plugin}"))
    rows = [[o.name, o.annotation, write_value(o.default), o.doc] for o in options]
    _print(Text("\nIt has no options.") if not rows else _table(("option", "type", "default", "meaning"), rows))


def _rows(catalogue: Catalogue) -> list[dict[str, str]]:
    """Return one row an item, and one a plugin that offers none because it failed."""
    rows = [(entry.name, entry.kind, entry.plugin) for entry in catalogue.entries()]
    rows += [(plugin.name, "", plugin) for plugin in catalogue.plugins if plugin.state != "ok"]
    return [
        {
            "name": name,
            "kind": kind,
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "state": plugin.state,
            "error": plugin.error,
        }
        for name, kind, plugin in rows
    ]


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _print(what: object, soft_wrap: bool = False) -> None:
    from rich.console import Console

    Console(highlight=False).print(what, soft_wrap=soft_wrap)
