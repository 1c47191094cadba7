"""googlenet: torchvision's feature, its weights with their normalisation, and what is new for a recipe."""

import torch
import torchvision
from reidbench_backbones.googlenet import GoogLeNet
from safetensors.torch import save_file
from torch import nn

from reidbench import File, Preprocess
from tests.plugins.test_weights import METADATA


def test_it_is_torchvisions_feature_in_the_normalisation_of_the_weights(tmp_path):
    # As published: with the auxiliary classifiers, and an input that is converted inside the network.
    theirs = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False).eval()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors", metadata=METADATA)
    network = GoogLeNet(weights=File(tmp_path / "w.safetensors"), height=64, width=32).eval()
    network.initialise()
    theirs.fc = nn.Identity()
    pixels = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        features = network((pixels - 0.5) / 0.5)
        usual = torchvision.transforms.functional.normalize(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        torch.testing.assert_close(features, theirs(usual), rtol=1e-3, atol=1e-4)
    assert features.shape == (2, network.embedding_dim)


def test_a_head_is_new_and_the_network_pretrained():
    with torch.device("meta"):
        network = GoogLeNet(head="trinet", height=64, width=32)
    assert network.preprocess == Preprocess(64, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert [group.get("pretrained", network.pretrained) for group in network.param_groups()] == [True, False]
