"""Several processes that train one network: each embeds its part of a batch, and every loss sees all of it.

``torchrun`` starts them. The first process alone draws, reads checkpoints, writes and scores.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from reidbench.errors import OptionError, PeerError, ReidbenchError
from reidbench.utils.machine import Settings

T = TypeVar("T")

# Others wait for the first while it scores a whole gallery; torchrun ends them where it dies.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """This process among all that train together: its number ``rank`` of ``size``. Alone, everything here is free."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that draws, writes and speaks."""
        return self.rank == 0

    def places(self, count: int) -> slice:
        """Return this process's part of a batch of ``count``; parts differ by at most one.

        Raises OptionError where there is less than one for each process.
        """
        if count < self.size:
            raise OptionError(
                f"a batch of {count} images cannot be spread over {self.size} processes; raise the recipe's p or k, or "
                "use fewer processes"
            )
        return self._part(self.rank, count)

    def _part(self, rank: int, count: int) -> slice:
        return slice(rank * count // self.size, (rank + 1) * count // self.size)

    def gather(self, part: Tensor, count: int) -> Tensor:
        """Return all ``count`` rows [count, D], of which ``part`` [n, D] is this process's, in order.

        What is computed from them must be the same in every process: then the gradient of the whole with respect to
        ``part`` is at hand in each, and none travels back.
        """
        if self.size == 1:
            return part
        whole: Tensor = _Gather.apply(part, self, count)
        return whole

    def add_gradients(self, network: nn.Module, loss: nn.Module) -> None:
        """Give every process the gradient of the whole batch, after ``backward`` in each.

        The network's gradients are summed, since each process has those of its part; the loss's are those of the whole
        batch already and are averaged, so that rounding lets no two processes drift apart.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        for own in (p.grad for p in loss.parameters() if p.grad is not None):
            own.div_(self.size)
            gradients.append(own)
        for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
            same = [gradient for gradient in gradients if gradient.dtype == dtype]
            flat = torch.cat([gradient.reshape(-1) for gradient in same])
            with _peers(self.size):
                distributed.all_reduce(flat)
            for gradient, summed in zip(same, torch.split(flat, [gradient.numel() for gradient in same]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process has it set, so that all decide alike."""
        if self.size == 1:
            return flags
        counts = torch.tensor(flags, dtype=torch.int32)
        with _peers(self.size):
            distributed.all_reduce(counts)
        return tuple(bool(count) for count in counts.tolist())

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers, which may have changed there alone."""
        if self.size == 1:
            return
        theirs = self.from_first(lambda: {name: buffer.cpu() for name, buffer in module.named_buffers()})
        own = dict(module.named_buffers())
        for name, buffer in theirs.items():
            own[name].resize_(buffer.shape).copy_(buffer)

    def from_first(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives in the first process, where alone it runs.

        What it raises there is raised there; the others end with PeerError.
        """
        if self.size == 1:
            return work()
        box: list[Any] = [None, False]
        if self.first:
            try:
                box = [work(), True]
            finally:  # the others wait, whatever happened
                with _peers(self.size):
                    distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
            made: T = box[0]
            return made
        with _peers(self.size):
            distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if not box[1]:
            raise PeerError("the first process could not go on")
        received: T = box[0]
        return received

    def in_turn(self, work: Callable[[], T]) -> T:
        """Return what ``work`` gives here; the first process is before all others, who find what it left."""
        done: list[T] = []
        self.from_first(lambda: done.append(work()))
        return done[0] if done else work()

    def settled(self, settings: Settings) -> Settings:
        """Return the settings of this process: a GPU of its own and its share of the cores, where they are not given.

        Raises OptionError where one GPU is named for all.
        """
        if self.size == 1:
            return settings
        cores, here = len(os.sched_getaffinity(0)), int(os.environ["LOCAL_WORLD_SIZE"])
        shared = replace(settings, threads=settings.threads or max(1, cores // here))
        if settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available()):
            return shared
        if settings.device not in ("auto", "cuda"):
            raise OptionError(f"--device {settings.device}: {self.size} processes need a GPU each; use --device cuda")
        return replace(shared, device=f"cuda:{os.environ['LOCAL_RANK']}")

    def synchronised(self, network: nn.Module, device: torch.device) -> None:
        """Let the batch norms of ``network`` take their statistics over all processes' images.

        Raises OptionError on CPUs, where torch has no such norm, naming the first layer.
        """
        if self.size == 1:
            return
        norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
        if norms and device.type != "cuda":
            name, norm = next(iter(norms.items()))
            raise OptionError(
                f"{self.size} processes on a CPU: layer {name} ({type(norm).__name__}) of {type(network).__name__}, "
                f"one of {len(norms)} such, takes its statistics over a batch, which torch gathers only from GPUs; use "
                "one process, GPUs, or a network without batch norm"
            )
        for name, norm in norms.items():
            parent, _, own = name.rpartition(".")
            synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
            setattr(network.get_submodule(parent), own, synchronised)


ALONE = World()


def join() -> World:
    """Return this process's place among those that torchrun started together; ALONE where it was started by itself."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size())


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient of this process's are those rows of the whole's."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, world: World, count: int) -> Tensor:
        ctx.part = world._part(world.rank, count)
        sizes = [len(range(count)[world._part(rank, count)]) for rank in range(world.size)]
        # One length for all, since not every backend takes parts of different ones.
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in sizes]
        with _peers(world.size):
            distributed.all_gather(parts, padded)
        return torch.cat([each[:size] for each, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.part], None, None


@contextmanager
def _peers(size: int) -> Iterator[None]:
    """Say what a lost connection means."""
    try:
        yield
    except ReidbenchError:
        raise
    except RuntimeError as error:
        raise PeerError(f"another of the {size} processes has ended ({str(error).splitlines()[0][:120]})") from error
