"""Why two processes end elsewhere than one in float32: where the first difference arises, and what makes it grow.

    python benchmarks/rounding.py

One process plays both: the network sees a batch whole, or its halves one after the other, the loss sees all embeddings,
and the gradients of the halves are added. Printed for float32 and float64, with Adam and with plain gradient descent.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

import reidbench
from reidbench import TrainInfo
from reidbench.training.loop import evaluate_loss

STEPS, P, K, RATE = 50, 4, 4, 1e-4


def trained(dtype: torch.dtype, optimizer: type[torch.optim.Optimizer], cuts: list[int]) -> dict[str, list[Tensor]]:
    """Return the losses of all steps, and of the first its embeddings, gradients and the weights that came of it."""
    torch.manual_seed(0)
    network = reidbench.build("backbone", "tiny(norm=none, height=32, width=16)").to(dtype).train()
    loss = reidbench.build("loss", "batch_hard", TrainInfo(embedding_dim=network.embedding_dim, num_pids=P))
    weights = list(network.parameters())
    stepper = optimizer(weights, lr=RATE)  # type: ignore[call-arg]
    labels = torch.arange(P).repeat_interleave(K)
    found: dict[str, list[Tensor]] = {"losses": []}
    for step in range(STEPS):
        images = torch.randn(P * K, 3, 32, 16, generator=torch.Generator().manual_seed(step)).to(dtype)
        parts = [network(images[first:end]) for first, end in pairwise(cuts)]
        whole = torch.cat([part.detach() for part in parts]).requires_grad_()
        total = evaluate_loss(loss, whole, labels).total
        total.backward()  # type: ignore[no-untyped-call]
        assert whole.grad is not None
        pieces = [whole.grad[first:end] for first, end in pairwise(cuts)]
        gradients = [torch.autograd.grad(part, weights, piece) for part, piece in zip(parts, pieces, strict=True)]
        for weight, *terms in zip(weights, *gradients, strict=True):
            weight.grad = torch.stack(terms).sum(0)
        stepper.step()
        found["losses"].append(total.detach().double())
        if not step:
            found |= {
                "embeddings": [whole.detach()],
                "gradients": [w.grad.clone() for w in weights if w.grad is not None],
            }
            found["weights"] = [weight.detach().clone() for weight in weights]
    return found


def main() -> None:
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64):
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            one, two = (trained(dtype, optimizer, cuts) for cuts in ([0, 16], [0, 8, 16]))
            apart = [float((a - b).abs() / a) for a, b in zip(one["losses"], two["losses"], strict=True)]
            sizes = [gradient.abs().max() for gradient in one["gradients"]]
            seen = [size > 1e-6 * max(sizes) for size in sizes]  # the others are zero but for rounding
            pairs = list(zip(one["gradients"], two["gradients"], sizes, seen, strict=True))
            worst = max(float((a - b).abs().max() / size) for a, b, size, real in pairs if real)
            flipped = sum(int((a.sign() != b.sign()).sum()) for a, b, _, _ in pairs)
            moved = max(float((a - b).abs().max()) / RATE for a, b in zip(one["weights"], two["weights"], strict=True))
            same = "the same" if torch.equal(one["embeddings"][0], two["embeddings"][0]) else "not the same"
            print(f"{str(dtype)[6:]}, {optimizer.__name__}: first embeddings {same}; gradients "
                  f"{worst:.0e} apart, {flipped} signs; weights after a step {moved:.0e} learning rates apart; losses "
                  f"{apart[1]:.0e} at the second step, at most {max(apart):.0e} in {STEPS}")  # fmt: skip


if __name__ == "__main__":
    main()
