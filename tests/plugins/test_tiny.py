"""tiny: shapes at every size, the option norm, initialisation, and learning."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reidbench_backbones.tiny import Tiny
from torch import Tensor, nn

from reidbench import OptionError, Preprocess
from tests.support.paths import CHECKOUT


def images(count: int, height: int = 64, width: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15)
@given(st.sampled_from(["batch", "none"]), st.integers(1, 40), st.integers(16, 80), st.integers(16, 80))
def test_any_input_of_16_pixels_or_more_gives_an_embedding(norm, size, height, width):
    network = Tiny(norm=norm, embedding_dim=size, height=height, width=width)
    assert network.preprocess == Preprocess(height, width, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert network.embedding_dim == size
    assert not network.pretrained
    embeddings = network(images(2, height, width))
    assert embeddings.shape == (2, size)
    assert embeddings.isfinite().all()


def test_its_page_counts_the_parameters_at_the_defaults():
    page = (CHECKOUT / "docs" / "backbones" / "tiny.md").read_text(encoding="utf-8")
    assert f"{sum(each.numel() for each in Tiny().parameters()):,} parameters" in page


@pytest.mark.parametrize(("option", "value"), [("embedding_dim", 0), ("height", 15), ("width", 8)])
def test_options_that_are_too_small_are_refused(option, value):
    with pytest.raises(OptionError, match=rf"tiny: {option} must be at least \d+; got {value}"):
        Tiny(**{option: value})


def test_without_norm_an_embedding_depends_on_one_image():
    batch = images(8).double()
    plain = Tiny(norm="none").double()
    assert not [module for module in plain.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    torch.testing.assert_close(plain(batch)[:2], plain(batch[:2]), rtol=1e-12, atol=1e-12)
    normed = Tiny(norm="batch").double()
    assert not torch.allclose(normed(batch)[:2], normed(batch[:2]))
    normed.eval()
    torch.testing.assert_close(normed(batch)[:2], normed(batch[:2]), rtol=1e-12, atol=1e-12)


def test_nothing_follows_the_embedding_layer():
    network = Tiny().double().eval()
    batch = images(8).double()
    features = network.stages(batch).flatten(1)
    expected = features @ network.embedding.weight.T + network.embedding.bias
    torch.testing.assert_close(network(batch), expected, rtol=1e-12, atol=1e-12)
    assert (expected < 0).any()
    assert (expected > 0).any()


def test_the_stages_are_convolution_pool_norm_and_leaky_relu():
    network = Tiny(norm="none").double()
    batch = expected = images(2, 50, 31).double()
    for convolution in (module for module in network.stages if isinstance(module, nn.Conv2d)):
        activated = nn.functional.conv2d(expected, convolution.weight, convolution.bias, padding=1)
        activated = torch.where(activated > 0, activated, 0.3 * activated)
        expected = nn.functional.max_pool2d(activated, 2, ceil_mode=True)
    assert expected.shape == (2, 256, 4, 2)
    torch.testing.assert_close(network.stages(batch), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_initialisation_preserves_the_scale(norm):
    spread = Tiny(norm=norm)(images(64)).std().item()
    assert 0.05 < spread < 5


def test_the_memory_format_of_a_batch_has_no_effect():
    network = Tiny()
    batch = images(4)
    assert network(batch).equal(network(batch.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_few_steps_learn_the_direction_of_stripes(norm):
    network = Tiny(norm=norm, embedding_dim=2, height=16, width=16)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    batch, unseen = images(32, 16, 16), images(32, 16, 16, seed=1)
    for striped in (batch, unseen):
        striped[::2, :, ::4] += 1  # horizontal
        striped[1::2, :, :, ::4] += 1  # vertical
    labels = torch.arange(32) % 2
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(batch), labels)
        loss.backward()
        optimizer.step()
    network.eval()
    assert (network(unseen).argmax(dim=1) == labels).float().mean() > 0.9
