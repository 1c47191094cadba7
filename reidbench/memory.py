"""How much memory a training needs and has, and what to lower where it is too little."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from reidbench.errors import OutOfMemory
from reidbench.interfaces import Backbone
from reidbench.recipe import Recipe
from reidbench.tiers import free_on

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
