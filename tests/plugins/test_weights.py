"""weights: what a file must say and hold, what is fetched whole or not at all, and one message where nothing works."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from reidbench_backbones.weights import Normalisation, load, read_normalisation, read_published, torch_hub_file
from safetensors.torch import save_file
from torch import Tensor, nn

from reidbench import DataError, build

RGB = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]", "channels": "RGB"}
DEAD = "http://127.0.0.1:9"  # the discard port, where nobody listens


def write(folder: Path, metadata: dict[str, str] | None, tensors: dict[str, Tensor] | None = None) -> Path:
    save_file(tensors or {"x": torch.zeros(1)}, folder / "w.safetensors", metadata=metadata)
    return folder / "w.safetensors"


# --- what a file says ---------------------------------------------------------------------------------------------


def test_mean_and_std_come_from_the_file_in_rgb_order(tmp_path: Path) -> None:
    assert read_normalisation(write(tmp_path, RGB)) == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), bgr=False)
    bgr = read_normalisation(write(tmp_path, RGB | {"channels": "BGR"}))
    assert bgr == Normalisation((0.3, 0.2, 0.1), (0.6, 0.5, 0.4), bgr=True)


@pytest.mark.parametrize("keys", [["mean"], ["std"], ["channels"], ["mean", "std", "channels"]])
def test_a_missing_key_is_named_with_how_to_write_it(tmp_path: Path, keys: list[str]) -> None:
    file = write(tmp_path, {key: value for key, value in RGB.items() if key not in keys} or None)
    with pytest.raises(DataError, match=rf"its metadata has no {', '.join(keys)}; write it with safetensors.*channels"):
        read_normalisation(file)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": "0.1"},
        {"mean": "[0.1, 0.2]"},
        {"mean": "[123.7, 116.8, 103.9]"},
        {"mean": "[NaN, 0.1, 0.1]"},
        {"mean": "oops"},
        {"std": "[0, 1, 1]"},
        {"std": "[58.4, 57.1, 57.4]"},
        {"std": "[0.1, null, 0.1]"},
        {"channels": "rgb"},
    ],
)
def test_what_is_no_normalisation_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(DataError, match="which is no normalisation; write it with"):
        read_normalisation(write(tmp_path, RGB | wrong))


def test_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"x": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"w\.pth: is no safetensors file"):
        read_normalisation(file)


def test_a_published_file_holds_tensors_or_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"x": torch.ones(2)}, file)
    assert read_published(file)["x"].tolist() == [1, 1]
    torch.save({"x": subprocess.Popen}, file)  # code, not tensors
    with pytest.raises(DataError, match=r"w\.pth: cannot be read"):
        read_published(file)
    file.write_bytes(b"half a fi")
    with pytest.raises(DataError, match=r"w\.pth: cannot be read"):
        read_published(file)


# --- what a file holds ----------------------------------------------------------------------------------------------


def small() -> tuple[nn.Module, nn.Module]:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    return network, nn.Sequential(nn.Linear(4, 2))


def drawn(*modules: nn.Module) -> list[dict[str, Tensor]]:
    return [
        {n: torch.rand(t.shape) if t.is_floating_point() else t for n, t in m.state_dict().items()} for m in modules
    ]


def test_names_of_the_network_are_loaded_and_the_classifier_left_out() -> None:
    network, head = small()
    of_network, _ = drawn(network, head)
    before = head[0].weight.clone()
    extra = {"fc.weight": torch.zeros(9, 4), "fc.bias": torch.zeros(9)}
    load(network, head, of_network | extra, source="w", classifier=["fc"])
    assert all(network.state_dict()[name].equal(value) for name, value in of_network.items())
    assert head[0].weight.equal(before)
    with pytest.raises(DataError, match=r"w: is not of this network: 1 unexpected \(fc\.scale\)"):
        load(network, head, of_network | extra | {"fc.scale": torch.zeros(1)}, source="w", classifier=["fc"])


def test_a_trained_run_of_ours_is_loaded_with_its_head_or_without() -> None:
    network, head = small()
    of_network, of_head = drawn(network, head)
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


def test_all_that_differs_is_named_and_nothing_is_loaded() -> None:
    network, head = small()
    of_network, _ = drawn(network, head)
    before = network[0].weight.clone()
    wrong = {n: t for n, t in of_network.items() if not n.startswith("1.running")}
    wrong |= {"1.weight": torch.zeros(5)} | {f"a{number}": torch.zeros(1) for number in range(7)}
    with pytest.raises(DataError) as caught:
        load(network, head, wrong, source="w.safetensors", classifier=[])
    assert str(caught.value) == (
        "w.safetensors: is not of this network: 2 missing (1.running_mean, 1.running_var); "
        "7 unexpected (a0, a1, a2, a3, a4, …); 1 of another shape (1.weight [5], expected [4])"
    )
    assert network[0].weight.equal(before)


def test_batch_norm_counters_may_be_missing() -> None:
    network, head = small()
    of_network, _ = drawn(network, head)
    del of_network["1.num_batches_tracked"]
    load(network, head, of_network, source="w", classifier=[])
    assert network[1].running_mean.equal(of_network["1.running_mean"])


def test_a_flipped_layer_reads_the_channels_the_other_way_round() -> None:
    """A BGR network on BGR pixels and its flipped copy on RGB pixels are one function."""
    network, head = small()
    of_network, _ = drawn(network, head)
    rgb = torch.rand(2, 3, 5, 4)
    load(network, head, of_network, source="w", classifier=[])
    expected = network.eval()(rgb.flip(1))
    load(network, head, of_network, source="w", classifier=[], flip=["0"])
    torch.testing.assert_close(network(rgb), expected)


# --- finding and fetching -------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002, the base class's name
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address it is served at; torch.hub's folder is an empty one."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_is_fetched_once_and_checked(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = server
    content = bytes(range(256)) * 10_000  # more than one chunk
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    file = torch_hub_file(f"{address}/{name}", "net")
    assert file == tmp_path / "torch" / "hub" / "checkpoints" / name
    assert file.read_bytes() == content
    (folder / name).unlink()
    assert torch_hub_file(f"{address}/{name}", "net") == file  # nobody is asked again

    file.write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"is there, but its content is not what its name says .*HTTP Error 404.*weights=none"
    ):
        torch_hub_file(f"{address}/{name}", "net")
    (folder / name).write_bytes(content)
    assert torch_hub_file(f"{address}/{name}", "net").read_bytes() == content


def test_what_comes_with_other_content_is_not_kept(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = server
    (folder / "net-00000000.pth").write_bytes(b"other")
    with pytest.raises(DataError, match=r"net-00000000\.pth .*what came has the sha256 d9298a10…, not 00000000…"):
        torch_hub_file(f"{address}/net-00000000.pth", "net")
    assert list((tmp_path / "torch").rglob("*.*")) == []


def test_weights_that_are_not_at_hand_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Exit code 2 with file, folder, reason and way out, for both sources, and no half minute of retries."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.upper(), DEAD)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    way_out = "([Errno 111] Connection refused); fetch it with a network, or train from drawn weights: weights=none"

    with pytest.raises(DataError) as resnet:
        build("backbone", "resnet50(height=32, width=32)").initialise()
    assert str(resnet.value) == (
        "resnet50(weights=imagenet): the weights are not at hand: resnet50-0676ba61.pth was looked for in "
        f"{tmp_path}/torch/hub/checkpoints and is not there, and could not be fetched from "
        f"https://download.pytorch.org/models/resnet50-0676ba61.pth {way_out}"
    )
    with pytest.raises(DataError) as timm:
        build("backbone", "timm(height=32, width=32)").initialise()
    assert str(timm.value) == (
        "timm(name=resnet18, weights=imagenet): the weights are not at hand: model.safetensors or pytorch_model.bin "
        f"was looked for in {tmp_path}/hub and is not there, and could not be fetched from "
        f"huggingface.co/timm/resnet18.a1_in1k {way_out}"
    )
    assert resnet.value.exit_code == timm.value.exit_code == 2
    assert "Retrying" not in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
