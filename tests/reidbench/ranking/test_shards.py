"""Galleries in several files: the rankings of one array, in memory for labels alone; mistakes name the file."""

import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidbench import build
from reidbench.errors import OptionError
from reidbench.ranking.external_embeddings import Evaluation, evaluate_files, read_shards
from reidbench.utils.arrays import MappedRows
from tests.reidbench.ranking.test_rank import Manhattan
from tests.support.rankings import rank_both

RULES = ("junk", "same_camera")


def write_shards(folder, parts, pids, cams):
    folder.mkdir(exist_ok=True)
    files, first = [], 0
    for number, part in enumerate(parts):
        files.append(folder / f"shard-{number:04d}.npy")
        np.save(files[-1], part)
        lines = [f'"a, {row}.jpg",{pids[row]},{cams[row]}' for row in range(first, first + len(part))]
        files[-1].with_suffix(".csv").write_text("\n".join(["path,pid,camid", *lines]) + "\n")
        first += len(part)
    return files


@pytest.fixture
def gallery(tmp_path):
    """Three shards of unequal sizes, and q.npz with queries of their identities."""
    generator = np.random.default_rng(0)
    rows, pids, cams = generator.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 7 - 1, np.arange(60) % 3
    np.savez(tmp_path / "q.npz", embeddings=rows[:9] + 1, pids=np.arange(9) % 5 + 1, cams=cams[:9])
    np.savez(tmp_path / "g.npz", embeddings=rows, pids=pids, cams=cams)
    return write_shards(tmp_path, [rows[:30], rows[30:31], rows[31:]], pids, cams)


@st.composite
def cut_galleries(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Return the sizes of 1, 2 or 7 shards, a chunk of the ranking, and a seed."""
    sizes = draw(st.sampled_from([1, 2, 7]).flatmap(lambda n: st.lists(st.integers(1, 40), min_size=n, max_size=n)))
    return sizes, draw(st.sampled_from([3, 16, 64, 16_384])), draw(st.integers(0, 2**31))


@settings(max_examples=30)
@given(cut_galleries())
def test_shards_rank_as_one_array(tmp_path_factory, case):
    sizes, chunk, seed = case
    generator = np.random.default_rng(seed)
    # Few different rows, so that ties cross the shards: gallery order decides, among positives and in the top.
    rows = generator.integers(0, 3, (sum(sizes), 2)).astype(generator.choice([np.float32, np.float64]))
    query = generator.integers(0, 3, (5, 2)).astype(np.float32)
    pids, cams = generator.integers(-1, 4, len(rows)), generator.integers(0, 2, len(rows))
    ids = generator.integers(1, 4, 5), generator.integers(0, 2, 5), pids, cams
    files = write_shards(tmp_path_factory.mktemp("s"), np.split(rows, np.cumsum(sizes)[:-1]), pids, cams)
    metric = build("metric", generator.choice(["euclidean", "cosine"]))
    expected = rank_both(query, rows, *ids, metric, exclude=RULES, chunk=chunk)
    found = rank_both(query, MappedRows(files), *ids, metric, exclude=RULES, chunk=chunk)
    for name, array in vars(expected.ranking).items():
        assert np.array_equal(array, getattr(found.ranking, name)), name
        assert np.array_equal(getattr(expected.with_junk, name), getattr(found.with_junk, name)), name


def test_shards_score_as_one_file(gallery, tmp_path, reidbench_main):
    for name, of in (("g", "g.npz"), ("s", "shard-*.npy")):
        ended = reidbench_main(
            "evaluate", f"--query={tmp_path / 'q.npz'}", f"--gallery={tmp_path / of}", f"--json={tmp_path / name}"
        )
        assert ended == (0, "")
    shards, whole = (json.loads((tmp_path / name).read_text()) for name in ("s", "g"))
    inputs = [each.pop("evaluation")["inputs"].keys() for each in (shards, whole)]
    assert inputs == [{"query"}, {"query", "gallery"}]
    assert shards == whole
    with np.load(tmp_path / "g.npz") as whole:
        assert np.array_equal(read_shards(gallery).pids, whole["pids"])


def test_memory_is_for_labels_alone(tmp_path):
    peaks = []
    for count in (20_000, 60_000):
        parts = [np.full((count // 4, 64), shard, np.float32) for shard in range(4)]
        files = write_shards(tmp_path / str(count), parts, np.arange(count), np.arange(count))
        query, ids = np.ones((2, 64), np.float32), np.array([1, 2])
        tracemalloc.start()
        units = read_shards(files)
        rank_both(query, units.embeddings, ids, ids, units.pids, units.cams, build("metric", "euclidean"), chunk=4096)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 40_000 <= 64  # bytes for each item, whose embedding alone has 256


def edit(file, old, new):
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: files[1].unlink(), r"shard-0001\.npy: is missing"),
        (lambda files: files[2].unlink(), r"shard-0002\.npy: is missing"),  # its list is there
        (lambda files: [file.unlink() for file in files], r"shard-\*\.npy: there is no such file"),
        (lambda files: np.save(files[2], np.ones((29, 5), np.float32)), r"shard-0002\.npy.* 4 columns .* got 5"),
        (lambda files: np.save(files[1], np.ones((1, 4))), r"shard-0001\.npy.*float32 of .*got 4 columns of float64"),
        (lambda files: np.save(files[0], np.ones((30, 4), int)), r"shard-0000\.npy: expected float32 or float64"),
        (lambda files: np.save(files[0], np.ones(30, np.float32)), r"shard-0000\.npy: expected a matrix"),
        (lambda files: np.save(files[2], np.full((29, 4), np.nan, np.float32)), r"shard-0002\.npy: row 0 holds nan"),
        (lambda files: np.save(files[2], np.ones((28, 4), np.float32)), r"shard-0002\.csv: lists 29 .*npy has 28 rows"),
        (lambda files: files[1].write_bytes(files[1].read_bytes()[:-4]), r"shard-0001\.npy: cannot be read"),
        (lambda files: files[1].with_suffix(".csv").unlink(), r"shard-0001\.csv: cannot be read"),
        (lambda files: edit(files[2].with_suffix(".csv"), "pid,camid", "pid,cam"), r"shard-0002\.csv.*path,pid,camid"),
        (lambda files: edit(files[0].with_suffix(".csv"), ",5,", ",five,"), r"shard-0000\.csv.*five"),
    ],
)  # fmt: skip
def test_a_shard_that_does_not_fit_is_named(gallery, reidbench_main, damage, message):
    damage(gallery)
    folder = gallery[0].parent
    code, error = reidbench_main("evaluate", f"--query={folder / 'q.npz'}", f"--gallery={folder / 'shard-*.npy'}")
    assert code == 2
    assert re.search(message, error), error


def test_what_needs_all_embeddings_is_refused_by_name(gallery, tmp_path):
    for how, name in ((Evaluation(rerank="k_reciprocal"), "k_reciprocal"), (Evaluation("xqda"), "xqda")):
        train = tmp_path / "q.npz" if name == "xqda" else None
        with pytest.raises(OptionError, match=name):
            evaluate_files(tmp_path / "q.npz", gallery, train, None, how)
    units, ids = read_shards(gallery), np.array([1])
    with pytest.raises(OptionError, match="Manhattan"):
        rank_both(np.ones((1, 4), np.float32), units.embeddings, ids, ids, units.pids, units.cams, Manhattan())
