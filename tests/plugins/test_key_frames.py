"""Key frames: evenly spaced, and those of drawn walkers whose phase is known."""

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from reidbench_datasets.key_frames import cycle_frames, energy_frames, even_frames
from reidbench_datasets.mars import mars
from reidbench_datasets.mars_cycles import CYCLES, synthesize
from reidbench_datasets.synthetic import body, scene
from reidbench_datasets.synthetic.plan import Tree
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.renderer import Renderer

from reidbench import DataError, OptionError
from tests.plugins.test_mars import write_tree
from tests.support.trees import units_of

RATE, TURN = 25.0, 24  # frames in a second and in a turn of the gait, which is two steps
LENGTH = 50


def walker(monkeypatch, pid, phase):
    """Return the pixels [50, 128, 64, 3] of a person who walks across the image; ``phase`` is that of the first."""
    renderer, stance = Renderer(Tree(5, 1, "normal", 0)), scene.sample_stance
    frames = []
    for number in range(LENGTH):

        def walking(rng, build, turns=phase + number / TURN):
            values = stance(rng, build)
            values[body.PHASE], values[body.STRIDE], values[body.SWING] = turns, build.stride, build.swing
            return values

        with monkeypatch.context() as patch:
            patch.setattr(scene, "sample_stance", walking)
            cast = scene.Cast(renderer.figure("person", pid), scene.Framing(0.9, 0, 0), 0.25, renderer.passers[0])
            random = RandomNumbers(0, "walker", pid)
            frames.append(scene.render_pixels(renderer.cameras[0], renderer.difficulty, random, cast))
    return np.stack(frames)


def steps_from(phase, frames):
    """Return by how many frames each of four key frames misses the phases of most, middle, least, middle motion.

    The legs pass each other fastest at the phases 0 and 1/2, and rest at 1/4 and 3/4.
    """
    distance = (phase * TURN + frames - TURN / 8 * np.arange(4)) % (TURN / 2)
    return np.minimum(distance, TURN / 2 - distance)


def test_the_phase_of_drawn_walkers_is_found(monkeypatch):
    for pid, phase in ((1, 0.0), (2, 0.1), (3, 0.37)):
        grey = walker(monkeypatch, pid, phase).mean(axis=3).reshape(LENGTH, 64, 2, 32, 2).mean(axis=(2, 4))
        frames = cycle_frames(grey.astype(np.uint8), RATE)
        assert len(frames) == 4
        assert steps_from(phase, frames).max() <= 1, (pid, frames)


def test_a_wave_has_its_extrema_as_key_frames():
    times = np.arange(60)
    frames = energy_frames(2 + np.sin(2 * np.pi * times / 12), RATE)
    assert ((frames - np.array([3, 6, 9, 12])) % 12 <= 1).all()
    assert (np.diff(frames) == 3).all()
    assert not len(energy_frames(np.ones(5), RATE)), "too short for any step"
    assert not len(cycle_frames(np.zeros((7, 64, 32), dtype=np.uint8), RATE))


@given(lengths=st.lists(st.integers(1, 200), min_size=1), count=st.integers(1, 9))
def test_even_frames_are_spread_over_a_tracklet(lengths, count):
    for length, frames in zip(lengths, even_frames(np.array(lengths), count), strict=True):
        assert len(frames) == min(length, count)
        gaps = np.diff([-1 - frames[0], *frames, 2 * length - 1 - frames[-1]])
        assert gaps.min() > 0
        assert gaps.max() - gaps.min() <= max(1, length / count)


def test_tracklets_of_mars_are_reduced_in_every_part(monkeypatch, tmp_path):
    tracklets = [(LENGTH, 2, 1), (9, 2, 5), (1, 7, 2)]
    tree = write_tree(tmp_path / "mars", train=tracklets)
    for number, pixels in enumerate(walker(monkeypatch, 1, 0.0), start=1):
        (tree / f"bbox_train/0002/0002C1T0002F{number:03d}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    whole, even = mars(tree, frames="per_tracklet"), mars(tree, frames="per_tracklet", key_frames=4)
    assert list(map(len, units_of(even.train))) == [4, 4, 1]
    assert even.train.name_digest == whole.train.name_digest, "the same data, real or not"
    assert even.train.digest != whole.train.digest
    assert not {"train", "query", "gallery"} & even.expected.keys()
    two = mars(tree, key_frames=2)
    assert [len(two.train), *map(len, units_of(two.query))] == [2 + 2 + 1, 2, 2, 2]
    black = simplejpeg.encode_jpeg(np.zeros((128, 64, 3), dtype=np.uint8))
    for file in tree.glob("bbox_*/*/*.jpg"):
        if not file.stat().st_size:
            file.write_bytes(black)
    images = list(synthesize(tmp_path / "out", data=str(tmp_path)))
    assert images[-1][0] == images[-1][1] == 60 + len(whole.gallery.images)
    listed = mars(tree, frames="per_tracklet", key_frames=4, cycles=tmp_path / "out" / CYCLES)
    chosen = np.array([int(name[-7:-4]) - 1 for name in units_of(listed.train)[0]])
    assert steps_from(0.0, chosen).max() <= 1
    assert units_of(listed.train)[1:] == units_of(even.train)[1:], "a black tracklet has no cycle"
    (tmp_path / "other.txt").write_text("0042C1T0002F001.jpg\n")
    with pytest.raises(DataError, match=r"other\.txt: names no image"):
        mars(tree, key_frames=4, cycles=tmp_path / "other.txt")
    with pytest.raises(OptionError, match="cycles: needs key_frames"):
        mars(tree, cycles=tmp_path / "other.txt")
