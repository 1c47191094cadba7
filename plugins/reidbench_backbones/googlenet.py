"""torchvision's GoogLeNet, the network of DTL (Geng et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reidbench import Backbone, OptionError, Preprocess, hookimpl
from reidbench_backbones.heads import Head, build_head, head_groups
from reidbench_backbones.weights import Choice, load_weights, read_torch_file, torch_hub_file

FEATURES = 1024
SMALLEST = 32  # pixels for one cell of the last stage
HALVES = (0.5, 0.5, 0.5)  # mean and std that the weights were trained with


class GoogLeNet(Backbone):
    """GoogLeNet with average pooling, without its auxiliary classifiers: the pooled 1024-D feature, or a head on it.

    Options:
        head: "trinet" for 1024 units, batch norm, ReLU and 128 units; none for the pooled 1024-D feature.
        weights: "imagenet" for torchvision's weights, a file, a run's folder, or none for random ones.
        height: Height of the input in pixels, at least 32.
        width: Width of the input in pixels, at least 32.
        embedding_dim: Size of the embedding; none for 128, or without a head for the feature's 1024.

    Maps images [B, 3, height, width] to embeddings [B, D], not normalised. torchvision's network has batch norms, which
    that of Szegedy et al. lacks. Random weights start as torch's layers do, the head as ``build_head`` says.
    Raises OptionError for an option out of range, DataError where weights are not found or do not fit.
    Source: Szegedy et al. 2015, in torchvision's variant.
    """

    def __init__(
        self,
        *,
        head: Head = None,
        weights: Choice = "imagenet",
        height: int = 224,
        width: int = 224,
        embedding_dim: int | None = None,
    ) -> None:
        from torchvision.models import GoogLeNet_Weights, googlenet  # noqa: PLC0415, slow to import

        super().__init__()
        for name, value in (("height", height), ("width", width)):
            if value < SMALLEST:
                raise OptionError(f"googlenet: {name} must be at least {SMALLEST}; got {value}")
        self.published = GoogLeNet_Weights.IMAGENET1K_V1
        if weights == "imagenet":
            # torchvision converts its usual normalisation to this one inside the network, which is switched off here.
            self.preprocess, self.pretrained = Preprocess(height, width, HALVES, HALVES), True
        else:
            self.use_weights(weights, Preprocess(height, width))
        self.network = googlenet(weights=None, aux_logits=False, transform_input=False, init_weights=False)
        self.network.dropout, self.network.fc = nn.Identity(), nn.Identity()  # the loss has both
        self.head, self.embedding_dim = build_head(head, FEATURES, embedding_dim, "googlenet")

    def initialise(self) -> None:
        """Load the weights; raises DataError where they are not found or do not fit."""
        if self.pretrained and self.weights_file is None:
            file = torch_hub_file(self.published.url, "googlenet(weights=imagenet)")
            self.load_tensors(read_torch_file(file), str(file), bgr=False)
        super().initialise()

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str, *, bgr: bool) -> None:
        """Load the tensors of a weights file; raises DataError where they do not fit."""
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("aux")}
        flip = ["conv1.conv"] if bgr else []
        load_weights(self, tensors, source=source, classifier=["fc"], flip=flip)

    def param_groups(self) -> list[dict[str, object]]:
        """Return the groups of the network and of the head."""
        return head_groups(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        return self.head(self.network(images.contiguous(memory_format=torch.channels_last)))


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer googlenet."""
    return {"googlenet": GoogLeNet}
