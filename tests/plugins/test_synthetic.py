"""The built-in dataset: files, identities, renderer, and pixels that are the same on every machine."""

import hashlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from numba import jit
from reidbench_datasets.synthetic import synthetic, synthetic_protocol, synthetic_val_protocol
from reidbench_datasets.synthetic.body import STANCE_COLUMNS
from reidbench_datasets.synthetic.outfits import DIFFICULTIES, sample_identity
from reidbench_datasets.synthetic.plan import GALLERY, QUERY, TRAIN, Shot, Tree, plan
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.raster import FAR, NOBODY, Lens, Light, Seen, rasterise, shade, stage
from reidbench_datasets.synthetic.renderer import Renderer
from reidbench_datasets.synthetic.sensor import develop
from reidbench_datasets.synthetic.wardrobe import dress

from reidbench import DataError, OptionError, compiled
from reidbench.plugins.catalogue import load
from tests.support.cases import cases

SMALL = {"identities": 12, "cameras": 3, "seed": 5}
DEFAULT = Tree(identities=500, cameras=6, difficulty="normal", seed=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def split(root):
    return synthetic(root, **SMALL)


# Pixels


@pytest.mark.parametrize(
    ("difficulty", "shot", "expected"),
    [
        ("easy", Shot(TRAIN, 1, 1, "person", 1, 0), "e8baa14b3afce718"),
        ("normal", Shot(QUERY, 400, 6, "person", 400, 0), "5d87b2cee47613e6"),
        ("hard", Shot(GALLERY, 401, 3, "person", 401, 1), "8ab5b137a26d6b32"),
        ("normal", Shot(GALLERY, 0, 2, "distractor", 7, 1), "df2028c3cb41218b"),
        ("normal", Shot(GALLERY, -1, 4, "junk", 3, 0), "ab5b865364e92863"),
    ],
)
def test_pixels_are_the_same_on_every_machine(difficulty, shot, expected):
    pixels, _ = Renderer(Tree(500, 6, difficulty, 0)).pixels(shot)
    assert pixels.shape == (128, 64, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == expected


def test_an_image_does_not_depend_on_order_or_threads():
    shots = [shot for shot in plan(Tree(12, 6, "normal", 3)) if shot.kind == "person"][::15]
    one_by_one = [Renderer(Tree(12, 6, "normal", 3)).jpeg(shot) for shot in shots]
    renderer = Renderer(Tree(900, 6, "normal", 3))
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(renderer.jpeg, shots[::-1]))
    assert backwards[::-1] == one_by_one
    assert len(set(one_by_one)) == len(shots)


def test_another_seed_renders_other_people():
    shot = Shot(TRAIN, 1, 1, "person", 1, 0)
    assert Renderer(Tree(12, 2, "normal", 0)).jpeg(shot) != Renderer(Tree(12, 2, "normal", 1)).jpeg(shot)


def test_the_compiler_does_not_fuse_multiplication_and_addition():
    @compiled
    def both(x, y, z):
        return x * y + z

    tiny = 1.0 / 1073741824.0
    assert both(1.0 + tiny, 1.0 - tiny, -1.0) == 0.0, "a fused multiply-add would give -2^-60"
    Renderer(Tree(12, 2, "normal", 0)).jpeg(Shot(TRAIN, 1, 1, "person", 1, 0))
    for function in (rasterise, develop):
        # Compiled again with the same options, since numba shows no machine code that is cached on disk.
        again = jit(**function.targetoptions)(function.py_func)
        for signature in function.signatures:
            again.compile(signature)
            assert not re.search(r"\bvf?n?m(add|sub)|\bfn?m(add|sub)|\bfml[as]", again.inspect_asm(signature))


@given(st.integers(0, 2**31), st.integers(1, 50))
def test_random_numbers_are_within_bounds(seed, below):
    rng = RandomNumbers(seed, "bounds")
    assert all(0 <= rng.integer(below) < below for _ in range(20))
    assert all(-1.0 <= rng.uniform(-1.0, 1.0) < 1.0 for _ in range(20))
    assert sorted(rng.shuffled(range(below))) == list(range(below))


# Geometry


def _shaded(figure, yaw):
    staged, _ = stage(figure.parts, figure.skeleton, np.zeros(STANCE_COLUMNS), yaw, 0.03)
    seen = Seen(np.full((256, 128), FAR), np.full((256, 128), NOBODY, dtype=np.int16))
    lens, image = Lens(130.0, 64.0, 240.0), np.zeros((128, 64, 3))
    rasterise(staged, lens, seen)
    light = Light(np.array([0.0, 0.0, 1.0]), np.ones(3), np.zeros(3), 0.0)
    shade(staged, figure.layers, lens, seen, light, image)
    return image


# Identities


@pytest.mark.parametrize("name", ["normal", "hard"])
def test_lookalikes_differ_in_a_visible_detail(name):
    difficulty = DIFFICULTIES[name]
    alike = 0
    for number in range(150):
        first = number - number % difficulty.group
        build, outfit = sample_identity(0, difficulty, "person", number)
        original_build, original = sample_identity(0, difficulty, "person", first)
        if number == first or build != original_build:
            continue
        alike += 1
        changed = [field for field in vars(outfit) if getattr(outfit, field) != getattr(original, field)]
        assert 1 <= len(changed) <= 3, changed
        figures = dress(build, outfit), dress(build, original)
        images = [np.concatenate([_shaded(figure, yaw) for yaw in (0.0, 0.3, 0.5, 0.8)]) for figure in figures]
        visible = (np.abs(images[0] - images[1]).max(2) > 0.002).sum()
        assert visible > 20, (number, changed)
    expected = 150 * difficulty.lookalikes * (difficulty.group - 1) / difficulty.group
    assert 0.7 * expected < alike < 1.3 * expected


# The tree


@pytest.mark.parametrize(("identities", "cameras"), [(10, 2), (500, 6), (60, 9)])
def test_the_plan_resembles_market1501(identities, cameras):
    shots = plan(Tree(identities, cameras, "normal", 0))
    assert len({shot.name for shot in shots}) == len(shots)
    assert all(re.fullmatch(r"\w+/(-1|\d{4})_c[1-9]s\d_\d{6}_\d{2}\.jpg", shot.name) for shot in shots)
    train, query, gallery = ([shot for shot in shots if shot.folder == part] for part in (TRAIN, QUERY, GALLERY))
    assert {shot.pid for shot in train} == set(range(1, identities * 7 // 10 + 1))
    assert {shot.pid for shot in query} == set(range(identities * 7 // 10 + 1, identities + 1))
    assert {shot.pid for shot in gallery} == {shot.pid for shot in query} | {-1, 0}
    queries = [(shot.pid, shot.camera) for shot in query]
    assert len(set(queries)) == len(queries)
    seen = {(shot.pid, shot.camera) for shot in gallery if shot.pid > 0}
    assert seen == set(queries)
    assert all(any(pid == other and camera != there for other, there in seen) for pid, camera in queries)


def test_the_default_plan_has_the_documented_size():
    shots = plan(DEFAULT)
    train = [shot.pid for shot in shots if shot.folder == TRAIN]
    per_identity = np.bincount(train)[1:]
    assert len(shots) <= 7000
    assert 10 <= per_identity.mean() <= 12
    assert 3 <= (per_identity == 1).sum() <= 30
    assert {shot.camera for shot in shots} == {1, 2, 3, 4, 5, 6}


def test_files_are_jpegs_in_the_folder_of_their_options(root, split):
    assert split.train.root == root / "synthetic" / Tree(12, 3, "normal", 5).folder
    assert split.counts["train_identities"] == 8
    assert split.counts["query_identities"] == 4
    assert split.counts["junk"] == split.counts["distractors"] == 8
    assert split.counts["cameras"] == 3
    for samples in (split.train, split.query, split.gallery):
        for image in range(0, len(samples), 5):
            assert simplejpeg.decode_jpeg(samples.path(image).read_bytes()).shape == (128, 64, 3)
            name = Path(str(samples.images[image])).name
            assert int(name.split("_")[0]) == samples.pids[image]
            assert int(name.split("_c")[1][0]) == samples.cams[image]


def test_the_jpeg_shows_the_pixels():
    renderer = Renderer(DEFAULT)
    shot = Shot(TRAIN, 1, 1, "person", 1, 0)
    pixels, quality = renderer.pixels(shot)
    assert 50 < quality < 100
    decoded = simplejpeg.decode_jpeg(renderer.jpeg(shot)).astype(int)
    assert np.abs(decoded - pixels).mean() < 10


def test_a_second_call_only_lists(root, split):
    files = sorted(split.train.root.rglob("*.jpg"))
    before = [file.stat().st_mtime_ns for file in files]
    again = synthetic(root, **SMALL)
    assert again.digest == split.digest
    assert [file.stat().st_mtime_ns for file in files] == before


def test_listing_imports_neither_compiler_nor_torch(root, split):
    code = (
        "import sys, pathlib, reidbench_datasets.synthetic as s;"
        f"print(s.synthetic(pathlib.Path({str(root)!r}), **{SMALL!r}).digest, {{'numba', 'torch'}} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split(maxsplit=1) == [split.digest, "set()\n"]


def test_holdout_never_shows_test_identities(root, split):
    held = synthetic(root, **SMALL, holdout=0.25)
    assert len(np.unique(held.train.pids)) == 6
    assert len(np.unique(held.gallery.pids)) == 2
    assert set(held.train.pids.tolist()) | set(held.gallery.pids.tolist()) == set(split.train.pids.tolist())
    assert not set(held.train.pids.tolist()) & set(held.query.pids.tolist())


def test_the_seed_of_the_holdout_is_that_of_the_people_by_default(root):
    held = synthetic(root, **SMALL, holdout=0.25)
    assert held.digest == synthetic(root, **SMALL, holdout=0.25, holdout_seed=SMALL["seed"]).digest
    seeds = {synthetic(root, **SMALL, holdout=0.25, holdout_seed=seed).digest for seed in range(6)}
    assert len(seeds) > 3
    # An id names these texts; they are those of before the option was added.
    identity = "synthetic_val(identities=9, cameras=6, difficulty=normal, seed=3, holdout=0.2, views=center_flip)"
    for text in ("synthetic_val(identities=9, seed=3)", "synthetic_val(identities=9, seed=3, holdout_seed=none)"):
        assert load().resolve("protocol", text).identity == identity
    given = load().resolve("protocol", "synthetic_val(identities=9, seed=3, holdout_seed=3)")
    assert given.identity == identity.replace("views", "holdout_seed=3, views")


def test_two_threads_and_leftovers_of_a_killed_process(tmp_path):
    tree = Tree(10, 2, "easy", 1)
    unfinished = tmp_path / "synthetic" / f".{tree.folder}.unfinished"
    (unfinished / TRAIN).mkdir(parents=True)
    (unfinished / TRAIN / "0001_c1s1_000000_00.jpg").write_bytes(b"half")
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(synthetic, tmp_path, identities=10, cameras=2, difficulty="easy", seed=1) for _ in range(2)
        ]
        one, two = (call.result() for call in calls)
    assert one.digest == two.digest
    assert not unfinished.exists()
    assert (one.train.path(0)).stat().st_size > 500


def test_a_missing_image_is_named(tmp_path):
    rendered = synthetic(tmp_path, identities=10, cameras=2)
    rendered.query.path(1).unlink()
    with pytest.raises(DataError, match=re.escape(str(rendered.query.images[1]))):
        synthetic(tmp_path, identities=10, cameras=2)


def test_a_root_that_cannot_be_written_to(tmp_path):
    (tmp_path / "synthetic").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot write its"):
        synthetic(tmp_path, identities=10)


@pytest.mark.parametrize(("options", "message"), cases(__file__, "options_out_of_range"))
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        synthetic(tmp_path, **options)
    assert not list(tmp_path.iterdir())


# Protocols


def test_protocols_pass_the_dataset_options_on():
    protocol = synthetic_protocol(identities=40, difficulty="hard", seed=3, views="original")
    assert protocol.dataset == "synthetic(identities=40, cameras=6, difficulty=hard, seed=3)"
    assert protocol.views == "original"
    assert protocol.exclude == ("junk", "same_camera")
    assert protocol.defaults == {"weights": None, "height": 64, "width": 32}
    held = synthetic_val_protocol(identities=40)
    assert held.dataset == "synthetic(identities=40, cameras=6, difficulty=normal, seed=0, holdout=0.2)"
    held = synthetic_val_protocol(identities=40, holdout_seed=7)
    assert held.dataset.endswith("seed=0, holdout=0.2, holdout_seed=7)")
