"""resnet50: the paper's 25.74 M parameters, its head, its weights and the normalisation that they expect."""

import pytest
import timm
import torch
import torchvision
from reidbench_backbones.heads import build_head
from reidbench_backbones.resnet import ResNet50
from safetensors.torch import save_file
from torch import Tensor, nn

from reidbench import DataError, File, OptionError, Preprocess, build
from reidbench.testing import check_backbone
from tests.plugins.test_weights import METADATA


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_parameters_are_the_papers_25_74_million():
    network = ResNet50(weights=None)
    assert parameters(network.network) == 23_508_032
    assert parameters(network.head) == 2048 * 1024 + 2 * 1024 + 1024 * 128 + 128
    assert parameters(network) == 25_738_432
    assert (network.embedding_dim, network.batch, network.pretrained) == (128, (18, 4), False)


def test_without_a_head_it_is_torchvisions_feature():
    network = ResNet50(head=None, weights=None, height=64, width=32).eval()
    theirs = torchvision.models.resnet50(weights=None).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(network.network.state_dict())
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        features = network(images)
        torch.testing.assert_close(features, theirs(images), rtol=1e-4, atol=1e-5)
        assert features.equal(network(images.contiguous(memory_format=torch.channels_last)))
    assert features.shape == (2, network.embedding_dim) == (2, 2048)
    assert parameters(network) == 23_508_032


def test_the_head_is_linear_norm_relu_linear():
    head, size = build_head("trinet", 12, None, "test")
    x = torch.randn(6, 12)
    hidden = x @ head[0].weight.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    expected = hidden.clamp(min=0) @ head[3].weight.T + head[3].bias
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)
    assert size == 128
    bound = (6 / (12 + 1024)) ** 0.5
    assert head[0].weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
    torch.testing.assert_close(head[3].weight @ head[3].weight.T, torch.eye(128), rtol=0, atol=1e-5)
    assert (head[3].bias == 0).all()


def test_mean_and_std_belong_to_the_weights(tmp_path):
    assert ResNet50(weights=None).preprocess == Preprocess(256, 128, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    published = ResNet50(height=64, width=32)  # the constructor fetches nothing
    assert published.preprocess == Preprocess(64, 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert published.pretrained
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata=METADATA | {"channels": "BGR"})
    own = ResNet50(weights=File(tmp_path / "w.safetensors"))
    assert own.preprocess == Preprocess(256, 128, (0.3, 0.2, 0.1), (0.6, 0.5, 0.4))
    assert own.pretrained
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="its metadata has no mean, std, channels"):
        ResNet50(weights=File(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize(
    ("backbone", "make"),
    [("resnet50(head=none", torchvision.models.resnet50), ("timm(name=resnet18", timm.models.resnet18)],
)
def test_a_file_of_the_library_is_loaded_without_its_classifier(tmp_path, backbone, make, channels):
    theirs, file = make().eval(), tmp_path / "w.safetensors"
    save_file(theirs.state_dict(), file, metadata=METADATA | {"channels": channels})
    network = build("backbone", f'{backbone}, weights="{file}", height=64, width=32)').eval()
    network.initialise()
    images = torch.rand(2, 3, 64, 32)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        expected = theirs(images.flip(1) if channels == "BGR" else images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_loaded_with_its_head(tmp_path):
    trained = ResNet50(weights=None, height=64, width=32)
    save_file(trained.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    network = ResNet50(weights=File(tmp_path / "w.safetensors"), height=64, width=32)
    assert not network.head[0].weight.equal(trained.head[0].weight)
    network.initialise()
    saved: dict[str, Tensor] = trained.state_dict()
    assert all(value.equal(saved[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("backbone", ["resnet50(weights=none", "timm(weights=none, head=trinet"])
@pytest.mark.parametrize("size", [1, 64, 512])
def test_embedding_dim_is_the_number_of_outputs(backbone, size):
    network = build("backbone", f"{backbone}, height=32, width=32, embedding_dim={size})").eval()
    assert network.embedding_dim == size
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, size)
    assert not network.faithful_to


@pytest.mark.parametrize("options", ["head=none, embedding_dim=64", "head=trinet, embedding_dim=0"])
@pytest.mark.parametrize("backbone", ["resnet50", "timm"])
def test_embedding_dim_needs_a_head_and_is_positive(backbone, options):
    with pytest.raises(OptionError, match=f"{backbone}: option embedding_dim: expected .*got"):
        build("backbone", f"{backbone}(weights=none, {options})")


def test_the_contract_holds_without_published_weights():
    assert "seeded weights" in check_backbone("resnet50(weights=none, height=64, width=32)")


@pytest.mark.parametrize("option", ["height", "width"])
def test_an_input_below_one_cell_is_refused(option):
    with pytest.raises(OptionError, match=f"resnet50: {option} must be at least 32; got 31"):
        ResNet50(**{option: 31})
