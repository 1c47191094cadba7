"""Render any image of a tree, alone and in any order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from reidbench_datasets.synthetic.camera import Camera, sample_camera
from reidbench_datasets.synthetic.outfits import DIFFICULTIES, sample_identity
from reidbench_datasets.synthetic.plan import Shot, Tree
from reidbench_datasets.synthetic.random_numbers import RandomNumbers
from reidbench_datasets.synthetic.scene import Cast, bad_framing, good_framing, render_pixels
from reidbench_datasets.synthetic.wardrobe import Figure, dress

PASSERS = 64  # further people, who occlude others or are in bad boxes


class Renderer:
    """Renders any image of a tree, in any order; an image depends only on the tree's options and the shot."""

    def __init__(self, tree: Tree) -> None:
        self.seed = tree.seed
        self.difficulty = DIFFICULTIES[tree.difficulty]
        self.cameras: list[Camera] = [sample_camera(self.seed, self.difficulty, n + 1) for n in range(tree.cameras)]
        # A plan lists the images of one identity together, so a small cache of figures is enough.
        self.figure = lru_cache(maxsize=16)(self._figure)
        self.passers = [self._figure("passer", number) for number in range(PASSERS)]

    def _figure(self, kind: str, number: int) -> Figure:
        return dress(*sample_identity(self.seed, self.difficulty, kind, number))

    def pixels(self, shot: Shot) -> tuple[NDArray[np.uint8], int]:
        """Return the pixels [128, 64, 3] of one image before JPEG, and JPEG's quality for it."""
        camera = self.cameras[shot.camera - 1]
        walk = RandomNumbers(self.seed, shot.kind, shot.number, shot.camera, "walk")
        heading = camera.direction + walk.centred(2.0 * self.difficulty.turn)
        rng = RandomNumbers(self.seed, shot.kind, shot.number, shot.camera, shot.image)
        passer = rng.choice(self.passers)
        if shot.kind == "junk":
            cast = Cast(None if rng.chance(0.25) else passer, bad_framing(rng), heading, passer)
        else:
            cast = Cast(self.figure(shot.kind, shot.number), good_framing(rng), heading, passer)
        quality = camera.quality - rng.integer(15)
        return render_pixels(camera, self.difficulty, rng, cast), quality

    def jpeg(self, shot: Shot) -> bytes:
        """Return the file of one image."""
        pixels, quality = self.pixels(shot)
        return simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420")
