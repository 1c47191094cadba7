"""A map of the test embeddings as in the paper's Figures 1 and 5: Barnes-Hut t-SNE, each image at its place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidbench import DataError, IntArray, Part, RunFiles, RunRecord, Samples, hookimpl, stream, unit_rows
from reidbench_reports.combinations import add_runs, best_trained_first
from reidbench_reports.drawing import COLOURS, canvas, image_of, plain

STEPS = 1_000
SIDE = 2_000  # pixels of the map
# The paper's 5,000 of 6,000: with fewer images, the perplexity is lowered to this share of them.
LARGEST_SHARE = 5 / 6


class Tsne:
    """The test images placed by t-SNE of their embeddings.

    Options:
        images: how many gallery images with an identity are sampled.
        perplexity: about how many neighbours count; lowered to 5/6 of the images where there are fewer.
        pictures: whether to show the images, or dots coloured by identity.
        seed: the seed of the sampling and of the map.
        most: how many runs are mapped, the trained ones with the highest primary score first.
    """

    def __init__(
        self, *, images: int = 6_000, perplexity: float = 5_000, pictures: bool = True, seed: int = 0, most: int = 1
    ) -> None:
        self.images = images
        self.perplexity = perplexity
        self.pictures = pictures
        self.seed = seed
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: one map for each run. What is computed is printed first."""
        part = Part(title="t-SNE of the test embeddings")
        if not files.figures:  # a map takes minutes
            part.notes.append("The map is a figure: --html FILE or --plots DIR.")
            return part

        def add(record: RunRecord, name: str) -> None:
            gallery = files.split(record).gallery
            embeddings = files.embeddings(record, gallery)
            units = self._sample(gallery.pids)
            rows = (unit_rows(embeddings) if record.evaluation.normalize else embeddings).numpy()[units]
            perplexity = min(self.perplexity, LARGEST_SHARE * len(units))
            lowered = f" (lowered from {self.perplexity:,.0f})" if perplexity < self.perplexity else ""
            note = f"{name}: {len(units):,} images, perplexity {perplexity:,.0f}{lowered}, seed {self.seed}."
            sys.stderr.write(f"t-SNE of {plain(note, 200)}\n")
            places = embed(rows, perplexity, self.seed, STEPS)
            part.figures.append(self._draw(f"t-SNE: {name}", places, gallery, units))
            part.notes.append(note)

        add_runs(part, best_trained_first(records), self.most, add)
        return part

    def _sample(self, pids: IntArray) -> IntArray:
        units = np.flatnonzero(pids > 0)
        if len(units) < 5:
            raise DataError(f"{len(units)} gallery images with an identity are too few for a map; expected 5 or more")
        if len(units) <= self.images:
            return units
        return np.sort(stream(self.seed, "tsne").choice(units, self.images, replace=False))

    def _draw(self, title: str, places: NDArray[np.float64], gallery: Samples, units: IntArray) -> Figure:
        figure = canvas(title, width=8, height=8)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.patch.set_alpha(0.0)
        if self.pictures:
            axes.imshow(paint(places, gallery, units), interpolation="none")
            return figure
        _, identity = np.unique(gallery.pids[units], return_inverse=True)
        colours = [COLOURS[number % len(COLOURS)] for number in identity]
        axes.scatter(places[:, 0], places[:, 1], s=9, c=colours, linewidths=0, alpha=0.85)
        axes.set_aspect("equal")
        return figure


def embed(rows: NDArray[np.float32], perplexity: float, seed: int, steps: int) -> NDArray[np.float64]:
    """Return places [n, 2] of embeddings [n, D] by Barnes-Hut t-SNE, begun from their two principal axes."""
    from sklearn.manifold import TSNE  # noqa: PLC0415, a second to import, for this section alone

    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", max_iter=steps, random_state=seed % 2**32)
    return np.asarray(tsne.fit_transform(rows.astype(np.float64)), dtype=np.float64)


def paint(places: NDArray[np.float64], gallery: Samples, units: IntArray, side: int = SIDE) -> NDArray[np.uint8]:
    """Return the map as RGBA [side, side, 4]: every unit's image at its place, the rest transparent."""
    height = int(np.clip(1.6 * side / np.sqrt(len(units)), 16, side / 12))
    width = height // 2
    low, high = places.min(axis=0), places.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    corner = np.round((places - low) / spread * (side - np.array([width, height]))).astype(int)
    board = np.zeros((side, side, 4), dtype=np.uint8)
    for (left, top), unit in zip(corner, units, strict=True):
        board[top : top + height, left : left + width, :3] = image_of(gallery, int(unit), height, width)
        board[top : top + height, left : left + width, 3] = 255
    return board


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Tsne]]:
    return {"tsne": Tsne}
