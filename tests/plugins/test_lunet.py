"""lunet: Table 6 layer by layer, the paper's 5.00 M parameters, initialisation, other sizes and widths."""

import pytest
import torch
from reidbench_backbones.lunet import Block, LuNet
from torch import nn
from torch.nn import functional

from reidbench import OptionError, Preprocess
from tests.support.cases import cases

BLOCKS = cases(__file__, "blocks")


def count(modules: list[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def convolutions_of(network: LuNet) -> list[list[list[int]]]:
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    return [[[c.in_channels, c.out_channels, c.kernel_size[0]] for c in block.convolutions] for block in blocks]


def test_the_parameters_are_the_papers_5_00_million():
    """Biases in every convolution and linear layer; a norm before each convolution of a block; projections."""
    network = LuNet()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    main = [layer for block in BLOCKS for layer in block]
    projections = [(128, 256, 1), (256, 512, 1), (512, 128, 1)]
    layers = [(3, 128, 7), *main, *projections]
    weights = sum(before * after * kernel**2 for before, after, kernel in layers)
    biases = sum(after for _, after, _ in layers)
    assert (weights, biases) == (4_392_320, 6_464)
    assert count(convolutions) == weights + biases
    assert count(linears) == 1024 * 512 + 512 + 512 * 128 + 128
    assert count(norms) == 2 * (sum(before for before, _, _ in main) + 512) == 11_904
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total == 5_001_152
    assert f"{total / 1e6:.2f}" == "5.00"
    assert f"{(total - biases) / 1e6:.2f}" == "4.99"


def test_the_layers_are_in_the_order_of_table_6():
    network = LuNet()
    seen: list[list[str | int]] = []
    for module in network.modules():
        if isinstance(module, Block | nn.MaxPool2d | nn.Linear | nn.BatchNorm1d | nn.LeakyReLU):
            module.register_forward_hook(lambda module, _, out: seen.append([type(module).__name__, *out.shape[1:]]))
    assert convolutions_of(network) == BLOCKS
    with torch.no_grad():
        network(torch.rand(2, 3, 128, 64))
    assert seen == cases(__file__, "layers")
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d):
            assert (module.kernel_size, module.stride, module.padding) == (3, 2, 1)
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.3


@pytest.mark.parametrize("after", [6, 4])
def test_a_block_is_the_pre_activation_bottleneck(after):
    """norm, leaky ReLU, convolution three times; a projection of the first activation where the width changes."""
    block = Block((6, 3, 3, after), kernels=(1, 3, 1)).double().eval()
    for norm in block.norms:
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)

    def activate(values, norm):
        shape = (1, -1, 1, 1)
        centred = (values - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
        scaled = centred * norm.weight.view(shape) + norm.bias.view(shape)
        return torch.where(scaled > 0, scaled, 0.3 * scaled)

    first = activate(x, block.norms[0])
    hidden = torch.einsum("oi,bihw->bohw", block.convolutions[0].weight[:, :, 0, 0], first)
    hidden = activate(hidden + block.convolutions[0].bias.view(1, -1, 1, 1), block.norms[1])
    hidden = functional.conv2d(hidden, block.convolutions[1].weight, block.convolutions[1].bias, padding=1)
    hidden = activate(hidden, block.norms[2])
    residual = functional.conv2d(hidden, block.convolutions[2].weight, block.convolutions[2].bias)
    if after == 6:
        assert block.projection is None
        expected = x + residual
    else:
        expected = functional.conv2d(first, block.projection.weight, block.projection.bias) + residual
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_initialisation_follows_he_and_glorot():
    network = LuNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / (1 + 0.3**2) / inputs) ** 0.5, rel=0.05)
            assert (module.bias == 0).all()
        elif isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert module.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
            assert (module.bias == 0).all()


@pytest.mark.parametrize(("height", "width", "inputs"), [(64, 32, 256), (33, 16, 256), (128, 64, 1024), (1, 1, 128)])
def test_the_first_linear_layer_fits_the_input_size(height, width, inputs):
    network = LuNet(height=height, width=width).eval()
    assert network.head[0].in_features == inputs
    assert network.preprocess == Preprocess(height, width)
    with torch.no_grad():
        assert network(torch.rand(2, 3, height, width)).shape == (2, 128)


def test_channels_scales_all_widths_but_the_embeddings():
    network = LuNet(channels=0.25, embedding_dim=40, height=64, width=32)
    assert network.embedding_dim == 40
    assert network.stem.out_channels == 32
    expected = [[[before // 4, after // 4, kernel] for before, after, kernel in block] for block in BLOCKS]
    assert convolutions_of(network) == expected
    assert (network.head[0].out_features, network.head[-1].out_features) == (128, 40)
    assert LuNet(channels=0.001, height=16, width=16).stem.out_channels == 1


@pytest.mark.parametrize("option", ["embedding_dim", "height", "width", "channels"])
def test_options_must_be_above_0(option):
    with pytest.raises(OptionError, match=rf"lunet: {option} must be above 0; got 0"):
        LuNet(**{option: 0})


def test_the_memory_format_of_a_batch_has_no_effect():
    network, batch = LuNet(channels=0.125, height=64, width=32), torch.rand(4, 3, 64, 32)
    assert network(batch).equal(network(batch.contiguous(memory_format=torch.channels_last)))
