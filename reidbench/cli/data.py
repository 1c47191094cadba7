"""``reidbench data``: add and verify datasets, generate stand-ins, manage the cache of decoded images."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import Cache, DataRoot, Threads, path_argument
from reidbench.cli.output import echo, print_rows

DECODED = 500  # images that are decoded to verify a dataset

app = typer.Typer(help="Add and verify datasets, generate stand-ins, manage the cache.", no_args_is_help=True)


@app.command()
def verify(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A protocol; list them: reidbench plugins.")],
    data_root: DataRoot = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, not a sample.")] = False,
    threads: Threads = 0,
) -> None:
    """Inspect a dataset's counts, file lists and files.

    Also prints the queries without a positive and contradictions between its parts. Exits with 1 where counts are
    wrong, files are missing, empty or damaged, one file has two identities, or no query has a positive.
    """
    from reidbench.data import positives_and_exclusions as positives
    from reidbench.data.protocol import verdict
    from reidbench.errors import DataError
    from reidbench.images.contents import check_images
    from reidbench.images.decode import check_file, read_image
    from reidbench.plugins.catalogue import load
    from reidbench.runs.prepare import Planner
    from reidbench.utils.machine import local_machine

    machine = local_machine(data=data_root, threads=threads)
    spec, built, split = Planner(load(), machine).data(protocol)
    echo(f"{spec.text} in {' and '.join(dict.fromkeys(str(part.root) for part in split.parts))}")
    rows = [
        (name.replace("_", " "), f"{count:,}", f"{split.expected[name]:,}" if name in split.expected else "–")
        for name, count in split.counts.items()
    ]
    print_rows(("", "found", "expected"), rows, numbers=("found", "expected"))
    for name, count in split.ignored.items():
        echo(f"ignored: {count:,} {name}")
    counts, contradicting = positives.unmatched(built, split), positives.contradictions(built, split)
    files = contradicting.pop(positives.TWO_PIDS, [])
    echo("\n".join([f"queries without a positive: {counts}", *positives.contradiction_notes(contradicting)]))
    faults = [f"incomplete: {'; '.join(split.wrong_counts)}"] if split.wrong_counts else []
    faults += [positives.NO_POSITIVE] if counts.total == len(split.query) else []
    faults += [f"{len(files):,} files have two identities, the first is {files[0]}"] if files else []
    try:
        if decode:
            echo(f"decoded all {check_images(split.parts, machine.threads, read_image):,} images")
        else:
            count = check_images(split.parts, machine.threads, check_file)
            sample = check_images(split.parts, machine.threads, read_image, most=DECODED)
            echo(f"all {count:,} images exist; decoded {sample:,} of them, --decode decodes all")
    except DataError as error:
        faults.append(str(error))
    echo("\n".join([*faults, f"{'by its names alone' if faults else 'this is'} {verdict(built, split)}"]))
    if faults:
        raise typer.Exit(1)


@app.command()
def add(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A protocol of the dataset.")],
    archives: Annotated[
        list[Path], path_argument("Its archives (zip, tar), as their owner hands them out.", "ARCHIVE")
    ],
    data_root: DataRoot = None,
) -> None:
    """Unpack a dataset's archives below the data root, and verify it; nothing is added where that fails.

    The folder has the dataset's name. Prints the owner's page and terms. Nothing is downloaded.
    """
    from reidbench.cli.unpack import unpacked
    from reidbench.errors import DataError, OptionError
    from reidbench.plugins.catalogue import load
    from reidbench.runs.job import build_protocol
    from reidbench.runs.prepare import Planner
    from reidbench.utils.machine import local_machine
    from reidbench.utils.syntax import docstring_of

    built = build_protocol(load().resolve("protocol", protocol))
    item = load().resolve("dataset", built.dataset).plugin_items[0]
    terms = re.findall(r"^(?:Owner|Terms): .*$", docstring_of(item.factory), re.MULTILINE)
    if not terms:
        raise OptionError(f"{item}: names no owner who hands out archives (a line Owner: URL in its docstring)")
    machine = local_machine(data=data_root)
    target = machine.data / item.name
    with suppress(DataError):  # not there yet
        folder = Planner(load(), machine).data(protocol)[2].query.root
        raise OptionError(f"{item.name} is in {folder} already; delete it to add it again, or name another data root")
    with unpacked(archives, target) as unfinished:
        try:
            verify(protocol, data_root=unfinished)
        except (DataError, typer.Exit):
            echo(f"nothing was added to {machine.data}; what was unpacked is deleted", err=True)
            raise
    echo("\n".join([f"added {target}", *terms]))


@app.command()
def synthesize(
    name: Annotated[str, typer.Argument(help='A synthesizer, e.g. "mars(identities=60)"; list: reidbench plugins.')],
    directory: Annotated[Path, path_argument("Folder to write.")],
) -> None:
    """Write what a synthesizer makes, or resume it.

    Stand-ins have the directory layout of a published dataset. Rerunning the command completes a folder.
    """
    from reidbench.runs.suite import synthesize as run_synthesizer

    done, total = run_synthesizer(name, directory)
    echo(f"{directory}: complete ({done:,} of {total:,} images)")


@app.command()
def cache(
    cache: Cache = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the whole cache.")] = False,
) -> None:
    """Show where the cache is and how much it holds, or delete it."""
    from reidbench.images import pixel_file
    from reidbench.utils.machine import default_cache

    folder = cache or default_cache()
    size = pixel_file.clear(folder) if clear else pixel_file.cached_bytes(folder)
    echo(f"{size / 2**20:,.1f} MiB{' deleted' * clear} below {folder}")
