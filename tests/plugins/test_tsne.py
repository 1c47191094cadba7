"""The section ``tsne``: seeded, a lowered perplexity noted, pictures only on request."""

import numpy as np
from reidbench_reports import tsne
from reidbench_reports.combinations import best_trained_first
from reidbench_reports.tsne import embed, paint

from reidbench import Samples
from reidbench.reports.artifacts import RunFiles
from reidbench.utils.machine import local_machine
from tests.support.parts import build_part
from tests.support.records import make_record


def test_distant_identities_are_distant_on_the_map():
    draw = np.random.default_rng(0)
    rows = np.concatenate([draw.normal(size=(20, 8)), draw.normal(size=(20, 8)) + 30]).astype(np.float32)
    places = embed(rows, 10, 0, 250)
    one, other = places[:20], places[20:]
    across = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert across > 2 * max(one.std(), other.std())
    np.testing.assert_array_equal(places, embed(rows, 10, 0, 250))


def test_the_map_shows_each_image_at_its_place(ran):
    gallery: Samples = ran[1].split(ran[0][0]).gallery
    shown = np.flatnonzero(gallery.pids > 0)[:6]
    places = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    board = paint(places, gallery, shown, side=240)
    assert board.shape == (240, 240, 4)
    assert {int(board[0, 0, 3]), int(board[-1, -1, 3]), int(board[0, -1, 3])} == {255}
    assert board[60, 60, 3] == 0  # nothing lies there


def test_a_lowered_perplexity_is_noted(ran, monkeypatch, capsys):
    monkeypatch.setattr(tsne, "STEPS", 250)
    part = build_part("tsne(images=30)", ran[0], ran[1])
    assert part.notes == [
        "batch_hard: 30 images, perplexity 25 (lowered from 30), seed 0.",
        "Shown: 1 of 2 runs (option most).",
    ]
    assert capsys.readouterr().err.startswith("t-SNE of batch_hard: 30 images, perplexity 25")
    (figure,) = part.figures
    assert not figure.axes[0].images
    dots = [len(np.asarray(each.get_offsets())) for each in figure.axes[0].collections]
    assert (sum(dots), len(dots)) == (30, 1 + tsne.IDENTITIES)  # grey, and identities in colour
    assert dots[1:] == sorted(dots[1:], reverse=True)


def test_a_trained_run_comes_before_better_untrained_ones():
    untrained, trained = (
        make_record(loss, scores={"map_market": score}) for loss, score in (("none", 0.9), ("a", 0.1))
    )
    assert best_trained_first([untrained, trained]) == [trained]
    assert best_trained_first([untrained]) == [untrained]


def test_nothing_is_mapped_where_no_figure_is_shown():
    part = build_part("tsne", [make_record()], RunFiles([], local_machine(), figures=False))
    assert (part.figures, ["--plots" in note for note in part.notes]) == ([], [True])
