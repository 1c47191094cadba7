"""Distances in plain Python, valid batches for every built-in loss, and the memory that a loss keeps."""

import math

import torch
from reidbench_losses.distances import Distance
from torch import Tensor

from reidbench import Loss, TrainInfo, build

DISTANCES: tuple[Distance, ...] = ("euclidean", "sqeuclidean", "cosine")
INFO = TrainInfo(embedding_dim=4, num_pids=8)

GROUPS = [0, 1, 0, 2, 1, 0, 3, 0]
TRIPLETS = [0, 1, 2, 0, 1, 2, 1, 2, 0]
PAIRS = [0, 1, 2, 3, 0, 1, 3, 2]
COSINE = ("adasp", "smooth_ap", "recall_at_k_surrogate")  # of cosine similarities, also at test time
# The labels of a valid batch of each loss.
LABELS = {
    **dict.fromkeys([*COSINE, "weighted_regularized_triplet", "centre"], GROUPS),
    **dict.fromkeys(["batch_hard", "batch_all", "lifted", "lifted_generalized", "classification"], GROUPS),
    **dict.fromkeys(["triplet", "triplet_ohm", "improved_triplet"], TRIPLETS),
    **dict.fromkeys(["verification", "identification_verification"], PAIRS),
    "lmnn": [0, 0, 1, 2, 2, 0],
}


def built(spec: str) -> tuple[Loss, Tensor]:
    """Return a loss, built from one seed, and the labels of a valid batch."""
    torch.manual_seed(0)
    loss: Loss = build("loss", spec, INFO)
    labels = TRIPLETS if "pairs=triplets" in spec else LABELS[spec.partition("(")[0]]
    return loss, torch.tensor(labels)


def random_embeddings(count: int, dim: int = 4, seed: int = 0, **options) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), **options)


def gradient_of(total, embeddings):
    """Return the value and the gradient of a function of the embeddings."""
    leaf = embeddings.clone().requires_grad_()
    value = total(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def slow_distance(a: list[float], b: list[float], distance: Distance) -> float:
    if distance == "cosine":
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    squared = math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared if distance == "sqeuclidean" else math.sqrt(squared)


def saved_bytes(forward):
    """Return the bytes that autograd saves for the backward pass of ``forward``, shared memory counted once."""
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor  # a reference, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
