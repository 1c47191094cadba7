"""Large margin nearest neighbour: images are pulled to neighbours chosen once, and others pushed out of the way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidbench import IntArray, Loss, LossValue, OptionError, TrainInfo, TrainingError, TrainView, hookimpl
from reidbench_losses.distances import Distance, between, pairwise, rows_of
from reidbench_losses.random_triplet import random_triplets
from reidbench_losses.rounds import accompanied, passes


def target_neighbours(embeddings: Tensor, labels: IntArray, neighbours: int, distance: Distance) -> IntArray:
    """Return the ``neighbours`` closest images of each image's identity, closest first: int64 [n, neighbours].

    ``embeddings`` [n, D], ``labels`` [n] any integers. Equally close ones stand in the order of the images; -1 fills
    the places for which there is no further image.
    """
    found = np.full((len(labels), neighbours), -1, dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        distances = pairwise(embeddings[torch.from_numpy(members).to(embeddings.device)], distance)
        closest = distances.fill_diagonal_(torch.inf).argsort(dim=1, stable=True).cpu().numpy()
        many = min(neighbours, len(members) - 1)
        found[members, :many] = members[closest[:, :many]]
    return found


def lmnn_terms(
    embeddings: Tensor, labels: Tensor, targets: Tensor, margin: float = 1.0, distance: Distance = "euclidean"
) -> tuple[Tensor, Tensor]:
    """Return the terms of the pull [pairs] and of the push [pairs with each image of another identity].

    ``embeddings`` [B, D] of any float dtype, ``labels`` [B] integers, ``targets`` [B, k] the rows of each row's target
    neighbours, -1 for none: a row without any is no anchor, but pushed away all the same. The result is float32, or
    float64 where the embeddings are. Raises TrainingError where no row has a target neighbour or none a negative.
    Source: Hermans et al. 2017, Eq. 2 (D(i, j), j in T(i)) and Eq. 3 ([m + D(a, T(a)) - D(a, n)]_+).
    """
    anchors, places = (targets >= 0).nonzero(as_tuple=True)
    if not len(anchors):
        raise TrainingError(f"lmnn: none of the {len(labels)} images of the batch has a target neighbour in it")
    pull = between(embeddings, anchors, targets[anchors, places], distance)
    others = labels[anchors, None] != labels[None, :]
    push = torch.relu(margin + pull[:, None] - rows_of(pairwise(embeddings, distance), anchors)).masked_select(others)
    if not len(push):
        raise TrainingError(f"lmnn: no anchor has a negative, as all {len(labels)} images are of one identity")
    return pull, push


def grouped_targets(labels: Tensor, neighbours: int) -> Tensor:
    """Return the target neighbours [B, neighbours] in a batch of groups with ``labels`` [B]; only anchors have any.

    A group is an anchor, its target neighbours and an image of another identity. Raises TrainingError where the labels
    are not those of such a batch.
    """
    size = neighbours + 2
    rows = torch.arange(len(labels), device=labels.device)
    same = labels == labels[rows - rows % size]
    if len(labels) % size or bool((same != (rows % size <= neighbours)).any()):
        raise TrainingError(
            f"lmnn: a batch must be groups of an anchor, its {neighbours} target neighbours and an image of another "
            f"identity; these {len(labels)} labels are not; give it the batches of its own next_round"
        )
    after = torch.arange(1, size - 1, device=labels.device)
    return torch.where(rows[:, None] % size == 0, rows[:, None] + after, -1)


class LMNN(Loss):
    """Pull of each image to target neighbours fixed at the onset of training, and push of others out of their margin.

    Options:
        mu: Weight of the push, from 0 to 1; the pull has 1 - mu.
        margin: The margin m >= 0 of the push's hinge, in units of the distance.
        neighbours: Target neighbours of each image, at least 1; the paper's formulas have one.
        distance: The distance between embeddings: euclidean, sqeuclidean (its square) or cosine (1 - cos).

    It brings its own rounds: before the first step it embeds the training set with the untrained network and keeps each
    image's closest images of its identity; batches are then groups of an anchor, its target neighbours and one image
    of another identity, and every image of another identity in the batch is pushed. The neighbours outlive a stop. An
    identity with fewer images than asked for has its own repeated; one with a single image gives no anchors. Takes
    embeddings [B, D] and labels [B] in the order of its rounds; computes in float32, or in float64 where the embeddings
    are. Raises OptionError for options out of range, TrainingError for data or a batch without anchors or negatives.
    Source: Weinberger, Saul 2009; Hermans, Beyer, Leibe 2017, Eq. 1 to 3, each sum divided by its number of terms.
    """

    def __init__(
        self,
        info: TrainInfo,
        *,
        mu: float = 0.5,
        margin: float = 1.0,
        neighbours: int = 1,
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        if not 0 <= mu <= 1:
            raise OptionError(f"lmnn: mu must be from 0 to 1, got {mu}")
        if margin < 0:
            raise OptionError(f"lmnn: margin must be at least 0, got {margin}")
        if neighbours < 1:
            raise OptionError(f"lmnn: neighbours must be at least 1, got {neighbours}")
        self.mu = mu
        self.margin = margin
        self.neighbours = neighbours
        self.distance = distance
        self.targets = np.empty((0, neighbours), dtype=np.int64)  # of every training image, from the first round on

    def get_extra_state(self) -> Tensor:
        """Return the target neighbours [n, neighbours]; a buffer could not grow from none to those of a checkpoint."""
        return torch.from_numpy(self.targets)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the target neighbours of a checkpoint."""
        self.targets = state.cpu().numpy()

    def next_round(self, view: TrainView, number: int) -> list[IntArray]:
        """Return one shuffled pass over the anchors, each with its target neighbours and an image of another identity.

        A batch has about P * K images; anchors that fill none are dropped.
        """
        anchors = accompanied(view.labels, "lmnn")
        if not len(self.targets):
            everything = view.embed(np.arange(len(view.labels)))
            self.targets = target_neighbours(everything, view.labels, self.neighbours, self.distance)
        groups = max(1, view.p * view.k // (self.neighbours + 2))
        batches = max(1, len(anchors) // groups)
        drawn = passes(anchors, batches * groups, view.generator)
        known = self.targets[drawn]
        there = (known >= 0).sum(axis=1, keepdims=True)
        repeated = np.take_along_axis(known, np.arange(self.neighbours) % there, axis=1)
        negatives = random_triplets(view.labels, drawn, view.generator)[:, 2]
        return list(np.column_stack([drawn, repeated, negatives]).reshape(batches, -1))

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
