"""Rasterisation: round cones with a depth buffer, shaded in view coordinates.

View coordinates: X to the right, Y up, Z towards the camera, metres; an orthographic camera looks along -Z.
Kernels are compiled without fast-math, so that LLVM neither reorders nor fuses + - * / and sqrt, and results do not
depend on the processor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidbench import compiled
from reidbench_datasets.synthetic.background import blotches
from reidbench_datasets.synthetic.body import cosine, pose, sine
from reidbench_datasets.synthetic.cloth import fraction, paint
from reidbench_datasets.synthetic.wardrobe import (
    ABOVE,
    BELOW,
    BONE,
    DEEP,
    HANGING,
    LENGTH,
    RADIUS,
    RADIUS_END,
    SHIFT,
    SPLIT,
    START_X,
    START_Y,
    START_Z,
    WIDE,
)

HEIGHT, WIDTH = 128, 64
FINE = 2  # samples per pixel and axis
FAR = -1e9
NOBODY = -1
NO_OCCLUDER, POLE, BLOCK, LEAVES = range(4)


class Staged(NamedTuple):
    """Posed parts.

    ``parts``: their rows [n, 14].
    ``centres``: their start in view coordinates [n, 3].
    ``axes``: their axes in view coordinates, as columns [n, 3, 3].
    """

    parts: NDArray[np.float64]
    centres: NDArray[np.float64]
    axes: NDArray[np.float64]


class Lens(NamedTuple):
    """The projection.

    ``scale``: samples per metre.
    ``across``, ``down``: the sample of X = Y = 0, from the left and from the top.
    """

    scale: float
    across: float
    down: float


class Seen(NamedTuple):
    """The nearest surface at each sample.

    ``depth``: its Z, float64.
    ``owner``: its part, int16, or NOBODY.
    """

    depth: NDArray[np.float64]
    owner: NDArray[np.int16]


class Light(NamedTuple):
    """The illumination of an image.

    ``direction``: vector to the lamp in view coordinates [3].
    ``lamp``, ``sky``: linear RGB [3].
    ``folds``: phase of the folds of cloth.
    """

    direction: NDArray[np.float64]
    lamp: NDArray[np.float64]
    sky: NDArray[np.float64]
    folds: float


@compiled
def stage(
    parts: NDArray, skeleton: NDArray, stance: NDArray, yaw: float, elevation: float
) -> tuple[Staged, tuple[float, float, float, float]]:
    """Return a posed figure in view coordinates, and its extent: left, right, bottom, top in metres."""
    centres, axes = np.empty((len(parts), 3)), np.empty((len(parts), 3, 3))
    origins, frames = pose(skeleton, stance)
    s, c = sine(yaw), cosine(yaw)
    t, d = sine(elevation), cosine(elevation)
    # Rows: the view's X, Y and Z in the body's frame.
    view = np.array([[c, 0.0, s], [s * t, d, -c * t], [-s * d, t, c * d]])
    left, right, bottom, top = 1e9, -1e9, 1e9, -1e9
    start = np.empty(3)
    for part in range(len(parts)):
        bone = int(parts[part, BONE])
        x, y, z = parts[part, START_X], parts[part, START_Y], parts[part, START_Z]
        frame = frames[bone]
        for row in range(3):
            start[row] = origins[bone, row] + frame[row, 0] * x + frame[row, 1] * y + frame[row, 2] * z
        for row in range(3):
            centres[part, row] = view[row, 0] * start[0] + view[row, 1] * start[1] + view[row, 2] * start[2]
            for column in range(3):
                axes[part, row, column] = (
                    view[row, 0] * frame[0, column] + view[row, 1] * frame[1, column] + view[row, 2] * frame[2, column]
                )
        for end in range(2):
            reach = parts[part, LENGTH] * end
            radius = parts[part, RADIUS_END] if end else parts[part, RADIUS]
            at_x = centres[part, 0] + axes[part, 0, 1] * reach
            at_y = centres[part, 1] + axes[part, 1, 1] * reach
            left, right = min(left, at_x - radius), max(right, at_x + radius)
            bottom, top = min(bottom, at_y - radius), max(top, at_y + radius)
    return Staged(parts, centres, axes), (left, right, bottom, top)


@compiled
def half_extent(axes: NDArray, row: int, radius: float, wide: float, deep: float) -> float:
    """Return the half extent of a widened sphere along a view axis."""
    x, y, z = axes[row, 0] * wide, axes[row, 1], axes[row, 2] * deep
    return radius * math.sqrt(x * x + y * y + z * z)


@compiled
def rasterise(staged: Staged, lens: Lens, seen: Seen) -> None:
    """Fill ``seen`` with the nearest surface at every sample.

    A part's surface is the hull of two spheres in a frame where the part is not widened. There a ray q + t d enters
    the cone between the spheres where rho^2 = (r - k y)^2 / (1 - k^2), with k = (r - r') / length; the point
    belongs to the cone while s = (y - k r) / (1 - k^2) lies within the length, else to the sphere at that end.
    """
    parts, centres, axes = staged
    scale, across, down = lens
    depth, owner = seen
    rows, columns = depth.shape
    for part in range(len(parts)):
        length, r, r_end = parts[part, LENGTH], parts[part, RADIUS], parts[part, RADIUS_END]
        wide, deep = parts[part, WIDE], parts[part, DEEP]
        o, a = centres[part], axes[part]
        tip_x, tip_y = o[0] + a[0, 1] * length, o[1] + a[1, 1] * length
        reach_x, reach_tip_x = half_extent(a, 0, r, wide, deep), half_extent(a, 0, r_end, wide, deep)
        reach_y, reach_tip_y = half_extent(a, 1, r, wide, deep), half_extent(a, 1, r_end, wide, deep)
        x0, x1 = min(o[0] - reach_x, tip_x - reach_tip_x), max(o[0] + reach_x, tip_x + reach_tip_x)
        y0, y1 = min(o[1] - reach_y, tip_y - reach_tip_y), max(o[1] + reach_y, tip_y + reach_tip_y)
        first_row, last_row = max(0, int(down - y1 * scale)), min(rows - 1, int(down - y0 * scale) + 1)
        first_column, last_column = max(0, int(across + x0 * scale)), min(columns - 1, int(across + x1 * scale) + 1)
        k = (r - r_end) / length
        c = 1.0 / (1.0 - k * k)
        # A ray's start in the part's frame is linear in X and Y: what one metre of each adds, and where it starts from.
        ux, uy, uz = a[0, 0] / wide, a[0, 1], a[0, 2] / deep
        vx, vy, vz = a[1, 0] / wide, a[1, 1], a[1, 2] / deep
        dx, dy, dz = -a[2, 0] / wide, -a[2, 1], -a[2, 2] / deep
        ox = o[2] * dx - o[0] * ux - o[1] * vx
        oy = o[2] * dy - o[0] * uy - o[1] * vy
        oz = o[2] * dz - o[0] * uz - o[1] * vz
        quadratic = dx * dx + dz * dz - k * k * dy * dy * c
        sphere = dx * dx + dy * dy + dz * dz
        open_start = int(parts[part, HANGING])
        metre = 1.0 / scale
        for row in range(first_row, last_row + 1):
            v = (down - row - 0.5) * metre
            rx, ry, rz = ox + v * vx, oy + v * vy, oz + v * vz
            for column in range(first_column, last_column + 1):
                u = (column + 0.5 - across) * metre
                qx, qy, qz = rx + u * ux, ry + u * uy, rz + u * uz
                g = r - k * qy
                half = qx * dx + qz * dz + g * k * dy * c
                inside = half * half - quadratic * (qx * qx + qz * qz - g * g * c)
                t = -FAR
                if inside > 0.0 and abs(quadratic) > 1e-9:
                    reached = (-half - math.sqrt(inside)) / quadratic
                    s = (qy + reached * dy - k * r) * c
                    if 0.0 <= s <= length:
                        t = reached
                if t == -FAR:
                    for end in range(open_start, 2):
                        ey = qy - length * end
                        radius = r_end if end else r
                        half = qx * dx + ey * dy + qz * dz
                        inside = half * half - sphere * (qx * qx + ey * ey + qz * qz - radius * radius)
                        if inside > 0.0:
                            reached = (-half - math.sqrt(inside)) / sphere
                            s = (qy + reached * dy - k * r) * c
                            if (end == 0 and s <= 0.0) or (end == 1 and s >= length):
                                t = min(t, reached)
                if -t > depth[row, column]:
                    depth[row, column] = -t
                    owner[row, column] = part


@compiled
def triangle(value: float) -> float:
    """Return a triangle wave of period 1 between -1 and 1."""
    return 4.0 * abs(fraction(value) - 0.5) - 1.0


@compiled
def shade(staged: Staged, layers: NDArray, lens: Lens, seen: Seen, light: Light, image: NDArray) -> None:
    """Add the people to ``image`` [H, W, 3], linear RGB: cloth under lamp and sky, the mean of the samples."""
    parts, centres, axes = staged
    scale, across, down = lens
    depth, owner = seen
    direction, lamp, sky, folds = light
    rows, columns = depth.shape
    each = 1.0 / (FINE * FINE)
    for row in range(rows):
        for column in range(columns):
            part = owner[row, column]
            if part == NOBODY:
                continue
            shape, a, o = parts[part], axes[part], centres[part]
            wide, deep = shape[WIDE], shape[DEEP]
            u = (column + 0.5 - across) / scale - o[0]
            v = (down - row - 0.5) / scale - o[1]
            w = depth[row, column] - o[2]
            x = a[0, 0] * u + a[1, 0] * v + a[2, 0] * w
            y = a[0, 1] * u + a[1, 1] * v + a[2, 1] * w
            z = a[0, 2] * u + a[1, 2] * v + a[2, 2] * w
            # The normal of the widened surface: from the axis point nearest in the part's own frame, widened twice.
            r, length = shape[RADIUS], shape[LENGTH]
            k = (r - shape[RADIUS_END]) / length
            s = min(max((y - k * r) / (1.0 - k * k), 0.0), length)
            px, py, pz = x / (wide * wide), y - s, z / (deep * deep)
            size = math.sqrt(px * px + py * py + pz * pz) + 1e-12
            nx = (a[0, 0] * px + a[0, 1] * py + a[0, 2] * pz) / size
            ny = (a[1, 0] * px + a[1, 1] * py + a[1, 2] * pz) / size
            nz = (a[2, 0] * px + a[2, 1] * py + a[2, 2] * pz) / size
            garment_y = y + shape[SHIFT]
            layer = int(shape[ABOVE]) if garment_y > shape[SPLIT] else int(shape[BELOW])
            red, green, blue = paint(layers[layer], x, garment_y, z)
            lit = 0.2 + 0.8 * max(0.0, nx * direction[0] + ny * direction[1] + nz * direction[2])
            open_sky = 0.62 + 0.38 * ny
            bright = (
                1.0 + 0.05 * triangle(9.0 * y + 6.0 * x + folds) + 0.05 * triangle(17.0 * x - 5.0 * y + 3.0 * folds)
            )
            # Surfaces just behind a closer one are darker, which separates arms from the trunk and leg from leg.
            near = 0
            for step in (-3, 3):
                if 0 <= row + step < rows and depth[row + step, column] > depth[row, column] + 0.04:
                    near += 1
                if 0 <= column + step < columns and depth[row, column + step] > depth[row, column] + 0.04:
                    near += 1
            bright *= each * (1.0 - 0.22 * min(near, 2))
            pixel = image[row // FINE, column // FINE]
            pixel[0] += bright * red * (lamp[0] * lit + sky[0] * open_sky)
            pixel[1] += bright * green * (lamp[1] * lit + sky[1] * open_sky)
            pixel[2] += bright * blue * (lamp[2] * lit + sky[2] * open_sky)


@compiled
def light_background(owner: NDArray, light: Light, across: float, ground: float, image: NDArray) -> None:
    """Light the background, darken the ground under the feet, and scale each pixel by the share that is not covered."""
    each = 1.0 / (FINE * FINE)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            free = 0.0
            for i in range(FINE):
                for j in range(FINE):
                    if owner[FINE * row + i, FINE * column + j] == NOBODY:
                        free += each
            u = (column + 0.5 - across) / 17.0
            v = (row + 0.5 - ground) / 4.5
            free *= 1.0 - 0.5 * max(0.0, 1.0 - u * u - v * v)
            for channel in range(3):
                image[row, column, channel] *= free * (0.8 * light.lamp[channel] + 0.7 * light.sky[channel])


@compiled
def occlude(kind: int, box: tuple[float, float, float], colour: NDArray, key: np.uint64, image: NDArray) -> None:
    """Paint an occluder, a pole, a block or leaves, in ``box``: left, right and top in pixels."""
    left, right, top = box
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            inside = left <= column < right and row >= top
            light = 0.7 + 0.4 * blotches(key, row / 3.0, column / 3.0)
            if kind == POLE:
                middle = 2.0 * (column + 0.5 - left) / (right - left) - 1.0
                light *= 1.0 - 0.5 * middle * middle
            elif kind == BLOCK:
                light *= 1.25 if row - top < 3.0 else 1.0
            elif kind == LEAVES:
                inside = inside and blotches(key, row / 5.0, column / 5.0) > 0.42
                light = 0.3 + 1.3 * blotches(key + np.uint64(1), row / 1.7, column / 1.7)
            if inside:
                for channel in range(3):
                    image[row, column, channel] = colour[channel] * light
