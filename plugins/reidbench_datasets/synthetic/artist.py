"""The artist: any image of a tree, alone and in any order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from reidbench_datasets.synthetic.camera import Camera, draw_camera
from reidbench_datasets.synthetic.draws import Draws
from reidbench_datasets.synthetic.outfits import DIFFICULTIES, draw_identity
from reidbench_datasets.synthetic.plan import Shot, Tree
from reidbench_datasets.synthetic.scene import Cast, bad_framing, draw_pixels, good_framing
from reidbench_datasets.synthetic.wardrobe import Figure, dress

PASSERS = 64  # people who walk by, or of whom a bad box shows a part


class Artist:
    """Draws any image of a tree; what it returns depends on the tree's options and the shot alone."""

    def __init__(self, tree: Tree) -> None:
        self.seed = tree.seed
        self.difficulty = DIFFICULTIES[tree.difficulty]
        self.cameras: list[Camera] = [draw_camera(self.seed, self.difficulty, n + 1) for n in range(tree.cameras)]
        # A plan names one identity's images one after the other, so that few figures need to be remembered.
        self.figure = lru_cache(maxsize=16)(self._figure)
        self.passers = [self._figure("passer", number) for number in range(PASSERS)]

    def _figure(self, kind: str, number: int) -> Figure:
        return dress(*draw_identity(self.seed, self.difficulty, kind, number))

    def pixels(self, shot: Shot) -> tuple[NDArray[np.uint8], int]:
        """Return the pixels [128, 64, 3] of one image before JPEG, and JPEG's quality for it."""
        camera = self.cameras[shot.camera - 1]
        walk = Draws(self.seed, shot.kind, shot.number, shot.camera, "walk")
        heading = camera.direction + walk.centred(2.0 * self.difficulty.turn)
        draws = Draws(self.seed, shot.kind, shot.number, shot.camera, shot.image)
        passer = draws.choice(self.passers)
        if shot.kind == "junk":
            cast = Cast(None if draws.chance(0.25) else passer, bad_framing(draws), heading, passer)
        else:
            cast = Cast(self.figure(shot.kind, shot.number), good_framing(draws), heading, passer)
        quality = camera.quality - draws.integer(15)
        return draw_pixels(camera, self.difficulty, draws, cast), quality

    def jpeg(self, shot: Shot) -> bytes:
        """Return the file of one image."""
        pixels, quality = self.pixels(shot)
        return simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420")
