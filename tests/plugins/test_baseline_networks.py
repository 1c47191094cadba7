"""What strong baselines add: generalized-mean pooling, attention, a last stride of 1, a classifier without bias."""

import pytest
import torch
import torchvision
from reidbench_backbones.layers import GeneralizedMean, NonLocal
from reidbench_backbones.resnet import ResNet50
from safetensors.torch import save_file

from reidbench import File, OptionError, TrainInfo, build
from reidbench.plugins.catalogue import load
from tests.plugins.test_weights import METADATA

AGW = {"head": None, "height": 64, "width": 32, "last_stride": 1, "pool": "gem", "non_local": 1, "neck": "bnneck"}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval()


def test_the_generalized_mean_by_its_formula():
    pool = GeneralizedMean()
    features = torch.randn(2, 3, 4, 5).requires_grad_()
    powers = features.detach().clamp(min=1e-6) ** 3
    torch.testing.assert_close(pool(features).squeeze(), powers.mean(dim=(2, 3)) ** (1 / 3))
    pool(features).sum().backward()
    assert pool.p.grad.item() > 0  # a larger exponent moves every mean towards the maximum
    assert features.grad.isfinite().all()


def test_attention_by_loops_and_at_the_start():
    torch.manual_seed(0)
    layer, features = NonLocal(4, 2).eval(), torch.randn(2, 4, 3, 2)
    assert torch.equal(layer(features), features)
    torch.nn.init.uniform_(layer.norm.weight)
    query, key, value = (part(features).flatten(2) for part in (layer.query, layer.key, layer.value))
    mixed = torch.zeros(2, 2, 6)
    for image in range(2):
        for place in range(6):
            for other in range(6):
                weight = (query[image, :, place] * key[image, :, other]).sum() / 6
                mixed[image, :, place] += weight * value[image, :, other]
    expected = features + layer.norm(layer.back(mixed.view(2, 2, 3, 2)))
    torch.testing.assert_close(layer(features), expected)


def test_the_parts_of_agw_start_from_torchvisions_weights(theirs, tmp_path):
    save_file(theirs.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    network = ResNet50(weights=File(tmp_path / "w.safetensors"), **AGW).eval()
    network.initialise()
    assert [*network.attention] == ["layer2_2", "layer2_3", "layer3_3", "layer3_4", "layer3_5"]
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        x = theirs.layer3(theirs.layer2(theirs.layer1(x)))  # the blocks of attention start as identities
        strides = [theirs.layer4[0].conv2, theirs.layer4[0].downsample[0]]
        for each in strides:
            each.stride = (1, 1)
        x = theirs.layer4(x)
        for each in strides:
            each.stride = (2, 2)
        assert x.shape == (2, 2048, 4, 2)
        pooled = (x.clamp(min=1e-6) ** 3).mean(dim=(2, 3)) ** (1 / 3)
        features = network.training_features(images)
    torch.testing.assert_close(features["pooled"], pooled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features["neck"], pooled / (1 + 1e-5) ** 0.5, rtol=1e-3, atol=1e-4)

    own, new = network.param_groups()
    assert [p.shape for p in own["params"]] == [p.shape for p in network.network.parameters()]
    added = {name for name, _ in network.named_parameters() if not name.startswith("network.")}
    assert len(new["params"]) == len(added - {"neck.bias"}) == 5 * 10 + 2
    save_file(network.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    with torch.no_grad():
        network.gem.p.fill_(1.0)
    network.initialise()  # from a checkpoint, with its parts
    assert network.gem.p.item() == 3.0


def test_options_that_came_later_change_no_id():
    for kind, spec in (("backbone", "resnet50"), ("backbone", "timm"), ("loss", "classification")):
        later = {"last_stride", "pool", "non_local", "neck", "test_feature", "drop_path", "bias"}
        assert not [name for name in later if f"{name}=" in load().resolve(kind, spec).identity]
    assert ResNet50().faithful_to
    assert not ResNet50(neck="bnneck").faithful_to
    with pytest.raises(OptionError, match="resnet50: non_local must be at least 1, or none; got 0"):
        ResNet50(non_local=0)


def test_a_transformer_has_both_sides_of_the_neck_and_stochastic_depth():
    spec = "timm(name=test_vit, weights=none, height=64, width=32, neck=bnneck, test_feature=pooled, drop_path=0.1)"
    network = build("backbone", spec)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.network.blocks]
    assert rates == pytest.approx(torch.linspace(0, 0.1, len(rates)).tolist())
    features = network.eval().training_features(images := torch.rand(2, 3, 64, 32))
    assert torch.equal(network(images), features["pooled"])
    assert not torch.equal(features["neck"], features["pooled"])
    with pytest.raises(OptionError, match="timm: option drop_path: expected a number from 0 to below 1; got 1"):
        build("backbone", "timm(name=test_vit, weights=none, drop_path=1)")


def test_a_classifier_without_bias():
    torch.manual_seed(0)
    loss = build("loss", "classification(label_smoothing=0.1, bias=false)", TrainInfo(32, 40))
    assert [name for name, _ in loss.named_parameters()] == ["classifier.weight"]
    assert loss.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    rows, labels = torch.randn(6, 32), torch.arange(6)
    logs = (rows @ loss.classifier.weight.T).log_softmax(dim=1)
    expected = -(0.9 * logs[labels, labels] + 0.1 * logs.mean(dim=1)).mean()
    torch.testing.assert_close(loss(rows, labels).total, expected)
