"""Sections 3.2, 3.3 and 3.5 of Hermans et al. 2017, statement by statement: what no other test here holds already.

docs/fidelity.md lists all statements, with the test of each or how it differs here.
"""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from reidbench_backbones.lunet import LuNet
from reidbench_backbones.resnet import ResNet50
from reidbench_datasets.market1501_protocols import (
    market1501_500k_protocol,
    market1501_multiquery_protocol,
    market1501_protocol,
)
from reidbench_datasets.mars import mars_protocol
from reidbench_recipes.hermans2017 import hermans2017
from torch import nn

import reidbench
from reidbench import BackboneInfo, Preprocess, TrainInfo
from reidbench.data.samples import Samples
from reidbench.images.augment import stored_size, view_crops
from reidbench.images.crop import normalise
from reidbench.images.pixel_store import PixelStore
from reidbench.training.optimizer import ScheduledOptimizer
from tests.support.batches import training_batch

TRINET = BackboneInfo(128, Preprocess(256, 128), pretrained=True, parameters=25_738_432, batch=ResNet50.batch)
LUNET = BackboneInfo(128, Preprocess(128, 64), pretrained=False, parameters=5_001_152, batch=LuNet.batch)


@pytest.fixture(scope="module")
def lunet():
    return LuNet()


# --- 3.2 Training ----------------------------------------------------------------------------------------------------


def test_one_recipe_for_all_datasets():
    """3.2: "we use the same training procedure across all experiments and on all datasets": it sees networks only."""
    known = [p.name for p in inspect.signature(hermans2017).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert known == ["backbone"]
    protocols = (market1501_protocol, market1501_multiquery_protocol, market1501_500k_protocol, mars_protocol)
    assert {protocol().recipe for protocol in protocols} == {"hermans2017"}


@pytest.mark.parametrize("info", [TRINET, LUNET])
def test_adam_with_its_defaults(info):
    """3.2: "the Adam optimizer with the default hyper-parameter values"; no word on weight decay, so none."""
    optimizer = ScheduledOptimizer(hermans2017(info), [{"params": [nn.Parameter(torch.ones(1))]}]).optimizer
    assert type(optimizer) is torch.optim.Adam
    names = ("betas", "eps", "weight_decay", "amsgrad")
    assert [optimizer.defaults[name] for name in names] == [(0.9, 0.999), 1e-8, 0, False]


@pytest.mark.parametrize(("info", "initial"), [(TRINET, 3e-4), (LUNET, 1e-3)])
def test_each_of_the_25_000_updates_follows_eq_9(info, initial):
    """3.2, Eq. 9, "t0 = 15 000, and t1 = 25 000, stopping training when reaching t1"; "We also set beta1 = 0.5"."""
    schedule = ScheduledOptimizer(hermans2017(info), [{"params": [nn.Parameter(torch.ones(1))]}])
    assert schedule.recipe.steps == 25_000
    (group,) = schedule.optimizer.param_groups
    rates, betas = [], []
    for step in range(schedule.recipe.steps):
        schedule.set_rates(step)
        rates.append(group["lr"])
        betas.append(group["betas"][0])
    t = np.arange(25_000)
    np.testing.assert_allclose(rates, initial * 0.001 ** (np.maximum(t - 15_000, 0) / 10_000), rtol=1e-12)
    assert betas == [0.9] * 15_000 + [0.5] * 10_000


# --- 3.3 Network architectures ---------------------------------------------------------------------------------------


def test_batch_norms_have_the_momentum_of_their_time(lunet):
    """3.3: "batch normalization [14]", no word on its momentum: a tenth of each batch, as Theano's layers have it."""
    modules = (*lunet.modules(), *ResNet50(weights=None).modules())
    norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 50
    assert {(norm.momentum, norm.affine, norm.track_running_stats) for norm in norms} == {(0.1, True, True)}


@pytest.mark.parametrize("name", ["lunet", "resnet50(weights=none)"])
def test_nothing_follows_the_last_linear_layer(name):
    """3.3: "the second goes down to 128 units, our final embedding dimension": twice the layer, twice the embedding."""
    network = reidbench.build("backbone", name).eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert last.out_features == network.embedding_dim == 128
    images = torch.rand(1, 3, network.preprocess.height, network.preprocess.width)
    with torch.no_grad():
        before = network(images)
        last.weight.mul_(2)
        last.bias.mul_(2)
        torch.testing.assert_close(network(images), 2 * before)


# --- 3.5 Performance on Market-1501 and MARS -------------------------------------------------------------------------


def test_batch_hard_has_the_soft_margin_by_default():
    """3.5: "the batch hard variant of the triplet loss and the soft margin": ln(1 + exp(D_ap - D_an))."""
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [5.0]])
    loss = reidbench.build("loss", "batch_hard", TrainInfo(embedding_dim=4, num_pids=3))
    value = loss(embeddings, torch.tensor([0, 0, 1, 1]))
    terms = torch.tensor([1 - 3, 1 - 2, 2 - 2, 2 - 4], dtype=torch.float32).exp().log1p()
    torch.testing.assert_close(value.total, terms.mean())


