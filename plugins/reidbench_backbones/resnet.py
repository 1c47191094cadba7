"""torchvision's ResNet-50: with the head of TriNet, or with pooling, neck and attention of later baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from reidbench import Backbone, LaterOption, OptionError, Preprocess, hookimpl
from reidbench_backbones.heads import EMBEDDING, Head, build_head, head_groups
from reidbench_backbones.layers import GeneralizedMean, NonLocal
from reidbench_backbones.necks import Neck, NeckedBackbone, TestFeature
from reidbench_backbones.weights import Choice, load_weights, read_torch_file, torch_hub_file

FIRST = "conv1"
CLASSIFIER = "fc"
FEATURES = 2048
STAGES = ("layer1", "layer2", "layer3", "layer4")
ATTENTION = {"layer2": (512, (2, 3)), "layer3": (1024, (3, 4, 5))}  # channels, and the blocks that it follows, from 0
SMALLEST = 32  # pixels for one cell of the last stage
PAPER_SIZES = ((256, 128), (128, 64), (64, 32))  # height and width in Table 3 of Hermans et al. 2017


class ResNet50(NeckedBackbone):
    """ResNet-50 with average pooling and the paper's head: with pretrained weights, TriNet's network.

    Options:
        head: "trinet" for 1024 units, batch norm, ReLU and 128 units; none for the pooled 2048-D feature.
        weights: "imagenet" for torchvision's first weights, a file, a run's folder, or none for random ones.
        height: Height of the input in pixels, at least 32.
        width: Width of the input in pixels, at least 32.
        embedding_dim: Size of the embedding; none for the paper's 128, or without a head for the feature's 2048.
        last_stride: Stride of the last stage; 1 for a feature map of twice the height and width.
        pool: "average", or "gem" for the generalized mean with a learned exponent that starts at 3.
        non_local: Inner channels of five non-local blocks in the second and third stage, or none for no such blocks.
        neck: "bnneck" for a batch norm with a fixed bias behind the feature, or none.
        test_feature: With a neck, whether the embedding is the feature behind it ("neck") or before it ("pooled").

    Maps images [B, 3, height, width] to embeddings [B, D], not normalised. Mean and std are those of the weights:
    torchvision's, the file's, or none (pixels / 255). With the head, at D = 128, it has 25,738,432 parameters, the
    paper's 25.74 M. Random weights start as torchvision's do, the head as ``build_head`` says. The constructor reads
    only a weights file's metadata, since planning needs mean and std.
    Raises OptionError for an option out of range, DataError where weights are not found or do not fit.
    Source: Hermans, Beyer, Leibe 2017, section 3.3; He et al. 2016, in torchvision's variant with the stride in the
    3x3 convolution.
    """

    batch = (18, 4)

    def __init__(
        self,
        *,
        head: Head = "trinet",
        weights: Choice = "imagenet",
        height: int = 256,
        width: int = 128,
        embedding_dim: int | None = None,
        last_stride: Annotated[Literal[1, 2], LaterOption] = 2,
        pool: Annotated[Literal["average", "gem"], LaterOption] = "average",
        non_local: Annotated[int | None, LaterOption] = None,
        neck: Neck = None,
        test_feature: TestFeature = "neck",
    ) -> None:
        from torchvision.models import ResNet50_Weights, resnet50  # noqa: PLC0415, slow to import

        super().__init__()
        for name, value in (("height", height), ("width", width)):
            if value < SMALLEST:
                raise OptionError(f"resnet50: {name} must be at least {SMALLEST}; got {value}")
        if non_local is not None and non_local < 1:
            raise OptionError(f"resnet50: non_local must be at least 1, or none; got {non_local}")
        self.published = ResNet50_Weights.IMAGENET1K_V1
        if weights == "imagenet":
            transform = self.published.transforms()
            self.preprocess = Preprocess(height, width, tuple(transform.mean), tuple(transform.std))
            self.pretrained = True
        else:
            self.use_weights(weights, Preprocess(height, width))
        self.network = resnet50(weights=None)
        self.network.fc = nn.Identity()
        first = self.network.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (last_stride, last_stride)
        self.head, self.embedding_dim = build_head(head, FEATURES, embedding_dim, "resnet50")
        self.gem = GeneralizedMean() if pool == "gem" else None
        self.attention = nn.ModuleDict()
        for stage, (channels, places) in ATTENTION.items() if non_local is not None else ():
            self.attention.update({f"{stage}_{place}": NonLocal(channels, non_local) for place in places})
        self.add_neck(neck, test_feature)
        papers = (head, weights, self.embedding_dim) == ("trinet", "imagenet", EMBEDDING)
        papers = papers and (last_stride, pool, non_local, neck) == (2, "average", None, None)
        if papers and (height, width) in PAPER_SIZES:
            self.faithful_to = "Hermans et al. (2017)"

    def initialise(self) -> None:
        """Load the weights; raises DataError where they are not found or do not fit."""
        if self.pretrained and self.weights_file is None:
            file = torch_hub_file(self.published.url, "resnet50(weights=imagenet)")
            load_weights(self, read_torch_file(file), source=str(file), classifier=[CLASSIFIER])
        super().initialise()

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str, *, bgr: bool) -> None:
        """Load the tensors of a weights file; raises DataError where they do not fit."""
        flip = [FIRST] if bgr else []
        load_weights(self, tensors, source=source, classifier=[CLASSIFIER], flip=flip)

    def param_groups(self) -> list[dict[str, object]]:
        """Return the groups of torchvision's layers and of all others."""
        return head_groups(self)

    def pooled(self, images: Tensor) -> Tensor:
        """Return the feature before the neck [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        network = self.network
        # This memory format is faster on a CPU; always using it gives the same bits for any input format.
        features = network.conv1(images.contiguous(memory_format=torch.channels_last))
        features = network.maxpool(network.relu(network.bn1(features)))
        for stage in STAGES:
            for place, block in enumerate(getattr(network, stage)):
                features = block(features)
                if f"{stage}_{place}" in self.attention:
                    features = self.attention[f"{stage}_{place}"](features)
        return self.head((self.gem or network.avgpool)(features).flatten(1))


@hookimpl
def register_backbones() -> dict[str, type[Backbone]]:
    """Offer resnet50."""
    return {"resnet50": ResNet50}
