"""Files of a training: checkpoints to resume from; weights, log and summary once it is finished."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor

from reidbench.errors import DataError
from reidbench.plugins.interfaces import Backbone
from reidbench.plugins.weights import NO_CHECKSUM, WEIGHTS, Normalisation, check_checksum
from reidbench.training.monitor import Monitor, Verdict
from reidbench.utils.arrays import IntArray, save_arrays
from reidbench.utils.atomic import check_seal, sealed_json, set_aside, write_atomic
from reidbench.utils.machine import Environment

LOG = "log.npz"
SUMMARY = "training.json"
KEPT_CHECKPOINTS = 2
_SAVED = ("step", "rounds", "place", "sampling_seconds", "content")  # of a training's state, as they are
# What reading a damaged file raises.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, safetensors.SafetensorError)


@dataclass(frozen=True)
class TrainingSummary:
    """The content of ``training.json``, which a finished training leaves.

    ``steps``: number of steps.
    ``seconds``: seconds that all parts of the training took.
    ``sampling_seconds``: the seconds of these that sampling rounds of batches took, mining included.
    ``resumed_at``: step at which the last part began.
    ``environments``: environment of each part.
    ``peak_memory_mib``: most memory used in the last part, in MiB.
    ``verdict``: whether the network learned anything and its embeddings did not collapse.
    ``packed_steps``: number of steps at which all images of the batch had nearly one embedding.
    ``content``: the content digest of the training images.
    """

    steps: int
    seconds: float
    sampling_seconds: float
    resumed_at: int
    environments: list[Environment]
    peak_memory_mib: int
    verdict: Verdict
    packed_steps: int
    content: str


@dataclass
class TrainingState:
    """The state of a training between two steps.

    ``modules``: the network as "backbone" and the loss as "loss".
    ``optimizer``: the optimizer of both.
    ``monitor``: the statistics of each step.
    ``environments``: the environment of each part of the training; a change on resume begins a new part.
    ``content``: the content digest of the training images.
    ``step``: number of steps done.
    ``rounds``: number of rounds of batches sampled.
    ``batches``: the batches of the latest round, each an int64 array of units.
    ``place``: index of the next batch in ``batches``.
    ``log``: a column of numbers by name, one number for each step.
    ``sampling_seconds``: seconds that sampling rounds of batches took, mining included.
    ``earlier_seconds``: seconds that the parts before this one took.
    ``started``: when this part began, on the monotonic clock.
    """

    modules: torch.nn.ModuleDict
    optimizer: torch.optim.Optimizer
    monitor: Monitor
    environments: list[Environment]
    content: str = ""
    step: int = 0
    rounds: int = 0
    batches: list[IntArray] = field(default_factory=list)
    place: int = 0
    log: dict[str, list[float]] = field(default_factory=dict)
    sampling_seconds: float = 0.0
    earlier_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds that all parts of the training took so far."""
        return self.earlier_seconds + time.monotonic() - self.started

    def append(self, row: Mapping[str, float]) -> None:
        """Add one step to the log; a column that begins later, or misses a step, is nan there."""
        steps = len(self.log.get("step", []))
        for name in {**self.log, **row}:
            self.log.setdefault(name, [np.nan] * steps).append(float(row.get(name, np.nan)))

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``."""
        tensors = {f"module.{name}": tensor for name, tensor in self.modules.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
        tensors |= {"monitor.rows": self.monitor.rows, "monitor.items": self.monitor.items}
        tensors["log"] = torch.tensor(list(self.log.values()), dtype=torch.float64)
        tensors["batches"] = torch.from_numpy(np.concatenate(self.batches))
        tensors["ends"] = torch.tensor(np.cumsum([len(batch) for batch in self.batches]), dtype=torch.int64)
        environments = [asdict(part) for part in self.environments]
        state = {"log": list(self.log), "seconds": self.seconds, "environments": environments}
        save_checkpoint(folder, tensors, state | {name: getattr(self, name) for name in _SAVED})

    def restore(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], folder: Path, log: Callable[[str], None]
    ) -> None:
        """Continue from the tensors and the state of a checkpoint of ``folder``.

        ``log`` gets a line, and another where the environment has changed. Raises DataError where the checkpoint is
        that of another network, loss or optimizer.
        """
        try:
            self._restore_tensors(tensors)
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            reason = f"the checkpoint does not fit this network: {error}; delete it to train from the start"
            raise DataError(f"{folder}: {reason}") from None
        for name in _SAVED:
            setattr(self, name, state[name])
        self.batches = np.split(tensors["batches"].numpy(), tensors["ends"].numpy()[:-1])
        self.log = dict(zip(state["log"], tensors["log"].tolist(), strict=True))
        self.monitor.rows.copy_(tensors["monitor.rows"])
        self.monitor.items.copy_(tensors["monitor.items"])
        self.earlier_seconds = state["seconds"]
        log(f"resumed at step {self.step} of {self.monitor.steps}")
        earlier, now = [Environment(**part) for part in state["environments"]], self.environments[-1]
        self.environments = [*earlier, *([now] if now != earlier[-1] else [])]
        pairs = zip(asdict(earlier[-1]).items(), asdict(now).values(), strict=True)
        changes = [f"{name} {before} before, {after} now" for (name, before), after in pairs if before != after]
        if changes:
            consequence = "the weights will not equal those of an uninterrupted training bit for bit"
            log(f"the environment differs from that of the earlier steps ({'; '.join(changes)}): {consequence}")

    def _restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        named = {name.partition(".")[::2]: tensor for name, tensor in tensors.items()}
        self.modules.load_state_dict({name: tensor for (part, name), tensor in named.items() if part == "module"})
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for (part, name), tensor in named.items():
            if part == "optimizer":
                number, _, entry = name.partition(".")
                like = parameters[int(number)]  # whose memory layout fused kernels expect
                value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
                states.setdefault(int(number), {})[entry] = value
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def finish(self, folder: Path, summary: TrainingSummary) -> None:
        """Write log, weights and ``summary`` into ``folder`` and delete the checkpoints."""
        save_arrays(folder / LOG, {name: np.array(column) for name, column in self.log.items()} | self.monitor.arrays())
        backbone = cast("Backbone", self.modules["backbone"])
        normalisation = Normalisation(backbone.preprocess.mean, backbone.preprocess.std)
        save_tensors(folder / WEIGHTS, backbone.state_dict(), **normalisation.as_metadata())
        write_atomic(folder / SUMMARY, sealed_json(asdict(summary)))
        for file in _checkpoint_files(folder):
            file.unlink()


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in the CPU's memory, each with its own: safetensors refuses tied weights, which share it."""
    seen: set[int] = set()
    copies: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        copies[name] = (tensor.clone() if address in seen else tensor).detach().contiguous().cpu()
        seen.add(address)
    return copies


