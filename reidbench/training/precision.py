"""The arithmetic that a recipe asks for: precision, memory layout and compilation of a network's updates."""

from __future__ import annotations

import math
import os
import resource
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from reidbench.errors import OptionError, OutOfMemory, TrainingError
from reidbench.plugins.interfaces import Backbone
from reidbench.training.recipe import Recipe
from reidbench.utils.machine import free_on


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Raise OptionError where ``device`` has not the arithmetic of the recipe."""
    if recipe.precision == "tf32" and device.type != "cuda":
        raise OptionError(
            f"precision=tf32 is arithmetic of NVIDIA GPUs, and the device is {device}; use precision=float32 or bf16, "
            "or --device cuda"
        )
    # The compiler that torch calls on CPUs; without it the first step would fail, after all images were decoded.
    compiler = _program(os.environ.get("CXX", "g++"))
    if recipe.compile and device.type == "cpu" and shutil.which(compiler) is None:
        raise OptionError(
            f"compile=true: on a CPU torch needs a C++ compiler, and there is no {compiler}; install it, name another "
            "one in the environment variable CXX, or leave compile out"
        )


def _program(command: str) -> str:
    """Return the program that a shell's command names, the quoted command where it names none."""
    try:
        return shlex.split(command)[0]
    except (IndexError, ValueError):  # blank, or a quotation mark without its second one
        return repr(command)


@contextmanager
def float32_products(tf32: bool = False) -> Iterator[None]:
    """Let products of float32 be float32 on every device while the block runs, or TF32 where asked."""
    cudnn: Any = torch.backends.cudnn
    onednn: Any = torch.backends.mkldnn
    owners: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul)
    before = [owner.fp32_precision for owner in owners]
    try:
        for owner in owners:
            owner.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for owner, precision in zip(owners, before, strict=True):
            owner.fp32_precision = precision


def prepared(backbone: Backbone, recipe: Recipe, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of ``backbone`` as the recipe's precision, layout and compilation have it.

    It takes images [B, 3, H, W] float32 to embeddings [B, D], of which nothing is in half precision. Weights stay
    float32 (or float64), and the module itself stays as it is but for the layout of its weights.
    Raises TrainingError, at the first call, where torch cannot compile the network.
    """
    if recipe.channels_last:
        backbone.to(memory_format=torch.channels_last)
    network: Callable[[Tensor], Tensor] = backbone
    if recipe.compile:
        torch.compiler.reset()  # what was compiled for earlier networks counts towards a limit, beyond which none is
        # Dropout draws what it would draw uncompiled: the compiler's own numbers would be others.
        network = torch.compile(backbone, options={"fallback_random": True})
    half = recipe.precision == "bf16"

    def forward(images: Tensor) -> Tensor:
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext():
            embeddings = network(images)
        return embeddings.float() if embeddings.dtype in (torch.bfloat16, torch.float16) else embeddings

    return _explained(forward, backbone) if recipe.compile else forward


def _explained(forward: Callable[[Tensor], Tensor], backbone: Backbone) -> Callable[[Tensor], Tensor]:
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415, a second that only compilation takes

    def explained(images: Tensor) -> Tensor:
        try:
            return forward(images)
        except TorchDynamoException as error:
            raise TrainingError(
                f"compile=true: torch cannot compile {type(backbone).__name__}: {str(error).strip().splitlines()[0]}; "
                "leave compile out, or mend what it names (on a CPU it needs a C++ compiler)"
            ) from error

    return explained


MEASURED_IMAGES = 2  # one has no batch statistics
STATES = 3  # for every weight: its gradient and the two running means of Adam and Adadelta
# What a backward pass needs for a moment beside what the forward pass keeps for it: gradients of activations, and the
# workspaces of convolutions.
BACKWARD = 1.25


def peak_memory_mib(device: torch.device) -> int:
    """Return the most memory used so far in MiB: of the device where it is a GPU, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def kept_bytes(backbone: Backbone) -> float:
    """Return the bytes that one image makes ``backbone``, in training mode, keep for the backward pass.

    Counted by running two blank images forward, so batch statistics move: for a network that is thrown away.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # alive until all are counted, so that no address comes twice

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    shape = (backbone.preprocess.height, backbone.preprocess.width)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        backbone.train()(torch.zeros(MEASURED_IMAGES, 3, *shape, device=device))
    return sum(storages.values()) / MEASURED_IMAGES


def training_bytes(backbone: Backbone, images: int) -> int:
    """Return about how many bytes updates of ``backbone`` take with ``images`` a batch, weights included."""
    weights = sum(parameter.nbytes for parameter in backbone.parameters())
    return int((1 + STATES) * weights + BACKWARD * kept_bytes(backbone) * images)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left; torch has no class of its own for that of the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def says_what_to_lower(backbone: Backbone, recipe: Recipe, device: torch.device, images: int) -> Iterator[None]:
    """Turn an end of memory in the block into an OutOfMemory that says what to lower, and to what.

    ``images`` is how many of a batch this process holds. What was free is measured here, before the first step; what an
    image takes is measured when it did not fit.
    """
    free = free_on(device)
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        said = _sentence(str(error)) or type(error).__name__
    else:
        return
    raise OutOfMemory(f"out of memory on {device}: {said}; {_advice(backbone, recipe, free, images)}")


def _sentence(text: str) -> str:
    """Return the sentence of a long message that says what could not be had."""
    sentences = text.partition("\n")[0].split(". ")
    return next((sentence for sentence in sentences if "allocate" in sentence), sentences[0]).strip()


def _advice(backbone: Backbone, recipe: Recipe, free: int, images: int) -> str:
    height, width = backbone.preprocess.height, backbone.preprocess.width
    states = STATES * sum(parameter.nbytes for parameter in backbone.parameters())
    try:
        each = BACKWARD * kept_bytes(backbone)
    except Exception:  # whatever a network raises that finds no memory for two images
        return (
            f"not even {MEASURED_IMAGES} images of {height}x{width} fit into the {_gib(free)} that were free; "
            "lower the backbone's height and width"
        )
    left, need = max(0, free - states), each * images
    batch = f"a batch of p={recipe.p} x k={recipe.k} images of {height}x{width}"
    if need <= left:
        return (
            f"{_gib(free)} were free, and the network takes about {_gib(states + need)} of it for {batch}, so the loss "
            f"takes the rest, or other programs did; lower the recipe's p to {max(1, recipe.p // 2)}"
        )
    p = int(recipe.p * left / need)
    scale = math.sqrt(left / need)
    smaller = [max(8, int(side * scale) // 8 * 8) for side in (height, width)]
    sizes = f"the backbone's height and width to {smaller[0]} and {smaller[1]}"
    what = f"the recipe's p to {p}, or {sizes}" if p else sizes
    return f"{batch} needs about {_gib(states + need)}, and {_gib(free)} were free; lower {what}"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
