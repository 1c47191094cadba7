"""Embeddings and distances from elsewhere: the scores are those of plain loops, and no hostile file does harm."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import reidbench
from reidbench.cli.evaluate import evaluate
from reidbench.errors import DataError, OptionError
from reidbench.ranking.external_embeddings import Evaluation, evaluate_files
from tests.support.cases import cases
from tests.support.rankings import slow_scores

Arrays = dict[str, np.ndarray]
HOW = Evaluation()


def units(count: int, seed: int, *, identities: int = 6, dtype: Any = np.float32, lowest: int = 1) -> Arrays:
    generator = np.random.default_rng(seed)
    pids = generator.integers(lowest, identities + 1, count)
    centres = np.random.default_rng(99).normal(size=(identities + 2, 8))
    return {
        "embeddings": (centres[pids] + generator.normal(size=(count, 8))).astype(dtype),
        "pids": pids,
        "cams": generator.integers(1, 4, count),
    }


def save(folder, **parts):
    for name, arrays in parts.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return [folder / f"{name}.npz" for name in parts]


def slowly(query: Arrays, gallery: Arrays, distances: np.ndarray | None = None) -> dict[str, float]:
    """map_market, map_step and rank-1 by loops over queries and positives."""
    if distances is None:
        apart = query["embeddings"][:, None].astype(float) - gallery["embeddings"].astype(float)
        distances = (apart**2).sum(2)
    return slow_scores(distances, (query["pids"], query["cams"]), (gallery["pids"], gallery["cams"]))


def triple(part: Arrays) -> tuple[Any, Any, Any]:
    return part["embeddings"], part["pids"], part["cams"]


def close(scores: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_and_files_equal_plain_loops(tmp_path, dtype):
    query, gallery = units(40, 0, dtype=dtype), units(200, 1, dtype=dtype, lowest=-1)
    expected = slowly(query, gallery)
    close(reidbench.evaluate(triple(query), triple(gallery)).as_dict(), expected)
    files = save(tmp_path, query=query, gallery=gallery)
    close(evaluate_files(*files, None, None, HOW)[0].as_dict(), expected)
    for file, part in zip(files, (query, gallery), strict=True):
        safetensors.numpy.save_file(part, file.with_suffix(".safetensors"))
    tensors = [file.with_suffix(".safetensors") for file in files]
    close(evaluate_files(*tensors, None, None, HOW)[0].as_dict(), expected)


def test_given_distances_equal_plain_loops(tmp_path):
    query, gallery = units(40, 0), units(200, 1, lowest=-1)
    matrix = np.random.default_rng(2).integers(0, 20, (40, 200)).astype(np.float64)  # many ties: gallery order
    for part in (query, gallery):
        del part["embeddings"]
    np.save(tmp_path / "d.npy", matrix)
    files = save(tmp_path, query=query, gallery=gallery)
    close(evaluate_files(*files, None, tmp_path / "d.npy", HOW)[0].as_dict(), slowly(query, gallery, matrix))
    for wrong, message in (
        (np.where(matrix == matrix[3, 7], np.nan, matrix), "distances of query 0 holds nan"),
        (matrix[0], r"d.npy: .*shape \(200,\)"),
        (matrix.astype(np.int64), "float32 or float64, got int64"),
        (matrix[:0], r"expected \[40, 200\] .* got \[0, 200\]"),
    ):
        np.save(tmp_path / "d.npy", wrong)
        with pytest.raises(DataError, match=message):
            evaluate_files(*files, None, tmp_path / "d.npy", HOW)
    np.save(tmp_path / "d.npy", matrix.T)
    with pytest.raises(DataError, match=r"expected \[40, 200\] \(queries, gallery\), got \[200, 40\]"):
        evaluate_files(*files, None, tmp_path / "d.npy", HOW)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rerank": "k_reciprocal"}, "--rerank: cannot be combined"),
        ({"metric": "cosine", "train": files[0]}, "--metric and --train: cannot be combined"),
    ]
    for given, message in refused:
        with pytest.raises(OptionError, match=message):
            evaluate(*files, distances=tmp_path / "d.npy", **given)


def hostile(name, folder):
    """A query file that is wrong in one way."""
    file, good = folder / "query.npz", units(5, 0)
    rows = good["embeddings"]
    edits: dict[str, Callable[[], Any]] = {
        "nan": lambda: rows.__setitem__((3, 2), np.nan),
        "infinite": lambda: rows.__setitem__((4, 0), np.inf),
        "one dimension": lambda: good.update(embeddings=rows[:, 0]),
        "other width": lambda: good.update(embeddings=rows[:, :7]),
        "empty": lambda: good.update(embeddings=rows[:0], pids=good["pids"][:0], cams=good["cams"][:0]),
        "whole numbers": lambda: good.update(embeddings=rows.astype(np.int64)),
        "few pids": lambda: good.update(pids=good["pids"][:4]),
        "float pids": lambda: good.update(pids=good["pids"] + 0.5),
        "float16 pids": lambda: good.update(pids=good["pids"].astype(np.float16)),
        "texts": lambda: good.update(pids=good["pids"].astype(str)),
        "junk query": lambda: good.update(pids=np.array([1, 2, -1, 3, 4])),
        "no cams": lambda: good.pop("cams"),
        "huge pids": lambda: good.update(pids=np.full(5, 2**63 + 5, dtype=np.uint64)),
        "pids in a table": lambda: good.update(pids=np.ones((5, 1), dtype=np.int64)),
        "no match": lambda: good.update(pids=good["pids"] + 1000),
        "camids": lambda: good.update(camids=good.pop("cams"), paths=np.array(["a"] * 5)),
        "pickle": lambda: good.update(pids=np.array([Bomb()] * 5, dtype=object)),
        "truncated": lambda: None,
    }
    if name in edits:
        edits[name]()
        np.savez(file, **good)
    if name == "truncated":
        file.write_bytes(file.read_bytes()[:-200])
    elif name == "no archive":
        file.write_bytes(b"PK nothing")
    elif name in ("bomb", "surplus bytes"):
        header = io.BytesIO()
        shape, length = ((1 << 40, 512), 1000) if name == "bomb" else ((5, 8), 50_000_000)
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("embeddings.npy", header.getvalue() + bytes(length))
            for other in ("pids", "cams"):
                archive.writestr(f"{other}.npy", b"")
    return file


class Bomb:
    """An object whose unpickling ends the process."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(("name", "message"), cases(__file__, "hostile_files_name_their_fault"))
