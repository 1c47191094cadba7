"""``reidbench embed``: extract embeddings with the network of a run, into one file or into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from reidbench.cli.flags import DataRoot, Device, Threads, option, path_argument, path_option
from reidbench.cli.output import echo
from reidbench.errors import OptionError


def embed(
    run: Annotated[Path, path_argument("A run folder, or its record.json.")],
    images: Annotated[Path, path_option("A CSV file with a column path (optionally pid and camid).", "LIST")],
    out: Annotated[Path, path_option("The .npz or .npy file to write; the folder of shards.", "PATH")],
    shards: Annotated[int, option("Write N .npy files with lists; 0 is one file.", "N")] = 0,
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Threads = 0,
    executor: Annotated[str | None, option("What embeds the shards, as for run.")] = None,
) -> None:
    """Extract embeddings for your own images with the network of a run, as it was scored."""
    import torch

    from reidbench.runs.execute import build_executor
    from reidbench.runs.export import SHARDS_CONTENT, check_content, describe_network, embed_list, embed_shards
    from reidbench.utils.machine import local_machine

    machine = local_machine(data=data_root, device=device, threads=threads)
    if shards:
        list(embed_shards(run, images, out, shards, machine, build_executor(executor)))
        echo(f"{shards} shards in {out}; to rank them: reidbench evaluate --gallery '{out}/shard-*.npy'")
        return
    if executor is not None:
        raise OptionError("--executor: is for --shards; leave it out, or give a number of shards")
    if out.suffix == ".npy" and (out.parent / SHARDS_CONTENT).exists():
        check_content(out.parent / SHARDS_CONTENT, describe_network(run))
    torch.set_num_threads(machine.threads)
    count, dimensions = embed_list(run, images, out, machine)
    echo(f"{count} embedding{'s' * (count != 1)} of {dimensions} dimensions in {out}")
