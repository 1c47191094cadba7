"""``reidbench data``: look at data sets, draw stand-ins, and look after the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reidbench.cli.flags import Cache, DataRoot, Threads, path
from reidbench.errors import DataError, OptionError
from reidbench.utils.machine import default_cache

if TYPE_CHECKING:
    from reidbench.data.ground_truth import Unmatched
    from reidbench.data.split import Split

app = typer.Typer(help="Check data sets, draw stand-ins, look after the cache.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command("verify")
def verify(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A protocol; see reidbench plugins.")],
    data_root: DataRoot = None,
    decode: Annotated[bool, typer.Option("--decode", help="Open every image.")] = False,
    threads: Threads = 0,
) -> None:
    """Say what lies there: counts, names, queries without a match, and whether it is the real data or a stand-in."""
    from reidbench.data.ground_truth import unmatched
    from reidbench.data.protocol import verdict
    from reidbench.images.decode import check_images
    from reidbench.plugins.catalogue import load
    from reidbench.runs.prepare import Planner
    from reidbench.utils.machine import local_machine

    machine = local_machine(data=data_root, threads=threads)
    item, built, split = Planner(load(), machine).data(protocol)
    typer.echo(f"{item.text} in {split.train.root}")
    _print_counts(split, unmatched(built, split))
    damaged = ""
    if decode:
        try:
            count = check_images(split.parts, machine.threads, decode=True)
            typer.echo(f"every image can be decoded: {count:,}")
        except DataError as error:
            damaged = str(error)
            typer.echo(damaged)
    typer.echo(f"this is {verdict(built, split)}")
    if split.wrong_counts:
        typer.echo("not whole: " + "; ".join(split.wrong_counts))
    if damaged or split.wrong_counts:
        raise typer.Exit(1)


def _print_counts(split: Split, lost: Unmatched) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("found", "expected"):
        table.add_column(heading, justify="right")
    for name, count in split.counts.items():
        expected = f"{split.expected[name]:,}" if name in split.expected else "–"
        table.add_row(name.replace("_", " "), f"{count:,}", expected)
    Console(highlight=False).print(table)
    for name, count in split.ignored.items():
        typer.echo(f"passed over: {count:,} {name}")
    said = [f"{lost.absent:,} whose identity the gallery lacks"] if lost.absent else []
    said += [f"{count:,} that the rule {rule} empties" for rule, count in lost.by_rule.items() if count]
    typer.echo(f"queries without a match: {lost.total:,}" + (f" ({', '.join(said)})" if said else ""))


@app.command("synthesize")
def synthesize(
    name: Annotated[str, typer.Argument(help='A synthesizer, e.g. "csv_list(cameras=4)"; see reidbench plugins.')],
    directory: Annotated[Path, typer.Argument(help="The folder to write.", parser=path)],
    identities: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="How many people, as the option of that name.", show_default=False),
    ] = None,
    distractors: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="How many distractors, likewise.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="What everything is drawn from.", show_default=False)
    ] = None,
) -> None:
    """Draw people and write them in a data set's own layout; the same command again goes on where it stopped."""
    from reidbench.plugins.spec import Item, Spec
    from reidbench.runs.suite import synthesize as draw

    item = Spec.parse(name, where="synthesizer").item
    flags = {"identities": identities, "distractors": distractors, "seed": seed}
    given = [(option, value) for option, value in flags.items() if value is not None]
    if twice := sorted({option for option, _ in given} & {option for option, _ in item.options}):
        raise OptionError(f"{name} already says {' and '.join(twice)}; leave out --{' and --'.join(twice)}")
    spec = Item(item.name, (*item.options, *given))
    done, total = draw(str(spec), directory)
    typer.echo(f"{done:,} of {total:,} images in {directory}")


@app.command("cache")
def cache_of(
    cache: Cache = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete what is there.")] = False,
) -> None:
    """Show the decoded images that are kept, or delete all that is in the cache."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reidbench.images.pixel_file import clear as clear_cache
    from reidbench.images.pixel_file import entries

    folder = cache or default_cache()
    if clear:
        typer.echo(f"{clear_cache(folder) / 2**20:,.1f} MiB deleted below {folder}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("images", "height", "width", "MiB"):
        table.add_column(heading, justify="right")
    for heading in ("decoded", "from"):
        table.add_column(heading, overflow="fold")
    total = 0.0
    for file, header in entries(folder):
        try:
            size = file.stat().st_size / 2**20
        except FileNotFoundError:  # another process has just finished it, or deleted it
            continue
        total += size
        cells = (
            [f"{header.images:,}", str(header.height), str(header.width), f"{size:,.1f}", header.made[:16], header.root]
            if header
            else ["?", "?", "?", f"{size:,.1f}", "incomplete", str(file)]
        )
        table.add_row(*map(Text, cells))
    if table.row_count:
        Console(highlight=False).print(table)
    typer.echo(f"{total:,.1f} MiB of decoded images in {folder}")
