"""caffenet: its sizes and parameters, every kind of layer against its formula, and its weights."""

import pytest
import torch
from reidbench_backbones.caffenet import CaffeNet
from torch.nn import functional

from reidbench import OptionError
from reidbench.testing import check_backbone

SMALL = {"height": 67, "width": 43, "channels": 0.125, "features": 16}


def test_the_sizes_and_parameters_are_caffenets():
    with torch.device("meta"):
        network = CaffeNet()
        x, rows = torch.rand(1, 3, 227, 227), {}
        for name, layer in network.network.named_children():
            x = layer(x)
            rows[name] = x.shape[-1]
        CaffeNet(height=39, width=39)(torch.rand(1, 3, 39, 39))
    assert sum(parameter.numel() for parameter in network.parameters()) == 56_868_224
    assert [rows[name] for name in ("conv1", "pool1", "norm1", "pool2", "conv5", "pool5")] == [55, 27, 27, 13, 13, 6]
    assert list(rows)[:4] == ["conv1", "relu1", "pool1", "norm1"], "pools come before norms"


def convolution(layer, x):
    """Return a convolution as a product of unfolded patches, group by group."""
    place = {"padding": layer.padding, "stride": layer.stride}
    patches = [functional.unfold(part, layer.kernel_size, **place) for part in x.chunk(layer.groups, 1)]
    outputs = [weight.flatten(1) @ part for weight, part in zip(layer.weight.chunk(layer.groups), patches, strict=True)]
    sides = [(size + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1 for size in x.shape[2:]]
    return torch.cat(outputs, 1).unflatten(2, sides) + layer.bias[:, None, None]


def pool(x):
    """Return the maxima of 3 x 3 windows at a stride of 2; the last window may hang over the edge."""
    rows, columns = (range(0, max(1, size - 1), 2) for size in x.shape[2:])
    cells = [x[:, :, i : i + 3, j : j + 3].amax((2, 3)) for i in rows for j in columns]
    return torch.stack(cells, 2).unflatten(2, (len(rows), len(columns)))


def norm(x):
    """Return x / (1 + 1e-4 / 5 times the sum of squares of the channel and two on each side) ** 0.75."""
    squares = functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    sums = sum(squares[:, offset : offset + x.shape[1]] for offset in range(5))
    return x / (1 + 1e-4 / 5 * sums) ** 0.75


def test_every_layer_follows_its_formula():
    network = CaffeNet(**SMALL).double().eval()
    layers = dict(network.network.named_children())
    images = 255 * torch.rand(3, 3, 67, 43, dtype=torch.float64)  # large enough for the norms to matter
    x = images
    for number in range(1, 6):
        x = convolution(layers[f"conv{number}"], x).clamp(min=0)
        x = pool(x) if number in (1, 2, 5) else x
        x = norm(x) if number in (1, 2) else x
    x = x.flatten(1)
    for name in ("fc6", "fc7"):
        x = (x @ layers[name].weight.T + layers[name].bias).clamp(min=0)
    with torch.no_grad():
        embeddings = network(images)
    torch.testing.assert_close(embeddings, x, rtol=1e-9, atol=1e-9)
    assert (embeddings >= 0).all()


def test_it_passes_the_contract_checks():
    check_backbone("caffenet(height=67, width=43, channels=0.125, features=16)")


def test_options_that_are_too_small_are_refused():
    with pytest.raises(OptionError, match="caffenet: width must be at least 39; got 38"):
        CaffeNet(width=38)
