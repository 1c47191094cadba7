"""``reidbench evaluate`` scores embeddings or distances of other programs."""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import Annotated

from reidbench.cli.flags import option, path_option
from reidbench.cli.output import echo, print_rows
from reidbench.errors import DataError, OptionError, printable


def evaluate(
    query: Annotated[Path, path_option("Queries: .npz or .safetensors with embeddings, pids and cams.", "FILE")],
    gallery: Annotated[Path, path_option("The gallery: the same, or shards, e.g. 'shards/*.npy'.", "FILE")],
    train: Annotated[Path | None, path_option("Training units, for a metric that is learned.", "FILE")] = None,
    distances: Annotated[Path | None, path_option("An .npy matrix of distances [queries, gallery].", "FILE")] = None,
    protocol: Annotated[str | None, option("Evaluation protocol (default: Market-1501's rules).")] = None,
    metric: Annotated[str, option("Metric; auto is the default of the suite.")] = "auto",
    rerank: Annotated[str, option("Re-ranker, or none.")] = "none",
    as_json: Annotated[Path | None, path_option("Write the scores.", "FILE", "--json")] = None,
    per_query: Annotated[Path | None, path_option("Write ap_market, ap_step and first as .npz.", "FILE")] = None,
) -> None:
    """Score embeddings, or a matrix of distances, exactly as a run is scored."""
    import json
    from dataclasses import asdict

    from reidbench.plugins.catalogue import command_defaults, load
    from reidbench.ranking.external_embeddings import Evaluation, evaluate_files
    from reidbench.ranking.rankings import RANKINGS
    from reidbench.runs.job import build_protocol
    from reidbench.utils.arrays import save_arrays
    from reidbench.utils.atomic import output_file, write_atomic
    from reidbench.utils.untrusted_files import file_digest, real_path

    if per_query is not None and per_query.suffix != ".npz":
        raise OptionError(f"--per-query {per_query}: expected a file that ends with .npz")
    given = {"--metric": metric != "auto", "--rerank": rerank != "none", "--train": train}
    if refused := [option for option, value in given.items() if value and distances]:
        raise OptionError(f"{' and '.join(refused)}: cannot be combined with --distances, which are ranked as they are")
    shards = shard_files(gallery) if gallery.suffix == ".npy" else []
    files = {"query": query, "gallery": None if shards else gallery, "train": train, "distances": distances}
    inputs = {real_path(file) for file in (*files.values(), *shards) if file}
    rankings = as_json.with_suffix(f".{RANKINGS}") if as_json else None
    for flag, out in (("--json", as_json), ("--json", rankings), ("--per-query", per_query)):
        if out is not None and real_path(output_file(out)) in inputs:
            raise OptionError(f"{flag} {out}: is one of the input files; name another")
    how, spec, version = Evaluation(metric, rerank), "", 0
    if protocol is not None:
        resolved = load().resolve("protocol", protocol)
        rules = build_protocol(resolved)
        how = Evaluation(metric, rerank, rules.exclude, rules.rank_scores, rules.primary)
        spec, version = resolved.text, rules.version
    scores, ranking = evaluate_files(query, shards or gallery, train, distances, how)
    if as_json is not None and rankings is not None:
        from reidbench.leaderboard.external import EvaluationFiles

        save_arrays(rankings, vars(ranking))
        content = {**scores.as_dict(), "intervals": scores.intervals, "cameras": scores.cameras}
        text = str(command_defaults()["auto_metric"]) if metric == "auto" else metric
        by = "" if distances else load().resolve("metric", text).text
        reranked = load().resolve("reranker", rerank).text
        digests = {name: file_digest(file, sys.maxsize) for name, file in files.items() if file and file.is_file()}
        ranked = EvaluationFiles(spec, version, by, reranked, digests, file_digest(rankings), tuple(scores.values))
        content["evaluation"] = asdict(ranked)
        write_atomic(as_json, f"{json.dumps(content, indent=1)}\n")
    if per_query is not None:
        save_arrays(per_query, scores.per_query)
    rows = []
    for name, value in scores.as_dict().items():
        spread = " – ".join(f"{100 * end:.2f}" for end in scores.intervals.get(name, []))
        rows.append((name, f"{100 * value:.2f} %" if isinstance(value, float) else f"{value:,}", spread))
    headings = ("", "score", "95 % interval")
    print_rows(headings, rows, numbers=headings[1:])
    if scores.own_rows:
        echo(f"Each query's own row in {printable(str(gallery))} is excluded ({scores.own_rows:,} queries)")


def shard_files(pattern: Path) -> list[Path]:
    """Return the ``.npy`` files of a pattern such as ``shards/*.npy``, in the order of their names.

    Raises DataError where there is none, and where there is none beside a list ``shard-N.csv``.
    """
    names = [pattern] if pattern.is_file() else glob.glob(str(pattern))  # noqa: PTH207 - Path refuses absolute patterns
    files = sorted(map(Path, names))
    if not files:
        raise DataError(f"--gallery {pattern}: there is no such file")
    lists = sorted(map(Path, glob.glob(str(pattern.with_name("shard-*.csv")))))  # noqa: PTH207
    for file in (each.with_suffix(".npy") for each in lists):
        if not file.exists():
            raise DataError(f"{file}: is missing among the shards; embed its images first")
    return files
