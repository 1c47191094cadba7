"""What of networks, losses and optimizers a checkpoint holds, as named tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from reidbench.errors import DataError
from reidbench.plugins.interfaces import Backbone
from reidbench.utils.atomic import write_atomic, write_error


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


LOG = "log.npz"


def finished(folder: Path) -> dict[str, Any] | None:
    """Return what ``training.json`` says of a finished training, or None where it is not finished."""
    try:
        found: dict[str, Any] = json.loads((folder / TRAINING).read_text())
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise write_error(folder, "no results can lie there", error) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / TRAINING}: is damaged ({error}); delete the folder to train again") from None
    return found


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Load the kept weights of a finished training into a network of the same shape."""
    file = folder / WEIGHTS
    try:
        backbone.load_state_dict(safetensors.torch.load_file(file))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{file}: cannot be loaded into this network: {error}; delete its folder to train again"
        ) from None


WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``step`` updates: named tensors, and what is no tensor as JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in memory of the CPU, each in its own: safetensors refuses what shares some (tied weights)."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = (tensor.clone() if place in seen else tensor).detach().contiguous().cpu()
        seen.add(place)
    return found


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint aside and rename it, then drop all but the newest two.

    One safetensors file holds the tensors and, in its header, the state, so that the two can never disagree.
    """
    state = json.dumps({"step": checkpoint.step, **checkpoint.state}, allow_nan=False)
    data = safetensors.torch.save(on_cpu(checkpoint.tensors), metadata={"state": state})
    write_atomic(folder / f"checkpoint-{checkpoint.step:08d}.safetensors", data)
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT_CHECKPOINTS]:
        old.unlink()


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a folder, or None; raises DataError where the newest is damaged."""
    files = sorted(folder.glob("checkpoint-*.safetensors"))
    if not files:
        return None
    try:
        with safetensors.safe_open(files[-1], framework="pt") as opened:
            state = json.loads(opened.metadata()["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, no mapping
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{files[-1]}: is damaged ({error}); delete it to go on from the one before") from None
    return Checkpoint(step=int(state.pop("step")), tensors=tensors, state=state)


def latest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of a folder, 0 if there is none."""
    steps = [int(file.stem.rpartition("-")[2]) for file in folder.glob("checkpoint-*.safetensors")]
    return max(steps, default=0)


def drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a training that is complete."""
    for file in folder.glob("checkpoint-*.safetensors"):
        file.unlink()
