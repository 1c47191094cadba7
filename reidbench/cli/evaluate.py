"""``reidbench evaluate``: scores of embeddings or distances that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from reidbench.cli.flags import path
from reidbench.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(
    query: Annotated[
        Path, typer.Option(metavar="FILE", help="Queries: .npz or .safetensors with embeddings, pids and cams, or .h5.")
    ],
    gallery: Annotated[Path, typer.Option(metavar="FILE", help="The gallery, likewise.")],
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Training units, for a metric that is learned.", show_default=False),
    ] = None,
    distances: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An .npy matrix [queries, gallery] instead of embeddings.", show_default=False
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Whose rules and ranks; Market-1501's otherwise.", show_default=False),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="SPEC", help="Distance; auto is the suite's default.")] = "auto",
    rerank: Annotated[str, typer.Option(metavar="SPEC", help="Re-ranker, or none.")] = "none",
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="mean or max, for units of several rows (starts).")
    ] = "mean",
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Rows of unit length; else as the metric says.")
    ] = None,
    query_csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pids and names of an .h5; else beside it.", show_default=False)
    ] = None,
    gallery_csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Likewise.", show_default=False)] = None,
    train_csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Likewise.", show_default=False)] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores.", show_default=False, parser=path)
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option(
            "--per-query",
            metavar="FILE",
            help="Write ap_market, ap_step and first as .npz.",
            show_default=False,
            parser=path,
        ),
    ] = None,
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
    from reidbench.utils.atomic import write_atomic

    if pool not in ("mean", "max"):
        raise OptionError(f"--pool: expected mean or max, got {pool!r}")
    if per_query is not None and per_query.suffix != ".npz":
        raise OptionError(f"--per-query {per_query}: expected a file that ends with .npz")
    read = {file.resolve() for file in (query, gallery, train, distances, query_csv, gallery_csv, train_csv) if file}
    for option, out in (("--json", as_json), ("--per-query", per_query)):
        if out is not None and (not out.name or out.is_dir()):
            raise OptionError(f"{option} {out}: is a folder; name a file in it")
        if out is not None and out.resolve() in read:
            raise OptionError(f"{option} {out}: is one of the files to be read; name another")
    how = Evaluation(metric, rerank, normalize=normalize)
    if protocol is not None:
        rules = load().resolve("protocol", protocol).build()
        assert isinstance(rules, Protocol)
        how = Evaluation.of(rules, metric, rerank, normalize)
    lists = {"query": query_csv, "gallery": gallery_csv, "train": train_csv}
    scores, ranking, pids = evaluate_files(
        query, gallery, train, distances, cast(Literal["mean", "max"], pool), how, lists=lists
    )
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
    print_cameras(console, scores.cameras)


def print_cameras(console: Console, cameras: Mapping[str, Any]) -> None:
    """Print mAP and rank-1 for each pair of cameras, where the terminal is wide enough for all of them."""
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
            console.print(f"\n{len(names)} cameras: their pairs are in the file of --json")
            return
        console.print(f"\n{shown_scores()[score].label} in %: a row is the query's camera, a column the one looked in")
        console.print(table)
