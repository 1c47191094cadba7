"""Flags that several verbs have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from reidbench.utils.machine import user_path


def path(text: str) -> Path:
    """Return the path that an argument or option names, with ``~`` expanded; an empty text, as of an unset variable, is
    refused.
    """
    if not text:
        raise typer.BadParameter('expected a path, got an empty text; the current folder is "."')
    return user_path(text)


def number(text: str) -> int:
    """Return the whole number of an option that may be repeated."""
    if not re.fullmatch(r"-?[0-9]+", text.strip()):
        raise typer.BadParameter(f"expected one whole number, got {text!r}; for several repeat the option")
    return int(text)


def option(help_text: str, metavar: str | None = "SPEC", *names: str, **settings: Any) -> Any:
    """Return an option with its help and the name of its value; ``names`` replace the one of its parameter."""
    return typer.Option(*names, metavar=metavar, help=help_text, **settings)


def path_option(help_text: str, metavar: str = "FOLDER", *names: str) -> Any:
    """Return an option whose value is a path."""
    return option(help_text, metavar, *names, parser=path)


def path_argument(help_text: str, metavar: str | None = None) -> Any:
    """Return an argument that is a path."""
    return typer.Argument(metavar=metavar, help=help_text, parser=path)


DataRoot = Annotated[Path | None, path_option("Folder of the datasets.  [env: REIDBENCH_DATA]")]
Results = Annotated[Path | None, path_option("Folder of the results.  [env: REIDBENCH_RESULTS]  [default: results]")]
Cache = Annotated[Path | None, path_option("Folder of the caches.  [env: REIDBENCH_CACHE]")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option("--threads", metavar="NUMBER", help="CPU threads; 0 is one for each core.")]