@pytest.mark.parametrize(("network", "height", "width"), [("resnet50(weights=none)", 256, 128), ("lunet", 128, 64)])
def test_input_and_stored_sizes(network, height, width):
    """3.5: "For all pretrained networks we set H = 256, W = 128", "from scratch" 128 and 64; 1 1/8 of it is kept."""
    preprocess = reidbench.build("backbone", network).preprocess
    assert (preprocess.height, preprocess.width) == (height, width)
    kept = stored_size(preprocess, hermans2017(LUNET).crop)
    assert kept == (height * 9 / 8, width * 9 / 8)
    assert kept[0] / kept[1] == height / width


def test_own_models_divide_by_255(lunet):
    """3.5: "for our own models we simply divide the RGB values by 255"."""
    values = np.arange(256, dtype=np.uint8)
    pixels = torch.from_numpy(np.broadcast_to(values[None, None, :, None], (1, 1, 256, 3)).copy())
    expected = torch.arange(256, dtype=torch.float32) / 255
    for preprocess in (lunet.preprocess, ResNet50(weights=None).preprocess):
        images = normalise(pixels, preprocess)
        torch.testing.assert_close(images, expected.expand(1, 3, 1, 256), rtol=1e-6, atol=0)


def test_random_crops_of_the_papers_size_and_random_flips(lunet):
    """3.5: "random crops of size H x W" out of 1 1/8 of it, "and random horizontal flips during training"."""
    recipe, preprocess = hermans2017(LUNET), lunet.preprocess
    height, width = stored_size(preprocess, recipe.crop)
    places = np.arange(height * width).reshape(height, width)
    coded = np.stack([places // width, places % width, np.zeros_like(places)], axis=-1).astype(np.uint8)
    samples = Samples.of_images(Path(__file__), ["one.jpg"], [1], [1])
    units = np.zeros(400, dtype=np.int64)
    store = PixelStore(torch.from_numpy(coded[None]), torch.device("cpu"))
    batch = training_batch(store, samples, units, preprocess, flip=recipe.flip, seed=0, step=0)
    codes = (batch * 255).round().long()
    assert codes.shape == (400, 3, 128, 64)
    steps = codes[:, 1, 0, 1] - codes[:, 1, 0, 0]
    assert set(steps.tolist()) == {-1, 1}
    assert 150 < int((steps < 0).sum()) < 250
    assert {int(top) for top in codes[:, 0, 0, 0]} == set(range(height - 128 + 1))
    assert {int(left) for left in codes[:, 1].amin((1, 2))} == set(range(width - 64 + 1))


def test_embeddings_are_averaged_over_five_crops_and_flips():
    """3.5: "We apply test-time augmentation in all our experiments", "five crops and their flips"."""
    for protocol in (market1501_protocol, market1501_multiquery_protocol, market1501_500k_protocol, mars_protocol):
        assert protocol().views == "five_crops_flip"
    _, crops = view_crops("five_crops_flip", Preprocess(128, 64))
    corners = {(0, 0), (0, 8), (16, 0), (16, 8), (8, 4)}
    assert sorted(crops) == sorted((*corner, flipped) for corner in corners for flipped in (False, True))
