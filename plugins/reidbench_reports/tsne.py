"""A map of the test embeddings by Barnes-Hut t-SNE: dots by identity, or images as in the paper's Figures 1 and 5."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reidbench import DataError, IntArray, Part, RunFiles, RunRecord, Samples, hookimpl, stream, unit_rows
from reidbench_reports.combinations import add_runs, best_trained_first
from reidbench_reports.drawing import COLOURS, allows_pictures, canvas, image_of, plain

STEPS = 1_000
SIDE = 2_000  # pixels of the map
# The paper's 5,000 of 6,000: with fewer images, the perplexity is lowered to this share of them.
LARGEST_SHARE = 5 / 6
MARKERS, GREY = "os^D", "#8a8f98"
IDENTITIES = 12  # in colour


class Tsne:
    """The test images placed by t-SNE of their embeddings.

    Options:
        images: how many gallery images with an identity are sampled.
        perplexity: about how many neighbours count; lowered to 5/6 of the images where there are fewer.
        pictures: whether to show the images instead of dots.
        seed: the seed of the sampling and of the map.
        most: how many runs are mapped, the trained ones with the highest primary score first.
    """

    def __init__(
        self, *, images: int = 1_000, perplexity: float = 30, pictures: bool = False, seed: int = 0, most: int = 1
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
            if self.pictures and allows_pictures(record, files, part):
                part.figures.append(draw_images(f"t-SNE: {name}", places, gallery, units))
            else:
                part.figures.append(draw_identities(f"t-SNE: {name}", places, gallery.pids[units]))
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


def draw_images(title: str, places: NDArray[np.float64], gallery: Samples, units: IntArray) -> Figure:
    """Return the map with every unit's image at its place."""
    figure, axes = _map(title)
    axes.imshow(paint(places, gallery, units), interpolation="none")
    return figure


def draw_identities(title: str, places: NDArray[np.float64], pids: IntArray) -> Figure:
    """Return the map as dots [n, 2]: the identities with the most images in colour, the others grey."""
    figure, axes = _map(title)
    identities, counts = np.unique(pids, return_counts=True)
    chosen = identities[np.argsort(-counts, kind="stable")[:IDENTITIES]]
    others = places[~np.isin(pids, chosen)]
    axes.scatter(others[:, 0], others[:, 1], s=10, c=GREY, alpha=0.35, linewidths=0)
    for number, identity in enumerate(chosen.tolist()):
        own = places[pids == identity]
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        label = f"identity {identity}"
        axes.scatter(
            own[:, 0], own[:, 1], s=36, c=COLOURS[number % len(COLOURS)], marker=marker, linewidths=0, label=label
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _map(title: str) -> tuple[Figure, Axes]:
    figure = canvas(title, width=8, height=6.5)
    axes = figure.subplots()
    axes.set_axis_off()
    return figure, axes


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
