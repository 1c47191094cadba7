"""What of networks, losses and optimizers a checkpoint holds, as named tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from reidbench.errors import DataError
from reidbench.store import Checkpoint


def named_tensors(modules: torch.nn.ModuleDict, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of ``modules`` as "module.NAME" and that of ``optimizer`` as "optimizer.INDEX.ENTRY"."""
    tensors = {f"module.{name}": tensor for name, tensor in modules.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
    return tensors


def restore(
    checkpoint: Checkpoint, modules: torch.nn.ModuleDict, optimizer: torch.optim.Optimizer, folder: Path
) -> None:
    """Load what ``named_tensors`` gave; raises DataError where it is of another network."""
    weights = {n.removeprefix("module."): t for n, t in checkpoint.tensors.items() if n.startswith("module.")}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".", 2)
            state.setdefault(int(index), {})[entry] = tensor
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        modules.load_state_dict(weights)
        for number, kept in state.items():  # in the weights' own memory layout, which fused kernels take for granted
            like = parameters[number]
            state[number] = {
                name: torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                for name, value in kept.items()
            }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{folder}: the checkpoint does not fit this network: {error}; delete it to train again"
        ) from None
