"""LOMO against the official descriptors, against loops, and through runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reidbench_backbones.lomo import LOMO, describe, gray, hsv, multi_scale_retinex, siltp
from reidbench_reports.published import published_numbers
from torch import Tensor

import reidbench
from reidbench import OptionError, load_suite
from reidbench.runs.suite import find_suite
from reidbench.testing import check_backbone
from tests.support.jobs import job, plan_of, run
from tests.support.oracles import oracle

ORACLES = ["lomo_dev", "lomo_synth_dev"]
COLOURS = 40 * 512  # numbers of the colour part at 128 x 64 and 128 x 48


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def as_input(image: NDArray[np.uint8]) -> Tensor:
    return (torch.from_numpy(image).permute(2, 0, 1) / 255)[None]


def people_images(identities: int, images: int) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """Return images [n, 3, 64, 32] of identities with colours of their own, seen by cameras of another light."""
    rng = np.random.default_rng(0)
    pids, cams = np.repeat(np.arange(1, identities + 1), images), np.tile(np.arange(1, images + 1), identities)
    colours = rng.integers(30, 200, (identities + 1, 8, 3))[pids]
    pixels = np.repeat(np.repeat(colours, 8, axis=1)[:, :, None], 32, axis=2) * (0.7 + 0.15 * cams)[:, None, None, None]
    pixels = (pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).round()
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, pids, cams


@pytest.mark.parametrize("name", ORACLES)
def test_official_hsv_and_gray_give_the_official_descriptor(name: str) -> None:
    data = oracle(name)
    for colours, expected in (("hsv_retinex", "lomo"), ("hsv_image", "lomo_without_retinex")):
        np.testing.assert_allclose(describe(data[colours], data["gray"]), data[expected], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(gray(data["image"]), data["gray"])
    np.testing.assert_allclose(hsv(data["image"]), data["hsv_image"], rtol=0, atol=1e-15)
    for radius in (3, 5):
        np.testing.assert_array_equal(siltp(data["gray"] / 255, radius), data[f"siltp_tau0p3_R{radius}"])


@pytest.mark.parametrize("name", ORACLES)
def test_images_give_nearly_the_official_descriptor(name: str) -> None:
    data = oracle(name)
    height, width = data["gray"].shape
    without, evened = (LOMO(height=height, width=width, retinex=retinex) for retinex in (None, "msr"))
    found = without(as_input(data["image"]))
    assert found.dtype == torch.float32
    assert cosine(found[0].double().numpy(), data["lomo_without_retinex"]) >= 0.999
    assert cosine(describe(hsv(data["retinex"]), gray(data["image"])), data["lomo"]) >= 0.999
    # Ours is nearer to the closed Retinex than none is, and is not it.
    ours = cosine(evened(as_input(data["image"]))[0, :COLOURS].double().numpy(), data["lomo"][:COLOURS])
    assert cosine(found[0, :COLOURS].double().numpy(), data["lomo"][:COLOURS]) < ours < 0.99


def slow_descriptor(colours: NDArray[np.float64], grays: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The descriptor by loops over pixels and windows."""

    def halved(image: list[list[list[float]]]) -> list[list[list[float]]]:
        return [
            [
                [
                    (image[y][x][k] + image[y + 1][x][k] + image[y][x + 1][k] + image[y + 1][x + 1][k]) / 4
                    for k in range(len(image[0][0]))
                ]
                for x in range(0, len(image[0]) - 1, 2)
            ]
            for y in range(0, len(image) - 1, 2)
        ]

    def bands(codes: list[list[int]], bins: int) -> list[float]:
        values = []
        for top in range(0, len(codes) - 9, 5):
            counts = [
                Counter(codes[y][x] for y in range(top, top + 10) for x in range(left, left + 10))
                for left in range(0, len(codes[0]) - 9, 5)
            ]
            values += [max(count[code] for count in counts) for code in range(bins)] if counts else []
        return values

    def texture(image: list[list[list[float]]], radius: int) -> list[list[int]]:
        def value(y: int, x: int) -> float:
            return image[min(max(y, 0), len(image) - 1)][min(max(x, 0), len(image[0]) - 1)][0]

        codes = [[0] * len(image[0]) for _ in image]
        for y in range(len(image)):
            for x in range(len(image[0])):
                for weight, (down, right) in zip((1, 3, 9, 27), ((0, 1), (-1, 0), (0, -1), (1, 0)), strict=True):
                    other, own = value(y + down * radius, x + right * radius), value(y, x)
                    codes[y][x] += weight * (1 if other < (1 - 0.3) * own else 2 if other > (1 + 0.3) * own else 0)
        return codes

    bins = np.minimum(np.floor(colours * 8), 7).tolist()
    image = (grays / 255)[:, :, None].tolist()
    parts: list[list[float]] = [[], [], []]
    for _ in range(3):
        parts[0] += bands([[int(64 * v + 8 * s + h) for h, s, v in row] for row in bins], 512)
        parts[1] += bands(texture(image, 3), 81)
        parts[2] += bands(texture(image, 5), 81)
        bins = [[[float(int(number)) for number in pixel] for pixel in row] for row in halved(bins)]
        image = halved(image)
    logarithms = [np.log(1 + np.array(part)) for part in parts]
    return np.concatenate([part / np.linalg.norm(part) for part in logarithms])


