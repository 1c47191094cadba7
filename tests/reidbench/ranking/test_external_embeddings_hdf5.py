"""HDF5 embeddings with their CSV: scored as the same arrays, and errors that name file and line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import reidbench
from reidbench.errors import DataError, OptionError
from reidbench.ranking.external_embeddings import Evaluation, evaluate_files, read_hdf5

Process = Callable[..., subprocess.CompletedProcess[str]]


def write(folder: Path, part: str, count: int, seed: int, lowest: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    pids, cams = draw.integers(lowest, 7, count), draw.integers(1, 7, count)
    rows = (np.random.default_rng(9).normal(size=(9, 8))[pids] + draw.normal(size=(count, 8))).astype(np.float32)
    with h5py.File(folder / f"{part}.h5", "w") as file:
        file["emb"] = rows
    names = [f"bounding_box_test/{pid:04d}_c{cam}s1_{n:06d}_00.jpg" for n, (pid, cam) in enumerate(zip(pids, cams))]  # noqa: B905
    (folder / f"{part}.csv").write_text("".join(f"{pid},{name}\n" for pid, name in zip(pids, names, strict=True)))
    return rows, pids, cams


def test_hdf5_scores_equal_those_of_the_arrays(tmp_path: Path, reidbench_process: Process) -> None:
    query, gallery = write(tmp_path, "q", 30, 0), write(tmp_path, "g", 90, 1, lowest=-1)
    expected = reidbench.evaluate(query, gallery).as_dict()
    files = [tmp_path / "q.h5", tmp_path / "g.h5"]
    assert evaluate_files(*files, None, None, "mean", Evaluation())[0].as_dict() == expected
    (tmp_path / "q.csv").rename(tmp_path / "elsewhere.csv")
    asked = ["evaluate", "--query", str(files[0]), "--gallery", str(files[1])]
    done = reidbench_process(*asked, "--query-csv", str(tmp_path / "elsewhere.csv"))
    assert done.returncode == 0, done.stderr
    assert f"{100 * expected['map_market']:.2f} %" in done.stdout
    done = reidbench_process(*asked)
    assert done.returncode == 2
    assert "q.csv: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_of_mars(tmp_path: Path) -> None:
    write(tmp_path, "q", 2, 0)
    (tmp_path / "q.csv").write_text(
        "00-1,bbox_test/00-1/00-1C2T0001F001.jpg\n0003,bbox_test/0003/0003C6T0002F010.jpg\n"
    )
    found = read_hdf5(tmp_path / "q.h5", None)
    assert (found["pids"].tolist(), found["cams"].tolist()) == ([-1, 3], [2, 6])


def test_names_without_a_pid(tmp_path: Path) -> None:
    write(tmp_path, "q", 2, 0)
    (tmp_path / "q.csv").write_text("7,shop_0002_c3s1_0.jpg\n-1,-1_c2s1_0.jpg\n")
    found = read_hdf5(tmp_path / "q.h5", None)
    assert (found["pids"].tolist(), found["cams"].tolist()) == ([7, -1], [3, 2])


def test_missing_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "q", 2, 0)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(OptionError, match=r'pip install "reidbench\[h5\]"'):
        read_hdf5(tmp_path / "q.h5", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,a.jpg,x", "q.csv: line 1: expected a pid and a file name, got 3 columns"),
        ("one,0001_c1s1_0.jpg", "q.csv: line 1: pid 'one'"),
        ("9" * 30 + ",0001_c1s1_0.jpg", "q.csv: line 1: pid '999"),
        ("1,portrait.jpg", "q.csv: line 1: the name 'portrait.jpg' has no camera"),
        ("2,0001_c1s1_0.jpg", "q.csv: line 1: the pid is 2, but the name '0001_c1s1_0.jpg' has 0001"),
        ("0,x/-1_c1s1_0.jpg", "q.csv: line 1: the pid is 0, but the name '-1_c1s1_0.jpg' has -1"),
        ("-1,0000_c1s1_0.jpg", "q.csv: line 1: the pid is -1, but the name .* has 0000"),
        ("1,0003C6T0002F010.jpg", "q.csv: line 1: the pid is 1, but the name .* has 0003"),
        ("1,00-1C6T0002F010.jpg", "q.csv: line 1: the pid is 1, but the name .* has 00-1"),
        ("1,0001_c1s1_0.jpg", "expected 2 pids, one for each unit, got 1"),
    ],
)
def test_unusable_csv_names_its_line(line: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "q", 2, 0)
    write(tmp_path, "g", 9, 1)
    (tmp_path / "q.csv").write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        evaluate_files(tmp_path / "q.h5", tmp_path / "g.h5", None, None, "mean", Evaluation())


def hostile(name: str, file: Path) -> None:
    file.unlink(missing_ok=True)
    if name == "no file of its kind":
        file.write_bytes(b"nothing")
        return
    with h5py.File(file, "w") as opened:
        made: dict[str, Callable[[], Any]] = {
            "empty": lambda: opened.create_group("other"),
            "a link": lambda: opened.__setitem__("emb", h5py.ExternalLink("/etc/other.h5", "emb")),
            "huge": lambda: opened.create_dataset("emb", (1 << 40, 128), dtype="f4", chunks=(1, 128)),
            "objects": lambda: opened.create_dataset("emb", (2,), dtype=h5py.string_dtype()),
            "outside": lambda: opened.create_dataset("emb", (2, 8), "f4", external=[("/etc/passwd", 0, 64)]),
            "whole numbers": lambda: opened.create_dataset("emb", data=np.ones((2, 8), dtype=np.int64)),
            "nan": lambda: opened.create_dataset("emb", data=np.full((2, 8), np.nan)),
        }
        made[name]()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no file of its kind", "q.h5: cannot be read"),
        ("empty", "q.h5: cannot be read: it has no array 'emb' of its own; it has other"),
        ("a link", "no array 'emb' of its own"),
        ("huge", r"emb has shape \(1099511627776, 128\) of float32, .* GiB; expected numbers"),
        ("objects", "expected numbers"),
        ("outside", "emb is stored in other files"),
        ("whole numbers", "must be float32 or float64 .*got int64"),
        ("nan", "q.h5: row 0 of the embeddings is not finite"),
    ],
)
def test_hostile_files_name_their_fault(name: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "q", 2, 0)
    write(tmp_path, "g", 9, 1)
    hostile(name, tmp_path / "q.h5")
    with pytest.raises(DataError, match=message):
        evaluate_files(tmp_path / "q.h5", tmp_path / "g.h5", None, None, "mean", Evaluation())