def test_hostile_files_name_their_fault(tmp_path, name, message):
    (gallery,) = save(tmp_path, gallery=units(30, 1))
    with pytest.raises(DataError, match=message):
        evaluate_files(hostile(name, tmp_path), gallery, None, None, HOW)


def test_arrays_of_every_kind_are_scored(tmp_path):
    query, gallery = (
        {**part, "embeddings": torch.from_numpy(part["embeddings"]).bfloat16().float().numpy()}
        for part in (units(40, 0), units(200, 1))  # rows that 16 bits hold exactly
    )
    rows, pids, cams = triple(query)
    tensor, expected = torch.from_numpy(rows), slowly(query, gallery)
    padded = np.pad(rows, ((0, 0), (3, 2)))
    for each in (
        tensor.bfloat16(),
        tensor.clone().requires_grad_(),
        rows.tolist(),
        np.asfortranarray(rows),
        padded[:, 3:-2],
        rows[::-1].copy()[::-1],
        rows.astype(">f4"),
        torch.nn.Parameter(tensor.T.contiguous()).T,
    ):
        close(reidbench.evaluate((each, pids, cams), triple(gallery)).as_dict(), expected)
    kinds = (pids.tolist(), cams.tolist()), (torch.from_numpy(pids), cams.astype(float)), (pids.astype(">i2"), cams)
    for ids in kinds:
        close(reidbench.evaluate((rows, *ids), triple(gallery)).as_dict(), expected)
    half = {**query, "embeddings": rows.astype(np.float16)}
    close(reidbench.evaluate(triple(half), triple(gallery)).as_dict(), slowly(half, gallery))
    tensors = {"embeddings": tensor.bfloat16(), "pids": torch.from_numpy(pids), "cams": torch.from_numpy(cams)}
    safetensors.torch.save_file(tensors, tmp_path / "q.safetensors")
    (file,) = save(tmp_path, gallery=gallery)
    close(evaluate_files(tmp_path / "q.safetensors", file, None, None, HOW)[0].as_dict(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, pids, cams: (rows,), r"query: expected \(embeddings, pids\).*, got 1"),
        (lambda rows, pids, cams: (rows, pids), "cams: None .*query, gallery"),
        (lambda rows, pids, cams: rows, "query: expected .*, got ndarray"),
        (lambda rows, pids, cams: (rows, pids, None), "cams: None .*query, gallery"),
        (lambda rows, pids, cams: (torch.from_numpy(rows).to("meta"), pids, cams), "query: embeddings"),
        (lambda rows, pids, cams: (torch.from_numpy(rows).to_sparse(), pids, cams), "query: embeddings"),
        (lambda rows, pids, cams: (np.ma.masked_greater(rows, 0), pids, cams), "query: embeddings .*masked"),
        (lambda rows, pids, cams: ([[1.0, 2.0], [3.0]], pids, cams), "query: embeddings"),
        (lambda rows, pids, cams: (rows.astype(complex), pids, cams), "query: embeddings .*complex128"),
        (lambda rows, pids, cams: (None, pids, cams), "query: embeddings .*object"),
        (lambda rows, pids, cams: (rows, torch.from_numpy(pids).bfloat16(), cams), "query: pids .*float32"),
        (lambda rows, pids, cams: (rows, pids, [2**53 + 2.0] * len(cams)), "query: cams .*float64"),
        (lambda rows, pids, cams: (rows, pids > 0, cams), "query: pids .*bool"),
    ],
)
def test_other_arguments_name_the_array(change, message):
    with pytest.raises(DataError, match=message):
        reidbench.evaluate(change(*triple(units(5, 0))), triple(units(30, 1)))


