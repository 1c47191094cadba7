"""``reidbench plugins``: list installed plugins, show and check their items, write a new plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import DataRoot, path
from reidbench.cli.output import echo, print_rows
from reidbench.errors import OptionError, printable

if TYPE_CHECKING:
    from reidbench.plugins.discovery import PluginItem

app = typer.Typer(
    help="List plugins, show and check their items, write a new plugin.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_plugins(context: typer.Context) -> None:
    """List every item of every plugin, and the plugins that failed to load with their errors."""
    if context.invoked_subcommand is not None:
        return
    from reidbench.plugins.catalogue import load

    rows, reasons = [], []
    for item in load().list_items():
        if reason := _unavailable(item):
            reasons.append(f"{item.name} is unavailable: {reason}")
        provider = (item.plugin.distribution, item.plugin.version)
        rows.append((item.name, item.kind, _first_line(item), *provider, "unavailable" if reason else "ok"))
    for plugin in load().plugins:
        if plugin.error:
            reasons.append(f"{plugin.name} failed at {plugin.error}")
            rows.append((plugin.name, "", "", plugin.distribution, plugin.version, plugin.state))
    print_rows(("name", "kind", "description", "distribution", "version", "state"), rows)
    for reason in reasons:  # below the table, whose columns would fold a long error
        echo(f"\n{printable(reason)}")


@app.command()
def show(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="Kind of the item, such as loss.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the item.")] = None,
) -> None:
    """Show an item: its provider, and every option with type, default and description."""
    from reidbench.plugins.catalogue import load
    from reidbench.plugins.spec import write_value
    from reidbench.utils.syntax import summary_of

    item = load().find(kind, name) if name else _only_item(kind)
    echo(f"{item.kind} {item.name}\n{summary_of(item.factory) or 'It has no docstring.'}\nfrom {item.plugin}")
    rows = []
    for each in item.options.values():
        doc = f"{each.doc.rstrip('.')}; searched {each.searched}" if each.searched else each.doc
        rows.append((each.name, each.expected, write_value(each.default), doc))
    if rows:
        print_rows(("option", "type", "default", "description"), rows)
    else:
        echo("\nIt has no options.")


@app.command("check")
def check_items(
    item: Annotated[str, typer.Argument(metavar="NAME", help='Name of an item, also with options: "NAME(option=1)".')],
    kind: Annotated[str | None, typer.Option(help="Its kind, where several items have this name.")] = None,
    data_root: DataRoot = None,
) -> None:
    """Run the contract checks for an item's kind; exits with 1 and the first check that fails."""
    from reidbench import testing
    from reidbench.plugins.spec import Spec

    kind = _only_item(Spec.parse(item, where="NAME").item.name, kind).kind
    passed = getattr(testing, f"check_{kind}")(item, **{"root": data_root} if kind == "dataset" else {})
    echo("\n  ".join([f"{kind} {item}: {len(passed)} contract checks passed", *passed]))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, its item and its module, such as my_loss.")],
    kind: Annotated[str, typer.Option("--kind", help="loss, backbone or metric.")],
    folder: Annotated[Path, typer.Option("--folder", help="Parent folder of the new package.", parser=path)] = Path(),
) -> None:
    """Write a plugin package to a new folder: it installs, passes its own test, and is yours to change."""
    from reidbench.testing.scaffold import write_plugin

    target = write_plugin(name, kind, folder)
    steps = (
        f"python -m pip install -e '{target}[test]'",
        f"reidbench plugins check {name}",
        f"python -m pytest {target}",
    )
    echo("\n  ".join([f"wrote {target}; next:", *steps]))


def _only_item(name: str, kind: str | None = None) -> PluginItem:
    """Return the item of a name; raises OptionError where items of several kinds have it."""
    from reidbench.plugins.catalogue import load

    item, *others = load().find_all(name, kind)
    if others:
        kinds = " or ".join(each.kind for each in (item, *others))
        raise OptionError(f"there are several {name}; name its KIND, {kinds}")
    return item


def _first_line(item: PluginItem) -> str:
    from reidbench.utils.syntax import summary_of

    return re.split(r"(?<! al)\. ", printable(summary_of(item.factory)))[0].removesuffix(".")


def _unavailable(item: PluginItem) -> str:
    """Return why an executor cannot be used here; an empty text for other items."""
    from reidbench.errors import describe_error

    try:
        return str(item.factory().unavailable()) if item.kind == "executor" else ""
    except Exception as error:
        return describe_error(error)
