"""timm: networks of several families train or are refused; their weights and the normalisation that these expect."""

import pytest
import timm
import torch
from reidbench_backbones.timm import Timm
from safetensors.torch import save_file

from reidbench import DataError, File, Loss, OptionError, Preprocess, Recipe
from reidbench.testing import check_backbone
from reidbench.training.optimizer import ScheduledOptimizer, parameter_groups
from tests.plugins.test_weights import METADATA
from tests.support.cases import cases

# Ten families: convolutions old and new, transformers of a fixed size, both, and a mixer.
FAMILIES: list[str] = cases(__file__, "families")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_the_contract_holds_at_a_small_size(name):
    assert "gradient reaches the weights" in check_backbone(f"timm(name={name}, weights=none, height=64, width=32)")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_contract_holds_for_every_family(name):
    check_backbone(f"timm(name={name}, weights=none, head=trinet, height=128, width=64)")


def test_the_learning_rate_falls_from_layer_to_layer():
    recipe = Recipe(9, 9, 1.0, 2, 2, optimizer="adamw", layer_factor=0.5, weight_decay=0.1, decay_vectors=False)
    network = Timm(name="vit_tiny_patch16_224", weights=None, head="trinet", height=32, width=32)
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = ScheduledOptimizer(recipe, parameter_groups(recipe, network, Loss())).optimizer.param_groups
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates.keys() == set(names.values())
    assert rates["network.blocks.11.mlp.fc2.weight"] == rates["head.0.weight"] == 1
    assert rates["network.blocks.0.attn.qkv.bias"] == 2 * rates["network.pos_embed"] == 0.5**11


def test_the_constructors_forward_pass_changes_nothing():
    network = Timm(weights=None, head="trinet", height=32, width=32)
    assert (network.embedding_dim, network.preprocess, network.pretrained) == (128, Preprocess(32, 32), False)
    assert all(module.training for module in network.modules())
    assert all((buffer == 0).all() for name, buffer in network.named_buffers() if name.endswith("running_mean"))


def test_the_feature_is_timms_own():
    network = Timm(weights=None, height=32, width=32).eval()
    images = torch.rand(2, 3, 32, 32)
    theirs = timm.create_model("resnet18", num_classes=0).eval()
    theirs.load_state_dict(network.network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images))
    assert network.embedding_dim == theirs.num_features == 512


@pytest.mark.parametrize(("name", "message"), cases(__file__, "an_unknown_name_is_refused_with_the_nearest"))
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(OptionError, match=message):
        Timm(name=name)


@pytest.mark.parametrize(("name", "height", "width"), [("efficientformer_l1", 64, 32), ("vit_tiny_patch16_224", 64, 8)])
def test_a_network_that_does_not_take_the_size_is_refused(name, height, width):
    with pytest.raises(
        OptionError, match=rf"timm: name={name} does not take images of {height} x {width} pixels: .+; try"
    ):
        Timm(name=name, weights=None, height=height, width=width)
    with pytest.raises(OptionError, match="timm: height must be at least 1; got 0"):
        Timm(height=0)


def test_a_network_without_published_weights_is_refused():
    name = next(n for n in timm.list_models("resnet*") if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(OptionError, match=rf"name={name}: timm has no weights for it; .*weights=none"):
        Timm(name=name, height=32, width=32)


def test_mean_and_std_belong_to_the_weights(tmp_path):
    vit = Timm(name="vit_tiny_patch16_224", height=32, width=32)  # the constructor fetches nothing
    assert vit.preprocess == Preprocess(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert vit.pretrained
    resnet = Timm(name="resnet18.tv_in1k", height=32, width=32)
    assert resnet.preprocess == Preprocess(32, 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata=METADATA)
    assert Timm(weights=File(tmp_path / "w.safetensors")).preprocess.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_published_weights_are_read_from_the_hubs_cache(name, tmp_path, monkeypatch):
    """A cache as the hub's client lays it out; the transformer's positions are fitted from 224 x 224 to our size."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    theirs = timm.create_model(name)
    folder = tmp_path / f"models--{theirs.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(theirs.state_dict(), snapshot / "model.safetensors")
    network = Timm(name=name, height=64, width=32)
    network.initialise()
    block = next(n for n in theirs.state_dict() if n.endswith(("layer1.0.conv1.weight", "blocks.0.attn.qkv.weight")))
    assert network.network.state_dict()[block].equal(theirs.state_dict()[block])
    (snapshot / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"model\.safetensors: timm cannot load it: .*delete it to download it again"):
        network.initialise()


def test_bgr_weights_need_a_layer_of_three_channels(tmp_path):
    """The first convolution of this network takes 48 channels: the image folded."""
    metadata = METADATA | {"channels": "BGR"}
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata=metadata)
    network = Timm(name="tresnet_m", weights=File(tmp_path / "w.safetensors"), height=64, width=32)
    with pytest.raises(DataError, match="no layer of tresnet_m is known to take exactly three channels; reorder"):
        network.initialise()