def test_arrays_without_cameras_have_intervals_and_each_query(tmp_path):
    query, gallery = units(40, 0), units(200, 1)
    apart = {**gallery, "cams": np.arange(200) + 10}
    scores = reidbench.evaluate(triple(query)[:2], triple(gallery)[:2])
    close(scores.as_dict(), slowly(query, apart))
    assert (scores.cameras, scores.own_rows) == ({}, 0)
    assert scores.per_query["ap_market"].mean() == pytest.approx(scores.map_market)
    assert scores.per_query["ap_step"].mean() == pytest.approx(scores.map_step)
    assert (scores.per_query["first"] == 0).mean() == pytest.approx(scores.r1)
    for name, (low, high) in scores.intervals.items():
        assert low <= scores.values[name] <= high
    assert set(scores.intervals) == {"map_market", "map_step", "r1", "minp", "r_precision", "map_at_r"}
    assert reidbench.evaluate(triple(query)[:2]).own_rows == 40, "each against all others"


def test_own_rows_of_one_array_leave_the_ranking():
    """Otherwise every query would have its own row at rank 1: random embeddings would score 100 %."""
    part = units(60, 0)
    part["embeddings"] = np.random.default_rng(5).normal(size=(60, 8))
    rows, pids, _ = triple(part)
    apart = {**part, "cams": np.arange(60)}  # the rule same_camera then excludes the query itself
    expected, both = slowly(apart, apart), (rows, pids, None)
    assert expected["r1"] < 0.5
    for pair in ([both], [both, both]):
        scores = reidbench.evaluate(*pair)
        close(scores.as_dict(), expected)
        assert (scores.own_rows, scores.as_dict()["own_rows"], scores.cameras) == (60, 60, {})
    close(reidbench.evaluate(triple(part)).as_dict(), slowly(part, part))
    assert reidbench.evaluate(triple(part)).own_rows == 60
    part_of = (rows[::-2], pids[::-2])
    with pytest.raises(DataError, match="parts of one array"):
        reidbench.evaluate((*part_of, None), both)
    reverse = reidbench.evaluate((*part_of, np.arange(60)[::-2]), (rows, pids, np.arange(60)))
    close(reverse.as_dict(), slowly({name: values[::-2] for name, values in apart.items()}, apart))
    halves = reidbench.evaluate((rows[:30], pids[:30], None), (rows[30:], pids[30:], None))
    copy = reidbench.evaluate(both, (rows.copy(), pids, None))
    assert (halves.own_rows, copy.own_rows, "own_rows" in copy.as_dict(), copy.r1) == (0, 0, False, 1.0)


