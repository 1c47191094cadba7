"""Necks: the features before and behind them, by which losses are trained, and the network of the page on plugins."""

import re

import pytest
import torch
from reidbench_backbones.tiny import Tiny
from torch import nn

import reidbench
from reidbench import OptionError, TrainInfo
from reidbench.plugins.catalogue import load
from reidbench.testing import check_backbone
from reidbench.training.build import describe_backbone
from tests.support.jobs import job, plan_of, run
from tests.support.logs import read_log
from tests.support.paths import CHECKOUT

SMALL = "norm=none, height=16, width=16, embedding_dim=6"
NECKED = f"tiny({SMALL}, neck=bnneck)"


def test_a_neck_is_a_batch_norm_with_a_fixed_bias_and_adds_nothing_else():
    torch.manual_seed(0)
    plain = Tiny(norm="none")
    torch.manual_seed(0)
    necked = Tiny(norm="none", neck="bnneck")
    before = plain.state_dict()
    added = {name: tensor for name, tensor in necked.state_dict().items() if name not in before}
    assert all(torch.equal(necked.state_dict()[name], tensor) for name, tensor in before.items())
    assert set(added) == {f"neck.{name}" for name in nn.BatchNorm1d(1).state_dict()}
    assert [name for name, p in necked.named_parameters() if not p.requires_grad] == ["neck.bias"]
    images = torch.rand(5, 3, 64, 32)
    features = necked.training_features(images)
    torch.testing.assert_close(features["pooled"], plain(images))
    centred = features["pooled"] - features["pooled"].mean(0)
    expected = centred / (centred.square().mean(0) + 1e-5).sqrt()
    torch.testing.assert_close(features["neck"], expected, rtol=1e-4, atol=1e-5)
    assert features["embedding"] is features["neck"]


def test_the_default_has_neither_neck_nor_features_and_the_same_ids():
    resolved = load().resolve("backbone", "tiny")
    assert (describe_backbone(resolved).feature_sizes, resolved.short) == ({}, "tiny")
    assert "neck" not in resolved.identity
    assert resolved.identity == load().resolve("backbone", "tiny(neck=none, test_feature=neck)").identity
    assert set(Tiny().training_features(torch.rand(2, 3, 64, 32))) == {"embedding"}


@pytest.mark.parametrize("test_feature", ["neck", "pooled"])
def test_the_embedding_is_either_side_of_the_neck(test_feature):
    spec = f"tiny({SMALL}, neck=bnneck, test_feature={test_feature})"
    assert "training features" in check_backbone(spec)
    network = reidbench.build("backbone", spec).eval()
    network.neck.running_mean += 1
    features = network.training_features(images := torch.rand(4, 3, 16, 16))
    assert torch.equal(network(images), features[test_feature])
    assert not torch.equal(features["pooled"], features["neck"])


def test_a_sum_on_both_sides_of_a_neck_is_trained_and_scored():
    loss = "pml/TripletMarginLoss(feature=pooled) + classification(feature=neck) + 0.5*batch_hard"
    plan, record, _ = run(job(backbone=NECKED, loss=loss))
    assert record.status == "ok", record.error
    assert record.items["loss"].short == loss
    log = read_log(plan.training_folder)
    total = log["pml/TripletMarginLoss"] + log["classification"] + 0.5 * log["batch_hard"]
    torch.testing.assert_close(torch.tensor(log["loss"]), torch.tensor(total), rtol=1e-5, atol=0)


def test_a_loss_on_a_feature_equals_that_loss_on_its_matrix():
    info = TrainInfo(3, 4, feature_sizes={"embedding": 3, "pooled": 5})
    rows, labels = torch.rand(8, 8), torch.arange(8) % 4
    for name in ("pml/TripletMarginLoss", "batch_hard", "lifted"):
        on_feature = reidbench.build("loss", f"{name}(feature=pooled)", info)(rows, labels).total
        assert torch.equal(
            on_feature, reidbench.build("loss", name, TrainInfo(5, 4))(rows[:, 3:].contiguous(), labels).total
        )


def test_an_unknown_feature_is_an_error_of_the_plan():
    with pytest.raises(
        OptionError, match=r'loss batch_hard \(.*backbone tiny \(.* "poled".*; it has embedding, pooled, neck'
    ) as caught:
        plan_of(job(backbone=NECKED, loss="classification + batch_hard(feature=poled)"))
    with pytest.raises(OptionError, match=r"backbone tiny .* it has embedding$"):
        plan_of(job(loss="batch_hard(feature=pooled)"))
    assert "\n" not in str(caught.value)


def test_the_network_of_the_page_on_plugins_passes_its_checks():
    page = (CHECKOUT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "feature_sizes" in block]
    exec(code, names := {"__name__": "page"})
    assert "training features" in check_backbone(names["register_backbones"]()["necked"])
