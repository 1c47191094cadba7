"""Torch counts what the compiled loops count, to the last tie: on inputs that mislead float32, and without numba."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reidbench
from reidbench.errors import DataError
from reidbench.ranking import rank_kernels as kernels
from reidbench.ranking import rank_torch as ranking_on_device
from reidbench.ranking.rank import nearest, rank, rank_distances
from reidbench.ranking.rank_torch import announced, beside_the_cpu, counting_device
from reidbench.utils.compiled import not_compiled
from tests.reidbench.ranking.test_rank import (
    DISTORTIONS,
    Inverted,
    Manhattan,
    assert_is_reference,
    assert_same,
    drawn,
    euclidean,
    few_values,
    people,
)

CPU = torch.device("cpu")
METRICS = {"euclidean": euclidean(), "without factors": Manhattan(), "inner products": Inverted()}


@contextmanager
def counted_by_torch() -> Iterator[None]:
    """Count as on a machine without compiled loops, which is the one way to torch for what takes no device."""
    before, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 1
    try:
        yield
    finally:
        numba.config.DISABLE_JIT = before


@settings(max_examples=25, deadline=None)
@few_values
def test_few_values_with_many_ties(
    data: Any, queries: int, gallery: int, dim: int, chunk: int, exclude: tuple[str, ...]
) -> None:
    top = data.draw(st.integers(0, 6))
    metric = data.draw(st.sampled_from(list(METRICS.values())))
    query, others, ids = drawn(data, queries, gallery, dim)
    values = metric.distances(torch.from_numpy(query).double(), torch.from_numpy(others).double()).numpy()
    found = rank(query, others, *ids, metric, exclude=exclude, top=top, chunk=chunk, device=CPU)
    assert_is_reference(found, values, ids, exclude, top)
    assert_same(found, rank(query, others, *ids, metric, exclude=exclude, top=top, chunk=chunk))
    blocks = [values[row : row + 2] for row in range(0, queries, 2)]
    with counted_by_torch():
        ready = rank_distances(blocks, *ids, exclude=exclude, top=top)
    assert_is_reference(ready, values, ids, exclude, top)
    assert_same(ready, rank_distances(blocks, *ids, exclude=exclude, top=top))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    gallery=st.integers(1, 250),
    dim=st.integers(1, 40),
    chunk=st.sampled_from([13, 100, 16_384]),
    block=st.sampled_from([64, 2**12, 2**22]),
    noise=st.sampled_from([0.0, 1e-16, 1e-12, 1e-8, 1e-6]),
    metric=st.sampled_from(["euclidean", "inner products"]),
)
def test_nearly_equal_items(  # noqa: PLR0917
    seed: int, queries: int, gallery: int, dim: int, chunk: int, block: int, noise: float, metric: str
) -> None:
    # Rows that are copies of a few, off by about what float32, or float64, can tell.
    query, others, ids = people(seed, queries, gallery, dim)
    generator = np.random.default_rng(seed)
    kinds = np.concatenate([query[:2], others[:4]]).astype(np.float64)
    rows = kinds[generator.integers(0, len(kinds), gallery)] * (1 + noise * generator.normal(size=(gallery, dim)))
    before = ranking_on_device.ENTRIES["cpu"]
    ranking_on_device.ENTRIES["cpu"] = block  # how many queries are in work at once, and how many pairs
    try:
        found = rank(query.astype(np.float64), rows, *ids, METRICS[metric], chunk=chunk, device=CPU)
        with counted_by_torch():
            near = nearest(query.astype(np.float64), rows, METRICS[metric], 7, chunk=chunk)
    finally:
        ranking_on_device.ENTRIES["cpu"] = before
    assert_same(found, rank(query.astype(np.float64), rows, *ids, METRICS[metric]))
    for ours, compiled in zip(near, nearest(query.astype(np.float64), rows, METRICS[metric], 7), strict=True):
        np.testing.assert_array_equal(ours, compiled)


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("chunk", [16_384, 1_300])
def test_inputs_that_mislead_float32(distortion: str, chunk: int) -> None:
    query, others, ids = people(seed=1, queries=9, gallery=2_600, dim=12)
    others[1_500:2_300] = others[300:1_100]
    query, others = DISTORTIONS[distortion](query), DISTORTIONS[distortion](others)
    for metric in METRICS.values():
        found = rank(query, others, *ids, metric, chunk=chunk, device=CPU)
        assert_same(found, rank(query, others, *ids, metric, chunk=chunk))


def test_a_whole_gallery_of_ties_and_one_of_copies_at_another_size() -> None:
    _, _, ids = people(seed=2, queries=30, gallery=1_500, dim=3)
    for value in (0.0, 0.1, 1e10):
        query, others = np.full((30, 40), value, dtype=np.float32), np.full((1_500, 40), value, dtype=np.float32)
        found = rank(query, others, *ids, euclidean(), device=CPU)
        assert_is_reference(found, np.zeros((30, 1_500)), ids, ("junk", "same_camera"), 10)


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_is_the_head_of_a_stable_sort(metric: str) -> None:
    query, others, _ = people(seed=9, queries=11, gallery=1_700, dim=5)
    query, others = np.round(query * 2), np.round(others * 2)
    values = METRICS[metric].distances(torch.from_numpy(query).double(), torch.from_numpy(others).double()).numpy()
    for chunk in (300, 16_384):
        with counted_by_torch():
            columns, farthest = nearest(query, others, METRICS[metric], 21, chunk=chunk)
        np.testing.assert_array_equal(columns, np.argsort(values, axis=1, kind="stable")[:, :21])
        np.testing.assert_array_equal(farthest, nearest(query, others, METRICS[metric], 21)[1])
    with counted_by_torch():
        assert nearest(query, others[:3], METRICS[metric], 21)[0].shape == (11, 3)


def test_threads_do_not_change_a_rank() -> None:
    query, others, ids = people(seed=5, queries=40, gallery=800, dim=64)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(rank(query, others, *ids, euclidean(), device=CPU))
    torch.set_num_threads(before)
    assert_same(*results)


def test_only_what_may_stand_before_a_match_is_computed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    query, others, ids = people(seed=6, queries=50, gallery=4_000, dim=32, pids=200)
    pairs = []
    settled = ranking_on_device._settled

    def counted(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        pairs.append(len(rows))
        return settled(left, right, rows, columns)

    monkeypatch.setattr(ranking_on_device, "_settled", counted)
    rank(query, others, *ids, euclidean(), device=CPU)
    assert sum(pairs) < 2 * 50 * (10 + 4_000 / 200)


def test_embeddings_that_leave_float64_are_refused() -> None:
    query, others, ids = people(seed=11, queries=3, gallery=5, dim=4)
    with pytest.raises(DataError, match="too large"):
        rank(query * np.float64(1e200), others * np.float64(1e200), *ids, euclidean(), device=CPU)


def test_compiled_loops_count_where_nothing_else_is_asked() -> None:
    assert not not_compiled()
    assert counting_device(None) is None
    assert announced(None) == ""
    assert counting_device(CPU) == CPU
    assert beside_the_cpu(CPU) is None
    assert beside_the_cpu(torch.device("cuda:1")) == torch.device("cuda:1")
    assert announced(torch.device("cuda:1")) == "ranks are counted by torch on cuda:1: the same ones"


# --- without compiled loops -------------------------------------------------------------------------------------------


def test_numba_that_is_told_not_to_compile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    query, others, ids = people(seed=3, queries=20, gallery=120, dim=6)
    compiled = rank(query, others, *ids, euclidean())
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert announced(counting_device(None)) == (
        "ranks are counted by torch on cpu, since NUMBA_DISABLE_JIT is set: the same ones"
    )
    monkeypatch.setattr(kernels, "visit", None)  # whoever calls it fails
    assert_same(compiled, rank(query, others, *ids, euclidean()))


def test_without_numba_scores_are_the_same_and_what_needs_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('no build for this Python')\n")
    query, gallery, ids = people(seed=3, queries=20, gallery=120, dim=6)
    sides = {"query": (query, *ids[:2]), "gallery": (gallery, *ids[2:])}
    for name, (rows, pids, cams) in sides.items():
        np.savez(tmp_path / f"{name}.npz", embeddings=rows, pids=pids, cams=cams)

    def evaluated(*arguments: str) -> subprocess.CompletedProcess[str]:
        files = ["--query", "query.npz", "--gallery", "gallery.npz", "--device", "cpu", "--json", "out.json"]
        return subprocess.run(
            [sys.executable, "-m", "reidbench", "evaluate", *files, *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    done = evaluated()
    assert done.returncode == 0, done.stderr
    reason = "numba cannot be imported (no build for this Python)"
    assert f"ranks are counted by torch on cpu, since {reason}: the same ones" in done.stderr
    written, usual = json.loads((tmp_path / "out.json").read_text()), reidbench.evaluate(*sides.values())
    assert {name: written[name] for name in usual.as_dict()} == usual.as_dict()
    assert written["cameras"] == usual.cameras

    refused = evaluated("--rerank", "k_reciprocal")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert f"is a compiled loop, and {reason}; mend numba's installation" in " ".join(refused.stderr.split())
