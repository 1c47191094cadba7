"""Weights of networks with a head, and finding or downloading published ones."""

import hashlib
import subprocess
import urllib.error

import pytest
import torch
from reidbench_backbones.weights import load_weights, read_torch_file, torch_hub_file
from torch import Tensor, nn

from reidbench import DataError, build
from tests.support.cases import cases

METADATA = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]", "channels": "RGB"}


def test_a_torch_file_may_hold_only_tensors(tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"x": torch.ones(2)}, file)
    assert read_torch_file(file)["x"].tolist() == [1, 1]
    torch.save({"x": subprocess.Popen}, file)  # code, not tensors
    with pytest.raises(DataError, match=r"w\.pth: cannot be read"):
        read_torch_file(file)
    file.write_bytes(b"half a fi")
    with pytest.raises(DataError, match=r"w\.pth: cannot be read"):
        read_torch_file(file)


# --- tensors ----------------------------------------------------------------------------------------------


def load(network, head, *arguments, **options):
    load_weights(nn.ModuleDict({"network": network, "head": head}), *arguments, **options)


def small() -> tuple[nn.Module, nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """Return a network and a head, and random tensors for each."""
    modules = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)), nn.Sequential(nn.Linear(4, 2))
    states = [module.state_dict().items() for module in modules]
    of_network, of_head = (
        {n: torch.rand(t.shape) if t.is_floating_point() else t for n, t in state} for state in states
    )
    return *modules, of_network, of_head


def test_tensors_are_loaded_without_the_classifier():
    network, head, of_network, _ = small()
    before = head[0].weight.clone()
    extra = {"fc.weight": torch.zeros(9, 4), "fc.bias": torch.zeros(9)}
    load(network, head, of_network | extra, source="w", classifier=["fc"])
    assert all(network.state_dict()[name].equal(value) for name, value in of_network.items())
    assert head[0].weight.equal(before)
    with pytest.raises(DataError, match=r"w: does not fit this network: 1 unexpected \(fc\.scale\)"):
        load(network, head, of_network | extra | {"fc.scale": torch.zeros(1)}, source="w", classifier=["fc"])


def test_a_checkpoint_is_loaded_with_or_without_its_head():
    network, head, of_network, of_head = small()
    ours = {f"network.{n}": t for n, t in of_network.items()}
    load(network, head, ours, source="w", classifier=["fc"])
    assert network[0].weight.equal(of_network["0.weight"])
    load(network, head, ours | {f"head.{n}": t for n, t in of_head.items()}, source="w", classifier=["fc"])
    assert head[0].weight.equal(of_head["0.weight"])
    assert head[0].bias.equal(of_head["0.bias"])
    with pytest.raises(DataError, match=r"1 missing \(head\.0\.bias\)"):
        load(network, head, ours | {"head.0.weight": of_head["0.weight"]}, source="w", classifier=["fc"])
    with pytest.raises(DataError, match=r"1 unexpected \(head\.0\.weight\)"):
        load(network, nn.Identity(), ours | {"head.0.weight": of_head["0.weight"]}, source="w", classifier=["fc"])


def test_all_mismatches_are_named_and_nothing_is_loaded():
    network, head, of_network, _ = small()
    before = network[0].weight.clone()
    wrong = {n: t for n, t in of_network.items() if not n.startswith("1.running")}
    wrong |= {"1.weight": torch.zeros(5)} | {f"a{number}": torch.zeros(1) for number in range(7)}
    with pytest.raises(DataError) as caught:
        load(network, head, wrong, source="w.safetensors", classifier=[])
    assert str(caught.value) == (
        "w.safetensors: does not fit this network: 2 missing (1.running_mean, 1.running_var); "
        "7 unexpected (a0, a1, a2, a3, a4, …); "
        "1 of another shape or type (1.weight torch.float32 [5], expected torch.float32 [4])"
    )
    assert network[0].weight.equal(before)


def test_batch_norm_counters_may_be_missing():
    network, head, of_network, _ = small()
    del of_network["1.num_batches_tracked"]
    load(network, head, of_network, source="w", classifier=[])
    assert network[1].running_mean.equal(of_network["1.running_mean"])


def test_a_flipped_layer_reverses_the_channels():
    """A BGR network on BGR pixels and its flipped copy on RGB pixels are one function."""
    network, head, of_network, _ = small()
    rgb = torch.rand(2, 3, 5, 4)
    load(network, head, of_network, source="w", classifier=[])
    expected = network.eval()(rgb.flip(1))
    load(network, head, of_network, source="w", classifier=[], flip=["0"])
    torch.testing.assert_close(network(rgb), expected)


# --- finding and downloading ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that is served as file:// addresses; torch.hub's own folder is an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    served = tmp_path / "served"
    served.mkdir()
    return served


def test_a_file_is_downloaded_once_and_checked(hub, tmp_path):
    content = b"weights"
    published = hub / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    published.write_bytes(content)
    file = torch_hub_file(published.as_uri(), "net")
    assert file == tmp_path / "torch" / "hub" / "checkpoints" / published.name
    assert file.read_bytes() == content
    published.unlink()
    assert torch_hub_file(published.as_uri(), "net") == file
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"net: {file}: has the sha256 .*delete it to download it again"):
        torch_hub_file(published.as_uri(), "net")


def test_a_download_with_other_content_is_deleted(hub, tmp_path):
    (hub / "net-00000000.pth").write_bytes(b"other")
    with pytest.raises(DataError, match=r"net-00000000\.pth .*invalid hash value"):
        torch_hub_file((hub / "net-00000000.pth").as_uri(), "net")
    assert list((tmp_path / "torch").rglob("*.*")) == []


def test_weights_that_are_not_found_are_an_error(hub, tmp_path, monkeypatch):
    """The message names the file, the folder, the address and the way out, for both sources."""
    from huggingface_hub import constants

    def refuse(*_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for spec, *expected in cases(__file__, "weights_that_are_not_found"):
        with pytest.raises(DataError) as caught:
            build("backbone", spec).initialise()
        assert caught.value.exit_code == 2
        for text in (*expected, "weights=none"):
            assert text.replace("FOLDER", str(tmp_path)) in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
