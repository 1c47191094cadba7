"""What strong baselines add: necks, generalized means, attention, a last stride of 1, a classifier without bias."""

import re

import pytest
import torch
import torchvision
from reidbench_backbones.layers import GeneralizedMean, NonLocal
from reidbench_backbones.resnet import ResNet50
from safetensors.torch import save_file

from reidbench import File, OptionError, TrainInfo, build
from reidbench.plugins.catalogue import load
from reidbench.testing import check_backbone
from reidbench.training.build import describe_backbone
from tests.plugins.test_weights import METADATA
from tests.support.jobs import job, plan_of, run
from tests.support.logs import read_log
from tests.support.paths import CHECKOUT

AGW = {"head": None, "height": 64, "width": 32, "last_stride": 1, "pool": "gem", "non_local": 1, "neck": "bnneck"}
TINY = "tiny(norm=none, height=16, width=16, neck=bnneck"
VIT = "timm(name=test_vit, weights=none, height=64, width=32, neck=bnneck, drop_path=0.1"


@pytest.mark.parametrize("network", [TINY, VIT])
@pytest.mark.parametrize("side", ["neck", "pooled"])
def test_the_embedding_is_either_side_of_the_neck(network, side):
    network = build("backbone", f"{network}, test_feature={side})")
    images = torch.rand(4, 3, network.preprocess.height, network.preprocess.width)
    features = network.training_features(images)
    expected = torch.nn.functional.batch_norm(features["pooled"], None, None, training=True)
    torch.testing.assert_close(features["neck"], expected)
    assert torch.equal(network.eval()(images), network.training_features(images)[side])
    assert not network.neck.bias.requires_grad


def test_networks_with_features_keep_the_contract():
    page = (CHECKOUT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "feature_sizes" in block]
    exec(code, names := {"__name__": "page"})
    for network in (f"{TINY}, test_feature=pooled)", names["register_backbones"]()["necked"]):
        assert "training features" in check_backbone(network)


def test_a_sum_on_both_sides_of_a_neck_is_trained_and_scored():
    loss = "pml/TripletMarginLoss(feature=pooled) + classification(feature=neck) + 0.5*batch_hard"
    plan, record, _ = run(job(protocol="synthetic(identities=40, views=original)", backbone=f"{TINY})", loss=loss))
    assert (record.status, record.items["loss"].short) == ("ok", loss), record.error
    log = read_log(plan.training_folder)
    total = log["pml/TripletMarginLoss"] + log["classification"] + 0.5 * log["batch_hard"]
    assert log["loss"] == pytest.approx(total, rel=1e-5)


def test_an_unknown_feature_is_an_error_of_the_plan():
    with pytest.raises(
        OptionError, match=r'loss batch_hard \(.* backbone tiny \(.*"poled"; it has embedding, pooled, neck'
    ):
        plan_of(job(backbone=f"{TINY})", loss="classification + batch_hard(feature=poled)"))


def test_the_generalized_mean_and_attention_by_their_formulas():
    torch.manual_seed(0)
    features = torch.randn(2, 4, 3, 2)
    pool, layer = GeneralizedMean(), NonLocal(4, 2).eval()
    cubes = features.clamp(min=1e-6) ** 3
    torch.testing.assert_close(pool(features).flatten(1), cubes.mean(dim=(2, 3)) ** (1 / 3))
    assert torch.equal(layer(features), features)
    torch.nn.init.uniform_(layer.norm.weight)
    query, key, value = (part(features).flatten(2) for part in (layer.query, layer.key, layer.value))
    pairs = torch.einsum("bci,bcj->bij", query, key) / 6
    mixed = torch.einsum("bij,bcj->bci", pairs, value).view(2, 2, 3, 2)
    torch.testing.assert_close(layer(features), features + layer.norm(layer.back(mixed)))


def test_agws_network_starts_from_torchvisions_weights(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None).eval()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    network = ResNet50(weights=File(tmp_path / "w.safetensors"), **AGW).eval()
    network.initialise()
    theirs.layer4[0].conv2.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    theirs.fc, theirs.avgpool = torch.nn.Identity(), GeneralizedMean()
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        pooled = network.training_features(images)["pooled"]
        torch.testing.assert_close(pooled, theirs(images), rtol=1e-3, atol=1e-4)
    assert len(network.param_groups()[1]["params"]) == 5 * 10 + 2
    save_file(network.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    network.initialise()  # from a checkpoint, with its parts


def test_options_that_came_later_change_no_id_and_no_default():
    later = {"last_stride", "pool", "non_local", "neck", "test_feature", "drop_path", "bias"}
    for kind, spec in (
        ("backbone", "resnet50"),
        ("backbone", "timm"),
        ("backbone", "tiny"),
        ("loss", "classification"),
    ):
        assert not [name for name in later if f"{name}=" in load().resolve(kind, spec).identity]
    faithful = [describe_backbone(load().resolve("backbone", f"resnet50{each}")) for each in ("", "(neck=bnneck)")]
    assert [bool(info.faithful_to) for info in faithful] == [True, False]


def test_a_classifier_without_bias():
    loss = build("loss", "classification(label_smoothing=0.1, bias=false)", TrainInfo(32, 40))
    (weight,) = loss.parameters()
    assert weight.std().item() == pytest.approx(0.001, rel=0.1)
    rows, labels = torch.randn(6, 32), torch.arange(6)
    logs = (rows @ weight.T).log_softmax(dim=1)
    torch.testing.assert_close(loss(rows, labels).total, -(0.9 * logs[labels, labels] + 0.1 * logs.mean(dim=1)).mean())
