"""How long a plan takes: only what is left counts, and a clock of our own makes the sums exact."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reidbench.images import pixel_placement as tiers
from reidbench.images.pixel_file import HEADER, open_pixels
from reidbench.plugins.catalogue import Catalogue, load
from reidbench.plugins.discovery import Plugin, PluginItem
from reidbench.runs import estimate
from reidbench.runs.estimate import needs, planned_pixels, seconds_left
from reidbench.runs.prepare import Plan, Planner, build_backbone
from reidbench.runs.runner import execute
from reidbench.training.checkpoint import TRAINING, Checkpoint, save_checkpoint
from reidbench.training.precision import training_bytes
from reidbench.utils.machine import Settings
from reidbench.utils.progress import in_words
from tests.support.jobs import SMALL_PROTOCOL, job, plan_of
from tests.support.records import make_record, put

CPU = torch.device("cpu")
P, K = 6, 2


def with_steps(steps: int, **changes: object) -> tuple[Plan, Settings]:
    return plan_of(job(recipe=f"quick(steps={steps}, p={P}, k={K})", **changes))


def left(asked: tuple[Plan, Settings]) -> float:
    plan, settings = asked
    seconds = seconds_left(plan, CPU, settings)
    assert seconds is not None
    return seconds


class Clock:
    """A clock that is a second later at every look, so that whatever lies between two looks takes one."""

    def __init__(self) -> None:
        self.looks = 0

    def perf_counter(self) -> float:
        self.looks += 1
        return float(self.looks)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(estimate, "time", clock)
    return clock


def test_more_steps_take_longer_and_an_untrained_network_takes_none() -> None:
    few, many, untrained = left(with_steps(1)), left(with_steps(1_000_000)), left(with_steps(1_000_000, loss="none"))
    assert 0 < few < many
    assert 0 < untrained < many


def test_updates_and_embeddings_are_counted_by_images(clock: Clock) -> None:
    # One second for a batch of p * k = 12 images, be it trained on or embedded.
    plan, _ = with_steps(50)
    tested = len(plan.split.query.images) + len(plan.split.gallery.images)
    for views, crops in (("original", 1), ("center_flip", 2), ("five_crops_flip", 10)):
        seen = with_steps(50, protocol=SMALL_PROTOCOL.replace(")", f", views={views})"))
        assert left(seen) == pytest.approx(50 + crops * tested / 12)
    assert clock.looks > 0


def test_what_is_trained_already_does_not_count(clock: Clock) -> None:
    plan, settings = with_steps(1000)
    whole = left((plan, settings))
    save_checkpoint(plan.training_folder, Checkpoint(400, {}, {}))
    assert left((plan, settings)) == pytest.approx(whole - 400)
    (plan.training_folder / TRAINING).write_text(json.dumps({"steps": 1000}))
    assert left((plan, settings)) == pytest.approx(whole - 1000)
    assert left((plan, settings)) == left(with_steps(1000, loss="none"))


@pytest.mark.parametrize("loss", ["none", "batch_hard"])
def test_images_whose_embeddings_are_kept_do_not_count(loss: str, clock: Clock) -> None:
    asked = {"loss": loss, "recipe": f"quick(steps=1, p={P}, k={K})"}
    plan, settings = plan_of(job(**asked))
    execute(plan, settings, lambda line: None)
    assert left(plan_of(job(**asked, metric="cosine"))) == 0.0
    assert plan.protocol.views == "center_flip"  # two crops of each image
    learned = len(plan.split.fit.images)
    assert left(plan_of(job(**asked, metric="xqda"))) == pytest.approx(2 * learned / (P * K))
    planner, counted = Planner(load(), settings), set[object]()
    shared = [planner.plan(job(**asked, metric="cosine", rerank=rerank)) for rerank in ("none", "k_reciprocal")]
    assert [seconds_left(each, CPU, settings, counted) for each in shared] == [0.0, 0.0]
    # Other views, and other weights, are other embeddings.
    other = SMALL_PROTOCOL.replace(")", ", views=original)")
    tested = len(plan.split.query.images) + len(plan.split.gallery.images)
    assert left(plan_of(job(**asked, protocol=other))) == pytest.approx(tested / (P * K))
    # An image that was touched is embedded again.
    image = Path(plan.split.query.root) / str(plan.split.query.images[0])
    before = image.stat()
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    found = left(plan_of(job(**asked, metric="cosine")))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found == pytest.approx(2 / (P * K))


def test_an_image_in_several_parts_is_embedded_once(clock: Clock) -> None:
    plan, _ = with_steps(1, loss="none")
    query, gallery = plan.split.query, plan.split.gallery
    found = seconds_left(
        dataclasses.replace(plan, split=dataclasses.replace(plan.split, gallery=query + gallery)),
        CPU,
        Settings(device="cpu", threads=1),
    )
    crops = 2
    assert found == pytest.approx(crops * (len(query.images) + len(gallery.images)) / (P * K))


def test_what_an_earlier_plan_does_is_not_counted_again(clock: Clock) -> None:
    planner, settings = Planner(load(), Settings(device="cpu", threads=1)), Settings(device="cpu", threads=1)
    first, learned, reranked, other = (
        planner.plan(job(recipe=f"quick(steps=50, p={P}, k={K})", **changes))
        for changes in ({}, {"metric": "xqda"}, {"rerank": "k_reciprocal"}, {"seed": 1})
    )
    counted: set[object] = set()
    found = [seconds_left(plan, CPU, settings, counted) for plan in (first, learned, reranked, other)]
    assert found[0] == found[3] == seconds_left(first, CPU, settings)
    assert found[1] == pytest.approx(2 * len(first.split.fit.images) / (P * K))  # what the metric learns from
    assert found[2] == 0


def test_a_finished_run_needs_nothing_and_measures_nothing(clock: Clock) -> None:
    plan, settings = with_steps(1000)
    put(plan.run_folder, make_record(id=plan.id, code=plan.code, status="failed"))
    assert left((plan, settings)) > 0
    put(plan.run_folder, make_record(id=plan.id, code=plan.code))
    looks = clock.looks
    assert left((plan, settings)) == 0.0
    assert clock.looks == looks


@pytest.mark.parametrize("steps", [1, 3])
def test_batches_of_one_image_are_measured_with_two(steps: int) -> None:
    # A batch norm has no statistics of one image, so that one image must not be what is measured.
    assert left(plan_of(job(recipe=f"quick(steps={steps}, p=1, k=1)"))) > 0


class Fussy(load().find("backbone", "tiny").factory):  # type: ignore[misc]
    """A network that refuses blank images."""

    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("there is nobody in it")


def test_a_network_that_cannot_be_measured_stops_nobody() -> None:
    known = load()
    settings = Settings(device="cpu", threads=1)
    own = PluginItem("backbone", "fussy", Fussy, Plugin("ours", "tests", "1", "ok"))
    plan = Planner(Catalogue(known.plugins, (*known.items, own)), settings).plan(job(backbone="fussy"))
    assert seconds_left(plan, CPU, settings) is None


def test_what_a_training_takes_is_counted(tmp_path: Path) -> None:
    plan, settings = with_steps(1000)
    settings = dataclasses.replace(settings, cache=tmp_path)
    found = needs(plan, CPU, settings, 1)
    assert found is not None
    assert (found.steps, found.images) == (1000, 12_000)
    pixels = len(plan.split.train.images) * 72 * 36 * 3
    assert found.pixels == HEADER + pixels
    weights, log = 4 * plan.info.parameters, 1000 * (4 * 23 + 2 * 128)
    tested = len(plan.split.query.images) + len(plan.split.gallery.images)
    assert found.results == 2 * (3 * weights + log) + weights + log + tested * 128 * 4
    assert found.memory > 4 * weights + pixels
    twice = needs(with_steps(1000, backbone="tiny(height=128, width=64)")[0], CPU, settings, 1)
    assert twice is not None
    assert twice.memory > found.memory
    assert "1,000 steps, 12,000 images, about " in str(found)
    assert "more than" not in str(found)
    assert "of memory, more than the 1 MiB that are free" in str(dataclasses.replace(found, free=2**20))


@pytest.mark.parametrize(("tier", "held"), [("device", True), ("host", True), ("map", False), ("stream", False)])
def test_pixels_are_counted_where_they_are_held(tier: str, held: bool, tmp_path: Path) -> None:
    plan, settings = with_steps(1000)
    settings = dataclasses.replace(settings, cache=tmp_path, pixels=tier)
    found = needs(plan, CPU, settings, 1)
    unheld = needs(plan, CPU, dataclasses.replace(settings, pixels="stream"), 1)
    assert found is not None
    assert unheld is not None
    size = plan.info.preprocess.height // 8 * 9, plan.info.preprocess.width // 8 * 9
    pixels = len(plan.split.train.images) * size[0] * size[1] * 3
    assert found.memory - unheld.memory == (pixels if held else 0)
    assert found.pixels == (0 if tier == "stream" else HEADER + pixels)
    open_pixels(plan.split.train, *size, cache=tmp_path, threads=1, device=CPU, say=print, tier="map")
    again = needs(plan, CPU, settings, 1)
    assert again == dataclasses.replace(found, pixels=0, free=again.free)  # what lies on the disk takes no room anew
    assert "pixels" not in str(again)


def test_each_of_several_processes_holds_its_part_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, settings = with_steps(1000)
    backbone = build_backbone(plan.items["backbone"], 0)
    alone, shared = needs(plan, CPU, settings, 1), needs(plan, CPU, settings, 5)
    assert alone is not None
    assert shared is not None
    assert alone.images == shared.images
    assert alone.memory - shared.memory == training_bytes(backbone, 12) - training_bytes(backbone, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    there = needs(plan, CPU, settings, 5)
    assert there is not None
    assert there.free < alone.free / 3


def test_the_plan_says_one_number_for_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "free_memory", lambda: 5 * 2**20)
    plan, settings = with_steps(1000)
    assert "5 MiB free)" in planned_pixels(plan, CPU, settings).said
    assert "more than the 5 MiB that are free" in str(needs(plan, CPU, settings, 1))


def test_only_what_is_left_to_train_is_counted() -> None:
    plan, settings = with_steps(1000)
    save_checkpoint(plan.training_folder, Checkpoint(400, {}, {}))
    found = needs(plan, CPU, settings, 1)
    assert found is not None
    assert (found.steps, found.images) == (600, 7200)
    (plan.training_folder / TRAINING).write_text(json.dumps({"steps": 1000}))
    assert needs(plan, CPU, settings, 1) is None
    assert needs(with_steps(1000, loss="none")[0], CPU, settings, 1) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (0.4, "0 s"),
        (45.3, "45 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (12_600, "3.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_fits(seconds: float | None, said: str) -> None:
    assert in_words(seconds) == said
