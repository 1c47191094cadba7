"""Several processes train one network: each embeds its part of a batch, and the loss of each sees the whole batch.

``torchrun`` starts them; ``utils/processes`` says which one this is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reidbench.errors import OptionError
from reidbench.plugins.interfaces import Backbone
from reidbench.utils.processes import World, peer_errors


def gather(world: World, part: Tensor, count: int) -> Tensor:
    """Return all ``count`` rows [count, D], of which ``part`` [n, D] is this process's, in order.

    What is computed from them must be the same in every process: then each has the gradient of the whole with respect
    to ``part``, and none is sent back.
    """
    if world.size == 1:
        return part
    rows: Tensor = _Gather.apply(part, world, count)
    return rows


def add_gradients(world: World, network: Backbone, loss: nn.Module) -> None:
    """Give every process the gradient of the whole batch, after ``backward`` in each.

    The network's gradients are summed, since each process has those of its part; those of the loss and of the network's
    pair stage are of the whole batch already and are averaged, so that rounding does not let the processes drift apart.
    """
    if world.size == 1:
        return
    for parameter in (*loss.parameters(), *network.pair_parameters()):
        if parameter.grad is not None:
            parameter.grad.div_(world.size)
    gradients = [p.grad for p in (*network.parameters(), *loss.parameters()) if p.grad is not None]
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in same])
        with peer_errors(world.size):
            distributed.all_reduce(flat)
        for gradient, summed in zip(same, torch.split(flat, [gradient.numel() for gradient in same]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def share_buffers(world: World, module: nn.Module) -> None:
    """Give every process the buffers of the first one, which may have changed there alone."""
    if world.size == 1:
        return
    shared = world.from_first(lambda: {name: buffer.cpu() for name, buffer in module.named_buffers()})
    own = dict(module.named_buffers())
    for name, buffer in shared.items():
        own[name].resize_(buffer.shape).copy_(buffer)


def synchronise_batch_norms(world: World, network: nn.Module, device: torch.device) -> None:
    """Let the batch norms of ``network`` take their statistics over the images of all processes.

    Raises OptionError on CPUs, where torch has no such layer, naming the first batch norm.
    """
    if world.size == 1:
        return
    layers = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if layers and device.type != "cuda":
        reason = f"torch synchronises batch norms on GPUs alone, and {layers[0]} of {type(network).__name__} is one"
        advice = "use one process, GPUs, or a network without batch norm"
        raise OptionError(f"{world.size} processes on a CPU: {reason}; {advice}")
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes; the gradient of this process's rows is those rows of the whole gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, world: World, count: int) -> Tensor:
        ctx.part = world.batch_part(count)
        sizes = [len(range(count)[world.batch_part(count, rank)]) for rank in range(world.size)]
        # Padded to one length, since not every backend gathers tensors of different lengths.
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in sizes]
        with peer_errors(world.size):
            distributed.all_gather(parts, padded)
        return torch.cat([each[:size] for each, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.part], None, None
