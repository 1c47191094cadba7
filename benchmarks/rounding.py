"""Measure how far float32 rounding separates training on two processes from training on one, step by step.

    python benchmarks/rounding.py

One process simulates both: the network embeds a batch at once or in two halves, the loss gets all embeddings, and the
gradients of the halves are added. Prints the differences of embeddings, gradients, weights and losses, in float32 and
float64, for Adam and plain gradient descent.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

import reidbench
from reidbench import TrainInfo
from reidbench.training.loop import evaluate_loss

STEPS, P, K, LEARNING_RATE = 50, 4, 4, 1e-4


def train(dtype: torch.dtype, optimizer_class: type[torch.optim.Optimizer], cuts: list[int]) -> dict[str, list[Tensor]]:
    """Return the losses of all steps, and embeddings, gradients and updated weights of the first step.

    ``cuts`` are the bounds of the parts of a batch that are embedded separately.
    """
    torch.manual_seed(0)
    network = reidbench.build("backbone", "tiny(norm=none, height=32, width=16)").to(dtype).train()
    loss = reidbench.build("loss", "batch_hard", TrainInfo(embedding_dim=network.embedding_dim, num_pids=P))
    weights = list(network.parameters())
    optimizer = optimizer_class(weights, lr=LEARNING_RATE)  # type: ignore[call-arg]
    labels = torch.arange(P).repeat_interleave(K)
    results: dict[str, list[Tensor]] = {"losses": []}
    for step in range(STEPS):
        images = torch.randn(P * K, 3, 32, 16, generator=torch.Generator().manual_seed(step)).to(dtype)
        parts = [network(images[first:end]) for first, end in pairwise(cuts)]
        embeddings = torch.cat([part.detach() for part in parts]).requires_grad_()
        total = evaluate_loss(loss, embeddings, labels).total
        total.backward()  # type: ignore[no-untyped-call]
        assert embeddings.grad is not None
        part_gradients = [embeddings.grad[first:end] for first, end in pairwise(cuts)]
        gradients = [
            torch.autograd.grad(part, weights, gradient) for part, gradient in zip(parts, part_gradients, strict=True)
        ]
        for weight, *terms in zip(weights, *gradients, strict=True):
            weight.grad = torch.stack(terms).sum(0)
        optimizer.step()
        results["losses"].append(total.detach().double())
        if step == 0:
            results["embeddings"] = [embeddings.detach()]
            results["gradients"] = [weight.grad.clone() for weight in weights if weight.grad is not None]
            results["weights"] = [weight.detach().clone() for weight in weights]
    return results


def main() -> None:
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64):
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            one, two = (train(dtype, optimizer, cuts) for cuts in ([0, 16], [0, 8, 16]))
            loss_errors = [float((a - b).abs() / a) for a, b in zip(one["losses"], two["losses"], strict=True)]
            sizes = [gradient.abs().max() for gradient in one["gradients"]]
            nonzero = [size > 1e-6 * max(sizes) for size in sizes]  # the others are zero but for rounding
            pairs = list(zip(one["gradients"], two["gradients"], sizes, nonzero, strict=True))
            gradient_error = max(float((a - b).abs().max() / size) for a, b, size, compared in pairs if compared)
            signs = sum(int((a.sign() != b.sign()).sum()) for a, b, _, _ in pairs)
            weight_errors = [float((a - b).abs().max()) for a, b in zip(one["weights"], two["weights"], strict=True)]
            equal = "equal" if torch.equal(one["embeddings"][0], two["embeddings"][0]) else "different"
            print(f"{str(dtype)[6:]}, {optimizer.__name__}: first embeddings {equal}; gradients differ by "
                  f"{gradient_error:.0e} (relative), {signs} signs; weights after one step by "
                  f"{max(weight_errors) / LEARNING_RATE:.0e} learning rates; losses by {loss_errors[1]:.0e} at the "
                  f"second step, by at most {max(loss_errors):.0e} in {STEPS} steps")  # fmt: skip


if __name__ == "__main__":
    main()
