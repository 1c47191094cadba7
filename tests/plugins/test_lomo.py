"""LOMO against the official descriptors, window by window, and through runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_backbones.lomo import LOMO, describe, gray, hsv, multi_scale_retinex, siltp
from reidbench_reports.published import published_numbers

from reidbench import OptionError, load_suite
from reidbench.runs.suite import find_suite
from reidbench.testing import check_backbone
from tests.support.jobs import job, plan_of, run
from tests.support.oracles import oracle

ORACLES = ["lomo_dev", "lomo_synth_dev"]
COLOURS = 40 * 512  # numbers of the colour part at 128 x 64 and 128 x 48


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def as_input(image):
    return (torch.from_numpy(image).permute(2, 0, 1) / 255)[None]


@pytest.mark.parametrize("name", ORACLES)
def test_official_hsv_and_gray_give_the_official_descriptor(name):
    data = oracle(name)
    for colours, expected in (("hsv_retinex", "lomo"), ("hsv_image", "lomo_without_retinex")):
        np.testing.assert_allclose(describe(data[colours], data["gray"]), data[expected], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(gray(data["image"]), data["gray"])
    np.testing.assert_allclose(hsv(data["image"]), data["hsv_image"], rtol=0, atol=1e-15)
    for radius in (3, 5):
        np.testing.assert_array_equal(siltp(data["gray"] / 255, radius), data[f"siltp_tau0p3_R{radius}"])


@pytest.mark.parametrize("name", ORACLES)
def test_images_give_nearly_the_official_descriptor(name):
    data = oracle(name)
    height, width = data["gray"].shape
    without, evened = (LOMO(height=height, width=width, retinex=retinex) for retinex in (None, "msr"))
    found = without(as_input(data["image"]))
    assert (multi_scale_retinex(data["image"]) >= data["image"]).all()
    assert cosine(found[0].double().numpy(), data["lomo_without_retinex"]) >= 0.999
    assert cosine(describe(hsv(data["retinex"]), gray(data["image"])), data["lomo"]) >= 0.999
    # Ours is nearer to the closed Retinex than none is, and is not it.
    ours = cosine(evened(as_input(data["image"]))[0, :COLOURS].double().numpy(), data["lomo"][:COLOURS])
    assert cosine(found[0, :COLOURS].double().numpy(), data["lomo"][:COLOURS]) < ours < 0.99


def slow_descriptor(colours, grays):
    """Return the descriptor, window by window."""

    def halved(image):
        height, width = image.shape[0] // 2, image.shape[1] // 2
        return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean(axis=(1, 3))

    def texture(image, radius):
        own, codes = image[..., 0], np.zeros(image.shape[:2], dtype=np.int64)
        around = np.pad(own, radius, mode="edge")
        for weight, (y, x) in zip((1, 3, 9, 27), ((1, 2), (0, 1), (1, 0), (2, 1)), strict=True):
            other = around[y * radius :, x * radius :][: len(own), : own.shape[1]]
            codes += weight * np.where(other < (1 - 0.3) * own, 1, np.where(other > (1 + 0.3) * own, 2, 0))
        return codes

    bins, image, parts = np.minimum(np.floor(colours * 8), 7), grays[..., None] / 255, ([], [], [])
    for _ in range(3):
        every = (bins @ [1, 8, 64]).astype(np.int64), texture(image, 3), texture(image, 5)
        for part, codes, size in zip(parts, every, (512, 81, 81), strict=True):
            lefts = range(0, codes.shape[1] - 9, 5)
            for top in range(0, len(codes) - 9, 5) if lefts else ():
                windows = [codes[top : top + 10, left : left + 10].ravel() for left in lefts]
                part.append(np.max([np.bincount(window, minlength=size) for window in windows], axis=0))
        bins, image = np.floor(halved(bins)), halved(image)
    logarithms = [np.log(1 + np.concatenate(part)) for part in parts]
    return np.concatenate([part / np.linalg.norm(part) for part in logarithms])


@given(seed=st.integers(0, 10_000), height=st.integers(10, 43), width=st.integers(10, 31))
@settings(max_examples=8)
def test_descriptor_is_that_of_windows(seed, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8) // 16 * 16
    expected = slow_descriptor(hsv(image), gray(image))
    assert LOMO(height=height, width=width).embedding_dim == len(expected)
    # Sums in another order move a tie into another code: a few numbers differ, and a small image has few.
    assert cosine(describe(hsv(image), gray(image)), expected) > 0.999


def test_sizes_scales_and_length():
    assert LOMO().embedding_dim == LOMO(width=48).embedding_dim == 26_960
    assert LOMO(height=64, width=32).embedding_dim == (11 + 5) * 674, "a third scale would be 16 x 8"
    images = torch.cat([torch.zeros(1, 3, 30, 20), torch.ones(1, 3, 30, 20), torch.rand(1, 3, 30, 20)])
    torch.testing.assert_close(LOMO(height=30, width=20)(images).norm(dim=1), torch.full((3,), 3**0.5))
    for options in ({"height": 9}, {"width": 9}):
        with pytest.raises(OptionError, match="lomo: height and width must be at least 10"):
            LOMO(**options)


def test_threads_and_batches_change_nothing():
    network, threads = LOMO(height=64, width=32, retinex="msr"), torch.get_num_threads()
    images = torch.rand(5, 3, 64, 32)
    try:
        torch.set_num_threads(3)
        together = network(images)
    finally:
        torch.set_num_threads(threads)
    assert torch.cat([network(image[None]) for image in images]).equal(together)


def test_the_contract_holds():
    assert "output" in check_backbone("lomo(height=32, width=16, retinex=msr)")


def test_every_loss_but_none_is_refused():
    with pytest.raises(OptionError, match=r"batch_hard.*lomo.*learns nothing.*--loss none"):
        plan_of(job(loss="batch_hard", backbone="lomo"))


def test_the_system_and_its_control_differ_in_the_metric_alone():
    suite = load_suite(find_suite("systems/lomo_nullspace"))
    system = {number.job for number in published_numbers(2) if number.row.startswith("LOMO")}
    assert set(suite.jobs) == system | {replace(job, metric="euclidean") for job in system if job}
    assert not set(suite.jobs).intersection(map(suite.scale("tiny").jobs.get, suite.jobs))


def test_the_null_space_of_lomo_is_better_than_its_euclidean_distance():
    records = [
        run(job(loss="none", backbone="lomo(height=128, width=64)", metric=metric))[1]
        for metric in ("euclidean", "null_space")
    ]
    assert [record.status for record in records] == ["ok", "ok"]
    plain, learned = (record.scores["map_market"] for record in records)
    assert learned > plain + 0.05
    assert records[1].evaluation.learned
    assert records[0].training == records[1].training, "the descriptors should be computed once"
