"""The neck between the feature that metric losses read and the one that a classifier reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor, nn

from reidbench import Backbone, LaterOption

Neck = Annotated[Literal["bnneck"] | None, LaterOption]
TestFeature = Annotated[Literal["neck", "pooled"], LaterOption]


class NeckedBackbone(Backbone):
    """A network whose feature may pass a neck; with one, losses may read the features "pooled" and "neck".

    "pooled" is the feature before the neck, "neck" the one behind it. The embedding is one of the two.
    Source: Luo et al. 2019, "Bag of Tricks and a Strong Baseline for Deep Person Re-identification" (BNNeck).
    """

    neck: nn.Module | None
    test_feature: str = "neck"

    def add_neck(self, neck: Neck, test_feature: TestFeature) -> None:
        """Add the neck, in the constructor, once ``embedding_dim`` is set; none adds nothing.

        ``bnneck`` is a batch norm whose bias is fixed at 0.
        """
        self.neck, self.test_feature = None, test_feature
        if neck is not None:
            norm = nn.BatchNorm1d(self.embedding_dim)
            norm.bias.requires_grad_(False)
            self.neck = norm
            self.feature_sizes = {"pooled": self.embedding_dim, "neck": self.embedding_dim}

    def pooled(self, images: Tensor) -> Tensor:
        """Return the feature before the neck [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, embedding_dim] of ``images`` [B, 3, height, width]."""
        feature = self.pooled(images)
        return feature if self.neck is None or self.test_feature == "pooled" else self.neck(feature)

    def training_features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features before and behind the neck, and which of them is the embedding."""
        if self.neck is None:
            return super().training_features(images)
        before = self.pooled(images)
        features = {"pooled": before, "neck": self.neck(before)}
        return features | {"embedding": features[self.test_feature]}