def save_tensors(file: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write tensors and texts into one safetensors file, with the sha256 of all of it as "checksum" in its header."""
    data = safetensors.torch.save(on_cpu(tensors))
    end = 8 + int.from_bytes(data[:8], "little")
    # Written here, since safetensors writes texts in a random order, and equal weights shall be equal files.
    fields = {"__metadata__": {"checksum": NO_CHECKSUM, **metadata}, **json.loads(data[8:end])}
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + data[end:]
    digest = hashlib.sha256(data).hexdigest()
    write_atomic(file, data.replace(NO_CHECKSUM.encode(), digest.encode(), 1))


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and texts that ``save_tensors`` wrote; raises one of ``DAMAGE`` where the file is damaged."""
    data = file.read_bytes()
    metadata = check_checksum(data)
    return safetensors.torch.load(data), metadata


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary file, rename it, and delete all but the newest two.

    One safetensors file holds the tensors and, in its header, the state, so that the two always agree. The state holds
    at least "step" and "content".
    """
    file = folder / f"checkpoint-{state['step']:08d}.safetensors"
    save_tensors(file, tensors, state=json.dumps(state, allow_nan=False))
    for file in _checkpoint_files(folder)[:-KEPT_CHECKPOINTS]:
        file.unlink()


def latest_checkpoint(
    folder: Path, steps: int, content: str, log: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and the state of the newest checkpoint of a folder that can be resumed, or None.

    One that is damaged, of no step between 0 and ``steps``, or of training images of another ``content`` is renamed,
    which is logged, and the one before it counts.
    """
    for file in reversed(_checkpoint_files(folder)):
        try:
            tensors, metadata = load_tensors(file)
            state = json.loads(metadata["state"])
            if not 0 < state["step"] <= steps:
                raise ValueError(f"it is of step {state['step']} of {steps}")
            if state["content"] == content:
                return tensors, state
            reason, problem = "superseded", "the images were others"
        except DAMAGE as error:
            reason, problem = "damaged", f"it is damaged ({error})"
        log(f"{file}: cannot be resumed, {problem}; it is renamed to {set_aside(file, reason).name}")
    return None


def latest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of a folder, 0 if there is none."""
    return max((int(file.stem.rpartition("-")[2]) for file in _checkpoint_files(folder)), default=0)


def training_files(folder: Path) -> list[Path]:
    """Return the files that a training, finished or not, has left in ``folder``, the summary first."""
    files = [folder / name for name in (SUMMARY, WEIGHTS, LOG)]
    return [*(file for file in files if file.is_file()), *_checkpoint_files(folder)]


def _checkpoint_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.safetensors"))


def read_summary(folder: Path) -> TrainingSummary | None:
    """Return the summary of a finished training, or None where it is not finished; raises DataError."""
    try:
        text = (folder / SUMMARY).read_text(encoding="utf-8")
        check_seal(text, f"{folder / SUMMARY}")
        return TypeAdapter(TrainingSummary).validate_json(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / SUMMARY}: damaged ({error}); delete the folder to train again") from None


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Load the weights of a finished training into a network of the same shape.

    Raises DataError where they are damaged or those of another network.
    """
    file = folder / WEIGHTS
    try:
        backbone.load_state_dict(load_tensors(file)[0])
    except DAMAGE as error:
        raise DataError(f"{file}: does not fit this network: {error}; delete its folder to train again") from None
