"""``reidbench export``: the network of a run as a folder to publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reidbench.cli.flags import path_argument
from reidbench.cli.output import echo


def export(
    run: Annotated[Path, path_argument("A run folder, or its record.json.")],
    folder: Annotated[Path, path_argument("A new folder.", "DIR")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too (extra onnx).")] = False,
) -> None:
    """Export the network of a run to publish it: weights, preprocessing, record, and a model card with its scores."""
    from reidbench.reports.export_network import export_network

    export_network(run, folder, onnx=onnx)
    echo(f"wrote {folder}; complete its README.md, then: hf upload OWNER/NAME {folder}")
