"""Large margin nearest neighbour: pull of images to fixed target neighbours, push of other identities."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, OptionError, Searched, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.checks import HingeMargin, check_at_least
from reidbench_losses.distances import Distance, between, pairwise, rows_of
from reidbench_losses.sampling import random_triplets, shuffled_passes, units_with_positive


def target_neighbours(embeddings: Tensor, labels: IntArray, neighbours: int, distance: Distance) -> IntArray:
    """Return the ``neighbours`` closest images of each image's identity, closest first: int64 [n, neighbours].

    ``embeddings`` [n, D], ``labels`` [n] any integers. Equally close images are in input order; missing ones are -1.
    """
    targets = np.full((len(labels), neighbours), -1, dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        distances = pairwise(embeddings[torch.from_numpy(members).to(embeddings.device)], distance)
        closest = distances.fill_diagonal_(torch.inf).argsort(dim=1, stable=True).cpu().numpy()
        count = min(neighbours, len(members) - 1)
        targets[members, :count] = members[closest[:, :count]]
    return targets


def lmnn_terms(
    embeddings: Tensor, labels: Tensor, targets: Tensor, margin: float = 1.0, distance: Distance = "euclidean"
) -> tuple[Tensor, Tensor]:
    """Return the terms of the pull, one a pair, and of the push, one a pair and image of another identity.

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B] integers, ``targets`` [B, k] the rows of each row's target
    neighbours, -1 for none: a row without any is not an anchor, but a negative of others. The result is float32, or
    float64 where the embeddings are. Raises TrainingError where no row has a target neighbour or a negative.
    Source: Hermans et al. 2017, Eq. 2 (D(i, j), j in T(i)) and Eq. 3 ([m + D(a, T(a)) - D(a, n)]_+).
    """
    anchors, places = (targets >= 0).nonzero(as_tuple=True)
    if not len(anchors):
        raise TrainingError(f"lmnn: none of the {len(labels)} images of the batch has a target neighbour")
    pull = between(embeddings, anchors, targets[anchors, places], distance)
    others = labels[anchors, None] != labels[None, :]
    push = torch.relu(margin + pull[:, None] - rows_of(pairwise(embeddings, distance), anchors)).masked_select(others)
    if not len(push):
        raise TrainingError(f"lmnn: no anchor has a negative, as all {len(labels)} images are of one identity")
    return pull, push


def grouped_targets(labels: Tensor, neighbours: int) -> Tensor:
    """Return the rows of the target neighbours [B, neighbours] in a batch of groups with ``labels`` [B], else -1.

    A group is an anchor, its target neighbours and an image of another identity. Raises TrainingError where the labels
    are not those of such a batch.
    """
    size = neighbours + 2
    rows = torch.arange(len(labels), device=labels.device)
    same = labels == labels[rows - rows % size]
    if len(labels) % size or bool((same != (rows % size <= neighbours)).any()):
        raise TrainingError(
            f"lmnn: a batch must be groups of an anchor, its {neighbours} target neighbours and an image of another "
            f"identity; the {len(labels)} labels are not; use the batches of its own next_round"
        )
    after = torch.arange(1, size - 1, device=labels.device)
    return torch.where(rows[:, None] % size == 0, rows[:, None] + after, -1)


class LMNN(Loss):
    """Pull of each image to target neighbours that are fixed before training, and push of other identities.

    Options:
        mu: Weight of the push, from 0 to 1; the pull has 1 - mu.
        margin: The margin m >= 0 of the push's hinge, in units of the distance.
        neighbours: Target neighbours of each image, at least 1; the paper's formulas have one.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).

    It samples its own rounds: before the first step it embeds the training set with the untrained network and stores
    each image's closest images of its identity; batches are groups of an anchor, its target neighbours and one image of
    another identity, and every image of another identity in the batch is pushed. The neighbours are saved with the
    checkpoint. If an identity has too few images, its neighbours are repeated; one with a single image has no anchors.
    Takes embeddings [B, D] and labels [B] in the order of its rounds; computes in float32, or in float64 where the
    embeddings are. Raises OptionError for options out of range, TrainingError for data or a batch without anchors or
    negatives.
    Source: Weinberger, Saul 2009; Hermans, Beyer, Leibe 2017, Eq. 1 to 3, each sum divided by its number of terms.
    Reference: https://jmlr.org/papers/v10/weinberger09a.html
    Reference: https://arxiv.org/abs/1703.07737
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        mu: Annotated[float, Searched(0.1, 0.9)] = 0.5,  # most of 0 to 1
        margin: HingeMargin = 1.0,
        neighbours: int = 1,
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        if not 0 <= mu <= 1:
            raise OptionError(f"lmnn: option mu: expected a number from 0 to 1, got {mu}")
        check_at_least("lmnn", 0, margin=margin)
        check_at_least("lmnn", 1, neighbours=neighbours)
        self.mu = mu
        self.margin = margin
        self.neighbours = neighbours
        self.distance = distance
        self.targets = np.empty((0, neighbours), dtype=np.int64)  # of every training image, set by the first round

    def get_extra_state(self) -> Tensor:
        """Return the target neighbours [n, neighbours]; a buffer cannot change its size when a checkpoint is loaded."""
        return torch.from_numpy(self.targets)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the target neighbours from a checkpoint."""
        self.targets = state.cpu().numpy()

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one shuffled pass over the anchors, each with its target neighbours and an image of another identity.

        A batch has about P * K images; anchors that do not fill a batch are dropped.
        """
        anchors = units_with_positive(view.labels, "lmnn")
        if not len(self.targets):
            everything = view.embed(np.arange(len(view.labels)))
            self.targets = target_neighbours(everything, view.labels, self.neighbours, self.distance)
        groups = max(1, view.p * view.k // (self.neighbours + 2))
        batches = max(1, len(anchors) // groups)
        anchors = shuffled_passes(anchors, batches * groups, view.generator)
        targets = self.targets[anchors]
        available = (targets >= 0).sum(axis=1, keepdims=True)
        repeated = np.take_along_axis(targets, np.arange(self.neighbours) % available, axis=1)
        negatives = random_triplets(view.labels, anchors, view.generator)[:, 2]
        return list(np.column_stack([anchors, repeated, negatives]).reshape(batches, -1))

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossValue:
        """Return the weighted sum of the mean pull and the mean push, and the terms of both."""
        targets = grouped_targets(labels, self.neighbours)
        pull, push = lmnn_terms(embeddings, labels, targets, self.margin, self.distance)
        total = (1 - self.mu) * pull.mean() + self.mu * push.mean()
        scalars = {"pull": pull.detach().mean(), "push": push.detach().mean()}
        return LossValue(total, per_item={"pull": pull, "push": push}, scalars=scalars)


@hookimpl
def register_losses() -> dict[str, type[Loss]]:
    """Offer lmnn."""
    return {"lmnn": LMNN}
