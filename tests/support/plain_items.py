"""Items that are as plain as can be, which count their calls: every score follows by hand from the pictures."""

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reidbench import Backbone, BackboneInfo, Loss, Metric, Preprocess, Protocol, Recipe, Samples, Split, TrainInfo
from reidbench.data.protocol import MARKET_RULES
from reidbench.plugins.discovery import Plugin

HEIGHT, WIDTH = 16, 8
PATCH = 8
UNIT = 2  # images of every unit


class Patches(Backbone):
    """The mean colour of both halves of an image, each channel times a weight that can be drawn.

    Options:
        drawn: Where the weights are drawn: never, in the constructor, or in initialise.
    """

    initialised: ClassVar[int] = 0
    embedding_dim = 6

    def __init__(self, *, drawn: Literal["never", "early", "late"] = "never") -> None:
        super().__init__()
        self.preprocess = Preprocess(HEIGHT, WIDTH)
        self.drawn = drawn
        self.weight = nn.Parameter(torch.rand(6) + 0.5 if drawn == "early" else torch.ones(6))

    def initialise(self) -> None:
        Patches.initialised += 1
        if self.drawn == "late":
            with torch.no_grad():
                self.weight.copy_(torch.rand(6) + 0.5)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, PATCH).flatten(1) * self.weight


class Norms(Loss):
    """Short embeddings are good embeddings.

    Options:
        stop_at: The step, counted over all trainings of a test, at which somebody presses Ctrl-C; 0 for none.
        fails: Whether it has a bug.
        scale: A factor.
    """

    steps: ClassVar[int] = 0
    heads: ClassVar[list[float]] = []

    def __init__(self, info: TrainInfo, *, stop_at: int = 0, fails: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.stop_at, self.fails, self.scale = stop_at, fails, scale
        self.head = nn.Parameter(torch.rand(info.num_pids, info.embedding_dim))
        Norms.heads.append(self.head[0, 0].item())

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        Norms.steps += 1
        if Norms.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.fails:
            raise ZeroDivisionError("a bug of the plugin's")
        return self.scale * embeddings.square().sum(1)


class Largest(Norms):
    """The same, for embeddings of which a unit takes the largest."""

    pool = "max"


class Centred(Metric):
    """The distance after the mean of the training embeddings was taken away, which changes none.

    Options:
        normalize: Whether rows get length 1 first.
    """

    fits: ClassVar[list[tuple[Tensor, Any, Any]]] = []
    seen: ClassVar[list[Tensor]] = []

    def __init__(self, *, normalize: bool = False) -> None:
        self.normalize = normalize
        self.mean: Tensor | None = None

    def fit(self, embeddings: Tensor, pids, cams) -> None:
        Centred.fits.append((embeddings.clone(), pids.copy(), cams.copy()))
        self.mean = embeddings.mean(0)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        assert self.mean is not None, "it was fitted"
        Centred.seen.extend([a.clone(), b.clone()])
        return torch.cdist(a - self.mean.to(a), b - self.mean.to(b), compute_mode="donot_use_mm_for_euclid_dist")


def pictures(root: Path) -> Split:
    """Draw people as two patches of colour under much noise; junk and distractors are in the gallery."""
    generator = np.random.default_rng(3)
    colours = generator.uniform(90, 165, (20, 2, 1, 1, 3))
    folder = root / "pictures"
    folder.mkdir(parents=True, exist_ok=True)

    def part(name: str, units: list[tuple[int, int]]) -> Samples:
        names = []
        for unit, (pid, _) in enumerate(units):
            for number in range(UNIT):
                names.append(f"{name}-{unit:02d}-{number}.png")
                shade = generator.normal(0, 30, (2, 1, 1, 3))
                halves = np.broadcast_to(colours[pid] + shade, (2, PATCH, WIDTH, 3)).reshape(HEIGHT, WIDTH, 3)
                pixels = np.clip(halves, 0, 255).astype(np.uint8)
                if not (folder / names[-1]).exists():  # an image that is written again is embedded again
                    Image.fromarray(pixels).save(folder / names[-1])
        pids, cams = (np.array(column, dtype=np.int64) for column in zip(*units, strict=True))
        return Samples(folder, np.array(names), pids, cams, np.arange(len(units) + 1, dtype=np.int64) * UNIT)

    return Split(
        train=part("train", [(pid, cam) for pid in (2, 11, 5) for cam in (1, 2)]),
        query=part("query", [(pid, 1) for pid in range(12, 18)]),
        gallery=part(
            "gallery", [(pid, cam) for pid in range(12, 18) for cam in (1, 2, 3)] + [(-1, 2)] * 4 + [(0, 3)] * 4
        ),
    )


def exhibition(
    *,
    views: str = "original",
    pool: Literal["auto", "mean", "max"] = "auto",
    exclude: tuple[str, ...] = MARKET_RULES,
) -> Protocol:
    """Ask for the people in the pictures.

    Options:
        views: The views.
        pool: The pool.
        exclude: The exclusion rules.
    """
    return Protocol("pictures", 1, "short", views, pool=pool, exclude=exclude)


def short(backbone: BackboneInfo, *, steps: int = 3, learning_rate: float = 1e-3) -> Recipe:
    """Take three steps.

    Options:
        steps: How many.
        learning_rate: The rate.
    """
    return Recipe(steps=steps, decay_start=steps, learning_rate=learning_rate, p=2, k=2)


PLUGIN = Plugin("our_items", "tests", "1", "ok")
ITEMS: dict[tuple[str, str], Callable[..., Any]] = {
    ("backbone", "patches"): Patches,
    ("loss", "norms"): Norms,
    ("loss", "largest"): Largest,
    # A partial of a factory is an item of its own.
    ("loss", "halved"): functools.partial(functools.partial(Norms, stop_at=0), scale=0.5),
    ("metric", "centred"): Centred,
    ("dataset", "pictures"): pictures,
    ("protocol", "exhibition"): exhibition,
    ("recipe", "short"): short,
}


OWN_ITEMS = {"protocol": "exhibition", "loss": "norms", "backbone": "patches", "recipe": "auto", "metric": "euclidean"}
