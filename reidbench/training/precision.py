"""The arithmetic that a recipe asks for: precision, memory layout and compilation of a network's updates."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from reidbench.errors import OptionError, TrainingError
from reidbench.plugins.interfaces import Backbone
from reidbench.training.recipe import Recipe


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


def lower_memory_advice(backbone: Backbone, recipe: Recipe) -> str:
    """Return what to lower where the memory of a training ends, as ``out_of_memory_advice`` takes it."""
    size = f"{backbone.preprocess.height}x{backbone.preprocess.width}"
    return (
        f"lower the recipe's p or k (the batch has p={recipe.p} x k={recipe.k} images of {size}), or the backbone's "
        "height and width"
    )
