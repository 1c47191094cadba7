"""``reidbench evaluate`` scores embeddings or distances of other programs."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from reidbench.cli.flags import path
from reidbench.errors import DataError, OptionError

if TYPE_CHECKING:
    from rich.console import Console


def _file(text: str, *flags: str) -> Any:
    return typer.Option(*flags, metavar="FILE", help=text, show_default=False, parser=path)


def evaluate(
    query: Annotated[Path, _file("Queries: .npz or .safetensors with embeddings, pids and cams.")],
    gallery: Annotated[Path, _file("The gallery: the same, or a pattern of shards, e.g. 'shards/*.npy'.")],
    train: Annotated[Path | None, _file("Training units, for a metric that is learned.")] = None,
    distances: Annotated[Path | None, _file("An .npy matrix [queries, gallery] instead of embeddings.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Evaluation protocol (default: Market-1501's rules).", show_default=False),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="SPEC", help="Metric; auto is the default of the suite.")] = "auto",
    rerank: Annotated[str, typer.Option(metavar="SPEC", help="Re-ranker, or none.")] = "none",
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="mean or max, for units of several rows (starts).")
    ] = "mean",
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="L2-normalise embeddings (default: the metric decides)."),
    ] = None,
    as_json: Annotated[Path | None, _file("Write the scores.", "--json")] = None,
    per_query: Annotated[Path | None, _file("Write ap_market, ap_step and first as .npz.")] = None,
) -> None:
    """Score embeddings, or a matrix of distances, exactly as a run is scored."""
    import json

    from rich.console import Console
    from rich.table import Table

    from reidbench.data.protocol import Protocol
    from reidbench.plugins.catalogue import load
    from reidbench.ranking.external_embeddings import Evaluation, evaluate_files
    from reidbench.ranking.external_embeddings import per_query as of_queries
    from reidbench.ranking.scores import intervals
    from reidbench.utils.arrays import save_arrays
    from reidbench.utils.atomic import output_file, write_atomic
    from reidbench.utils.untrusted_files import real_path

    if pool not in ("mean", "max"):
        raise OptionError(f"--pool: expected mean or max, got {pool!r}")
    if per_query is not None and per_query.suffix != ".npz":
        raise OptionError(f"--per-query {per_query}: expected a file that ends with .npz")
    shards = shard_files(gallery) if gallery.suffix == ".npy" else []
    inputs = {real_path(file) for file in (query, gallery, train, distances, *shards) if file}
    for option, out in (("--json", as_json), ("--per-query", per_query)):
        if out is not None and real_path(output_file(out)) in inputs:
            raise OptionError(f"{option} {out}: is one of the input files; name another")
    how = Evaluation(metric, rerank, normalize=normalize)
    if protocol is not None:
        rules = load().resolve("protocol", protocol).build()
        assert isinstance(rules, Protocol)
        how = Evaluation(metric, rerank, rules.exclude, rules.ranks, normalize)
    pooling = cast(Literal["mean", "max"], pool)
    scores, ranking, pids = evaluate_files(query, shards or gallery, train, distances, pooling, how)
    between = intervals(ranking, pids)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("", "left"), ("score", "right"), ("95 % interval", "right")):
        table.add_column(heading, justify=cast(Literal["left", "right"], justify))
    for name, value in scores.as_dict().items():
        spread = " – ".join(f"{100 * end:.2f}" for end in between.get(name, []))
        table.add_row(name, f"{100 * value:.2f} %" if isinstance(value, float) else f"{value:,}", spread)
    if as_json is not None:
        write_atomic(
            as_json, json.dumps({**scores.as_dict(), "intervals": between, "cameras": scores.cameras}, indent=1) + "\n"
        )
    if per_query is not None:
        save_arrays(per_query, of_queries(ranking))
    console = Console(highlight=False)
    console.print(table)
    if scores.own_rows:
        console.print(f"\nEach query's own row in {gallery} is excluded from its ranking ({scores.own_rows:,} queries)")
    print_cameras(console, scores.cameras)


def shard_files(pattern: Path) -> list[Path]:
    """Return the ``.npy`` files of a pattern such as ``shards/*.npy``, in the order of their names.

    Raises DataError where there is none, and where there is none beside a list ``shard-N.csv`` or before ``shard-N``.
    """
    names = [pattern] if pattern.is_file() else glob.glob(str(pattern))  # noqa: PTH207 - Path refuses absolute patterns
    files = sorted(map(Path, names))
    if not files:
        raise DataError(f"--gallery {pattern}: there is no such file")
    lists = map(Path, glob.glob(str(pattern.with_suffix(".csv"))))  # noqa: PTH207
    shards = [(file, int(file.stem[6:])) for file in {*files, *lists} if re.fullmatch(r"shard-[0-9]{4}", file.stem)]
    expected = {file.with_name(f"shard-{n:04d}.npy") for file, own in shards for n in (max(own - 1, 0), own)}
    for file in sorted(expected):
        if not file.exists():
            raise DataError(f"{file}: is missing among the shards; embed its images first")
    return files


def print_cameras(console: Console, cameras: Mapping[str, Any]) -> None:
    """Print mAP and rank-1 for each pair of cameras, where the terminal is wide enough."""
    from rich.table import Table

    from reidbench.ranking.scores import HEADLINE, shown_scores

    names = [str(camera) for camera in cameras["cameras"]]
    for score in HEADLINE:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for name in names:
            table.add_column(name, justify="right", no_wrap=True, min_width=6)
        for name, row in zip(names, cameras[score], strict=True):
            table.add_row(name, *("–" if value is None else f"{100 * value:.2f}" for value in row))
        if table.__rich_measure__(console, console.options).minimum > console.width:
            console.print(f"\n{len(names)} cameras: too many for this terminal; --json FILE writes their matrix")
            return
        console.print(f"\n{shown_scores()[score].label} in %: rows: query camera, columns: gallery camera")
        console.print(table)
