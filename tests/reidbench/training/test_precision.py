"""Precision, memory layout and compilation: loss and weights in float32, refusals, exact resume."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidbench.errors import OptionError
from reidbench.plugins.interfaces import Backbone, Preprocess
from reidbench.training.precision import check_device, float32_products, forward_pass
from reidbench.training.recipe import Recipe
from tests.support.logs import read_log
from tests.support.tiny_training import Spread, assert_exact, fit

CPU = torch.device("cpu")


def recipe(**changes) -> Recipe:
    values = {"steps": 7, "decay_start": 4, "learning_rate": 1e-2, "p": 3, "k": 4, **changes}
    return Recipe(**values)


class Seen(Backbone):
    """A convolution and a linear layer that note the type and layout they compute in."""

    embedding_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(8, 8)
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 4)
        self.kinds: list[tuple[torch.dtype, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        x = self.convolution(images)
        self.kinds.append((x.dtype, images.is_contiguous(memory_format=torch.channels_last)))
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_network_has_the_precision_of_the_recipe(precision, channels_last):
    network = Seen()
    forward = forward_pass(network, recipe(precision=precision, channels_last=channels_last), CPU)
    images = torch.rand(5, 3, 8, 8)
    embeddings = forward(images)
    assert embeddings.dtype == torch.float32
    expected = torch.bfloat16 if precision == "bf16" else torch.float32
    assert network.kinds == [(expected, channels_last)]
    assert network.convolution.weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    exact = network.linear(network.convolution(images).flatten(1))
    tolerance = 0.05 if precision == "bf16" else 1e-6
    torch.testing.assert_close(embeddings, exact, rtol=tolerance, atol=tolerance)
    assert torch.equal(embeddings, exact) == (precision == "float32")
    embeddings.sum().backward()
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_float64_is_retained():
    assert forward_pass(Seen().double(), recipe(), CPU)(torch.rand(2, 3, 8, 8).double()).dtype == torch.float64


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"channels_last": True}, {"fused": True, "channels_last": True}], ids=str
)
def test_a_training_repeats_and_resumes_bit_for_bit(changes, tmp_path):
    assert_exact(Spread, tmp_path, recipe(**changes))


def test_the_loss_is_float32_in_any_precision(tmp_path):
    seen: set[tuple[torch.dtype, torch.dtype]] = set()

    class Watch(Spread):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            product = embeddings @ embeddings.T
            seen.add((embeddings.dtype, product.dtype))
            return product.diagonal()

    fit(Watch, tmp_path / "run", recipe=recipe(precision="bf16"))
    assert seen == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"fused": True}, {"channels_last": True}], ids=str)
def test_other_precisions_train_nearly_the_same(changes, tmp_path):
    plain, other = (tmp_path / name for name in ("plain", "other"))
    fit(Spread, plain, recipe=recipe())
    fit(Spread, other, recipe=recipe(**changes))
    losses = [read_log(folder)["loss"] for folder in (plain, other)]
    np.testing.assert_allclose(losses[1][:2], losses[0][:2], rtol=0.05 if "precision" in changes else 1e-4)
    assert not np.array_equal(losses[0], losses[1]) or "precision" not in changes


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(OptionError, match="precision=tf32 needs an NVIDIA GPU, the device is cpu"):
        check_device(recipe(precision="tf32"), CPU)
    check_device(recipe(precision="tf32"), torch.device("cuda", 0))
    check_device(recipe(precision="bf16"), CPU)


def test_compilation_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OptionError, match="compiler on a CPU, and there is no 'no-such-compiler'"):
        check_device(recipe(compile=True), CPU)
    check_device(recipe(compile=True), torch.device("cuda", 0))
    check_device(recipe(), CPU)
    for blank in ("", " ", '"'):
        monkeypatch.setenv("CXX", blank)
        with pytest.raises(OptionError, match=f"and there is no {blank!r}"):
            check_device(recipe(compile=True), CPU)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OptionError, match=r"and there is no 'g\+\+'"):
        check_device(recipe(compile=True), CPU)


def test_float32_products_are_set_for_a_block():
    def present():
        return [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]

    before = present()
    with float32_products():
        assert present() == ["ieee", "ieee"]
        with float32_products(tf32=True):
            assert present() == ["tf32", "tf32"]
        assert present() == ["ieee", "ieee"]
    assert present() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")  # the network asks the process to stop
def test_a_compiled_training_is_close_and_repeats(tmp_path):
    assert_exact(Spread, tmp_path, recipe(compile=True))
    fit(Spread, tmp_path / "plain", recipe=recipe())
    losses = [read_log(tmp_path / name)["loss"] for name in ("plain", "whole")]
    np.testing.assert_allclose(losses[1][:2], losses[0][:2], rtol=1e-4)