@given(seed=st.integers(0, 10_000), height=st.integers(10, 43), width=st.integers(10, 31))
@settings(max_examples=8, deadline=None)
def test_descriptor_is_that_of_loops(seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8) // 16 * 16
    expected = slow_descriptor(hsv(image), gray(image))
    assert LOMO(height=height, width=width).embedding_dim == len(expected)
    # Sums in another order move a tie into another code, so that a few of many numbers may differ.
    assert cosine(describe(hsv(image), gray(image)), expected) > 0.9999


def test_sizes_scales_and_length() -> None:
    assert LOMO().embedding_dim == LOMO(width=48).embedding_dim == 26_960
    assert LOMO(height=64, width=32).embedding_dim == (11 + 5) * 674, "a third scale would be 16 x 8"
    images = torch.cat([torch.zeros(1, 3, 30, 20), torch.ones(1, 3, 30, 20), torch.rand(1, 3, 30, 20)])
    torch.testing.assert_close(LOMO(height=30, width=20)(images).norm(dim=1), torch.full((3,), 3**0.5))
    for options in ({"height": 9}, {"width": 9}):
        with pytest.raises(OptionError, match="lomo: height and width must be at least 10"):
            LOMO(**options)


def test_threads_and_batches_change_nothing() -> None:
    images, _, _ = people_images(3, 2)
    network, threads = LOMO(height=64, width=32, retinex="msr"), torch.get_num_threads()
    together = network(images)
    try:
        torch.set_num_threads(3)
        assert network(images).equal(together)
    finally:
        torch.set_num_threads(threads)
    assert torch.cat([network(image[None]) for image in images]).equal(together)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_our_retinex_is_never_darker(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, rng.integers(2, 256), (24, 12, 3)).astype(np.uint8)
    evened = multi_scale_retinex(image)
    assert evened.dtype == np.uint8
    assert (evened >= image).all()
    assert (multi_scale_retinex(np.full((24, 12, 3), 7, dtype=np.uint8)) >= 7).all()


@pytest.mark.parametrize("backbone", ["lomo(height=32, width=16)", "lomo(height=32, width=16, retinex=msr)"])
def test_the_contract_holds(backbone: str) -> None:
    assert "output" in check_backbone(backbone)


def test_every_loss_but_none_is_refused() -> None:
    with pytest.raises(OptionError, match=r"batch_hard.*lomo.*learns nothing.*--loss none"):
        plan_of(job(loss="batch_hard", backbone="lomo"))


def test_xqda_on_lomo_is_that_in_the_span_of_the_descriptors() -> None:
    images, pids, cams = people_images(8, 4)
    rows = LOMO(height=64, width=32)(images).double()
    basis = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)[2][: len(rows) - 1].T
    distances = []
    for each in (rows, (rows - rows.mean(dim=0)) @ basis):
        metric = reidbench.build("metric", "xqda(pairs=all, normalize=false)")
        metric.fit(each, pids, cams)
        projected = metric.project(each)
        distances.append(metric.distances(projected, projected))
    torch.testing.assert_close(*distances, rtol=0, atol=1e-8 * distances[1].abs().max().item())


def test_the_system_and_its_control_differ_in_the_metric_alone() -> None:
    suite = load_suite(find_suite("systems/lomo_nullspace"))
    system = {number.job for number in published_numbers(2) if number.row.startswith("LOMO")}
    assert set(suite.jobs) == system | {replace(job, metric="euclidean") for job in system if job}
    assert not set(suite.jobs).intersection(map(suite.scale("tiny").of, suite.jobs))


def test_the_null_space_of_lomo_is_better_than_its_euclidean_distance() -> None:
    records = [
        run(job(loss="none", backbone="lomo(height=128, width=64)", metric=metric))[1]
        for metric in ("euclidean", "null_space")
    ]
    assert [record.status for record in records] == ["ok", "ok"]
    plain, learned = (record.scores["map_market"] for record in records)
    assert learned > plain + 0.05
    assert records[1].evaluation.learned
    assert records[0].training == records[1].training, "the descriptors should be computed once"