@pytest.mark.parametrize("way", ["embeddings", "distances"])
def test_one_file_as_query_and_gallery(tmp_path, way):
    part = units(60, 0)
    distances = np.random.default_rng(1).random((60, 60)) + 1 - np.eye(60)
    np.save(tmp_path / "d.npy", distances)
    (file,) = save(tmp_path, both=part)
    (tmp_path / "link.npz").symlink_to(file)
    matrix = tmp_path / "d.npy" if way == "distances" else None
    how = Evaluation(exclude=("junk",))
    scores = evaluate_files(file, tmp_path / "link.npz", None, matrix, how)[0]
    apart = {**part, "cams": np.arange(60)}
    close(scores.as_dict(), slowly(apart, apart, None if matrix is None else distances))
    assert scores.own_rows == 60
    assert np.array(scores.cameras["queries"]).max(axis=1).sum() <= 60  # nobody is a positive of itself
    (file_copy,) = save(tmp_path, copy=part)
    if matrix is None:
        copy = evaluate_files(file, file_copy, None, None, how)[0]
        assert (copy.own_rows, copy.r1, copy.cameras) == (0, 1.0, scores.cameras)
    # A protocol that excludes the query itself identifies it by its place in a copy with equal labels.
    itself = Evaluation(exclude=("self",))
    assert evaluate_files(file, file_copy, None, matrix, itself)[0] == scores
    (others,) = save(tmp_path, others={**part, "cams": part["cams"][::-1]})
    with pytest.raises(DataError, match="excludes each query"):
        evaluate_files(file, others, None, matrix, itself)


def test_command_prints_and_writes_scores(tmp_path, reidbench_call):
    query, gallery = units(40, 0), units(200, 1, lowest=-1)
    files = save(tmp_path, query=query, gallery=gallery)
    arguments = ["evaluate", "--query", str(files[0]), "--gallery", str(files[1]), "--rerank", "none"]
    arguments += ["--json", str(tmp_path / "out.json"), "--per-query", str(tmp_path / "each.npz")]
    process = reidbench_call(*arguments)
    assert process.returncode == 0, process.stderr
    written, expected = json.loads((tmp_path / "out.json").read_text()), slowly(query, gallery)
    close(written, expected)
    assert f"{100 * expected['map_market']:.2f} %" in process.stdout
    scores = evaluate_files(*files, None, None, HOW)[0]
    assert set(written) == {*scores.as_dict(), "intervals", "cameras", "evaluation"}
    low, high = written["intervals"]["map_market"]
    assert 0 < low < expected["map_market"] < high < 1
    assert f"{100 * low:.2f} – {100 * high:.2f}" in process.stdout
    with np.load(tmp_path / "each.npz") as each:
        assert each["ap_market"].mean() == pytest.approx(expected["map_market"])
        assert (each["first"] == 0).mean() == pytest.approx(expected["r1"])


@pytest.mark.parametrize("option", ["--json", "--per-query"])
def test_no_input_is_overwritten(tmp_path, reidbench_main, monkeypatch, option):
    """By whatever name: the same path, a relative one, a link."""
    files = save(tmp_path, query=units(4, 0), gallery=units(30, 1))
    before = [file.read_bytes() for file in files]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.npz").symlink_to(files[1])
    arguments = ("evaluate", "--query", str(files[0]), "--gallery", str(files[1]))
    for out in (str(files[0]), str(files[1]), files[0].name, f"./x/../{files[1].name}", "link.npz"):
        code, output = reidbench_main(*arguments, option, out)
        assert (code, "is one of the input files" in output) == (2, True), output
    assert reidbench_main(*arguments, option, str(tmp_path))[0] == 2
    assert [file.read_bytes() for file in files] == before
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    for wrong in ((*arguments, option, "loop.npz"), ("evaluate", "--query", "loop.npz", "--gallery", "loop.npz")):
        code, output = reidbench_main(*wrong)
        assert (code, "loop.npz: " in output, "Traceback" in output) == (2, True, False), output
    assert reidbench_main(*arguments, option, "new.npz")[0] == 0


def test_missing_numba_is_an_error(tmp_path, reidbench_process):
    (tmp_path / "numba.py").write_text("raise ImportError('no build for this Python')\n")
    query, gallery = map(str, save(tmp_path, query=units(4, 0), gallery=units(30, 1)))
    failed = reidbench_process("evaluate", "--query", query, "--gallery", gallery, env={"PYTHONPATH": str(tmp_path)})
    assert (failed.returncode, "Traceback" in failed.stderr) == (2, False)
    assert all(word in failed.stderr for word in ("numba", "no build for this Python"))
