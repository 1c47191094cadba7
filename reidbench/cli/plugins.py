"""``reidbench plugins``: what is installed and what failed, an item's options and promises, and a new plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import DataRoot, path

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from reidbench.plugins.catalogue import Catalogue
    from reidbench.plugins.discovery import PluginItem

app = typer.Typer(
    help="List plugins, show and check what they offer, write a new one.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

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

    from reidbench.plugins.catalogue import load

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

    from reidbench.plugins.catalogue import load
    from reidbench.plugins.options import options_of, summary_of
    from reidbench.plugins.spec import write_value

    entry = load().find(kind, name)
    options = options_of(entry.factory).values()
    _print(Text(f"{kind} {name}", style="bold"))
    _print(Text(summary_of(entry.factory) or "It has no docstring."))
    _print(Text(f"from {entry.plugin}"))
    rows = [[o.name, o.expected, write_value(o.default), o.doc] for o in options]
    _print(Text("\nIt has no options.") if not rows else _table(("option", "type", "default", "meaning"), rows))


@app.command()
def check(
    item: Annotated[str, typer.Argument(metavar="NAME", help='Name of an item, also with options: "NAME(option=1)".')],
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only the item of this kind.  [default: every kind of that name]")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Check that an item keeps the promises of its kind; ends with 1 and the promise that is broken."""
    from reidbench.errors import ContractError, OptionError
    from reidbench.plugins.catalogue import load

    checks = _checks(data_root)
    broken: list[ContractError] = []
    unfit: list[OptionError] = []
    entries = _named(load(), item, kind)
    for entry in entries:
        try:
            held = checks[entry.kind](item)
        except ContractError as error:
            broken.append(error)
            continue
        except OptionError as error:  # options of one kind of that name alone
            unfit.append(error)
            if len(unfit) == len(entries):
                raise
            continue
        typer.echo(f"{entry.kind} {item}: {len(held)} promises held")
        for promise in held:
            typer.echo(f"  {promise}")
    for other in unfit:
        typer.echo(f"not checked: {other}")
    if broken:
        raise ContractError("\n".join(map(str, broken)), broken[0].promise)


def _checks(data_root: Path | None) -> dict[str, Callable[[str], tuple[str, ...]]]:
    """Return the check of each kind."""
    from reidbench import testing

    return {
        "loss": testing.check_loss,
        "backbone": testing.check_backbone,
        "dataset": lambda item: testing.check_dataset(item, root=data_root),
        "synthesizer": testing.check_synthesizer,
        "protocol": lambda item: testing.check_protocol(item, root=data_root),
        "recipe": testing.check_recipe,
        "metric": testing.check_metric,
        "reranker": testing.check_reranker,
        "section": testing.check_section,
    }


def _named(catalogue: Catalogue, item: str, kind: str | None) -> list[PluginItem]:
    """Return the entries of all kinds, or of one, whose name is that of ``item``, a spec."""
    from reidbench.errors import OptionError
    from reidbench.plugins.options import did_you_mean
    from reidbench.plugins.spec import Spec, quoted

    name = Spec.parse(item, where="NAME").item.name
    if kind is not None:
        return [catalogue.find(kind, name)]
    found = [entry for entry in catalogue.list_items() if entry.name == name]
    if found:
        return found
    failed = [f"{plugin.name} ({plugin.distribution})" for plugin in catalogue.plugins if plugin.state == "failed"]
    lost = f"; failed to load: {', '.join(failed)}; see why: reidbench plugins" if failed else ""
    names = {entry.name for entry in catalogue.list_items()}
    near = did_you_mean(name, sorted(names)) or "; see what there is: reidbench plugins"
    raise OptionError(f"no plugin offers {quoted(name)}{near}{lost}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, its item and its module, such as my_loss.")],
    kind: Annotated[str, typer.Option("--kind", help="loss, backbone or metric.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where its folder is made.", parser=path)] = Path(),
) -> None:
    """Write a plugin of one's own to a new folder: it installs, passes its own test, and is yours to change."""
    from reidbench.plugins.scaffold import write_plugin

    target = write_plugin(name, kind, folder)
    typer.echo(f"wrote {target}; next:")
    typer.echo(f"  python -m pip install -e {target}\n  reidbench plugins check {name}\n  python -m pytest {target}")


def _rows(catalogue: Catalogue) -> list[dict[str, str]]:
    """Return one row an item, and one a plugin that offers none because it failed."""
    rows = [(entry.name, entry.kind, entry.plugin) for entry in catalogue.list_items()]
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
