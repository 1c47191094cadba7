"""``reidbench embed``: a trained network on somebody's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import Device, Threads, path


def embed(
    run: Annotated[Path, typer.Argument(help="A run folder, or its record.json.")],
    images: Annotated[
        Path, typer.Option("--images", metavar="LIST", help="A CSV file with a column path (and perhaps pid, camid).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .npz file to write.", parser=path)],
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Write the embeddings of your own images, made by the network of a run as it was scored."""
    import torch

    from reidbench.runs.export import embed_list
    from reidbench.utils.machine import local_machine

    machine = local_machine(device=device, threads=threads)
    torch.set_num_threads(machine.threads)
    count, dimensions = embed_list(run, images, out, machine)
    typer.echo(f"{count} embeddings of {dimensions} dimensions in {out}")
