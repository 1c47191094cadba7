"""Precision, memory layout and compilation of a network, as the recipe has them."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from reidbench.embedding.extract import check_embeddings
from reidbench.errors import OptionError, check_tensor, contract_error
from reidbench.plugins.interfaces import Backbone, owner_of
from reidbench.plugins.spec import EMBEDDING
from reidbench.training.recipe import Recipe


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Raise OptionError where ``device`` does not support the recipe's precision or compilation."""
    if recipe.precision == "tf32" and device.type != "cuda":
        raise OptionError(f"precision=tf32 needs an NVIDIA GPU, the device is {device}; use float32 or --device cuda")
    # torch calls a C++ compiler on CPUs; without it the first step would fail, after all images were decoded.
    compiler = os.environ.get("CXX", "g++")
    with suppress(IndexError, ValueError):  # blank, or an unclosed quotation mark
        compiler = shlex.split(compiler)[0]
    if recipe.compile and device.type == "cpu" and shutil.which(compiler) is None:
        advice = "install it, name another one in the environment variable CXX, or leave compile out"
        raise OptionError(f"compile=true: torch needs a C++ compiler on a CPU, and there is no {compiler!r}; {advice}")


@contextmanager
def float32_products(tf32: bool = False) -> Iterator[None]:
    """Compute float32 products in float32 on every device while the block runs, or in TF32 if ``tf32``."""
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


def forward_pass(
    backbone: Backbone, recipe: Recipe, device: torch.device, reads: Sequence[str] = (EMBEDDING,)
) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of ``backbone`` with the recipe's precision, memory layout and compilation.

    It maps images [B, 3, H, W] float32 to embeddings [B, D], float32 or float64, or to the training features that the
    loss ``reads`` side by side. Of the weights only the memory layout may change.
    """
    if recipe.channels_last:
        backbone.to(memory_format=torch.channels_last)
    alone = tuple(reads) == (EMBEDDING,)
    network: Callable[[Tensor], Any] = backbone if alone else backbone.training_features
    if recipe.compile:
        torch.compiler.reset()  # earlier networks count towards a limit, beyond which torch compiles nothing
        # Dropout gets the random numbers that it gets without compilation; the compiler's own would differ.
        network = torch.compile(network, options={"fallback_random": True})
    half = recipe.precision == "bf16"

    def forward(images: Tensor) -> Tensor:
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext():
            out, count = network(images), len(images)
            embeddings = check_embeddings(backbone, out, count) if alone else join_features(backbone, out, reads, count)
        return embeddings.float() if embeddings.dtype in (torch.bfloat16, torch.float16) else embeddings

    return forward


def join_features(backbone: Backbone, features: Mapping[str, Tensor], names: Sequence[str], count: int) -> Tensor:
    """Return some training features of ``count`` images side by side, as a network returned them [count, their sizes].

    Raises PluginError where one is missing or has another shape.
    """
    owner, sizes = owner_of(backbone), {**backbone.feature_sizes, EMBEDDING: backbone.embedding_dim}
    if not isinstance(features, Mapping):
        raise contract_error(owner, "what training_features returns", "a mapping of names to tensors", features)
    parts: list[Tensor] = []
    for name in names:
        shape = (count, sizes[name])
        parts.append(check_tensor(owner, f"training_features[{name!r}]", features.get(name), shape, finite=False))
    return torch.cat(parts, dim=1)


def lower_memory_advice(backbone: Backbone, recipe: Recipe) -> str:
    """Return which values of a training to lower where memory runs out, for ``out_of_memory_advice``."""
    size = f"{backbone.preprocess.height}x{backbone.preprocess.width}"
    frames = f" x frames={recipe.frames}" if recipe.frames > 1 else ""
    images = f"p={recipe.p} x k={recipe.k}{frames} images of {size}"
    return f"lower the recipe's p, k or frames (the batch has {images}), or the backbone's height and width"
