"""The articulated body: thirteen walking bones, to which the parts of a person are attached.

The body's frame: x to the person's left, y up, z to the front, metres, the ground at y = 0. Angles are in turns.
Only + - * / and sqrt are used, and sines are a polynomial in them, so poses are the same bits on every machine.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidbench import compiled

BONES = 13
PELVIS, TRUNK, HEAD, ARM_L, ARM_R, FOREARM_L, FOREARM_R, THIGH_L, THIGH_R, SHIN_L, SHIN_R, FOOT_L, FOOT_R = range(BONES)

# A skeleton: lengths in metres.
HIP, THIGH, SHIN, WAIST, SHOULDER, NECK, UPPER_ARM = range(7)
SKELETON_COLUMNS = 7

# A stance: phase of the step, swing of the limbs, posture of trunk and head, posture of each arm.
PHASE, STRIDE, SWING, LEAN, TWIST, HEAD_TURN, HEAD_NOD, SPREAD, LIFT_L, LIFT_R, ELBOW_L, ELBOW_R, SWAY = range(13)
STANCE_COLUMNS = 13


class Bones(NamedTuple):
    """The bones of a posed body.

    ``origins``: the start of every bone [13, 3].
    ``frames``: its axes as columns [13, 3, 3].
    """

    origins: NDArray[np.float64]
    frames: NDArray[np.float64]


@compiled
def sine(turns: float) -> float:
    """Return the sine of an angle in turns, within 1e-7: an odd polynomial on a quarter of the circle."""
    x = turns - math.floor(turns + 0.5)
    if x > 0.25:
        x = 0.5 - x
    elif x < -0.25:
        x = -0.5 - x
    a = 6.283185307179586 * x
    s = a * a
    return a * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * (1.0 - s / 110.0)))))


@compiled
def cosine(turns: float) -> float:
    """Return the cosine of an angle in turns, within 1e-7."""
    return sine(turns + 0.25)


@compiled
def rotate(parent: NDArray, axis: int, turns: float, child: NDArray) -> None:
    """Write into ``child`` [3, 3] the frame ``parent`` rotated about its own axis 0, 1 or 2."""
    s = sine(turns)
    c = cosine(turns)
    one = (axis + 1) % 3
    two = (axis + 2) % 3
    for row in range(3):
        a = parent[row, one]
        b = parent[row, two]
        child[row, axis] = parent[row, axis]
        child[row, one] = a * c + b * s
        child[row, two] = b * c - a * s


@compiled
def fasten(bones: Bones, parent: int, child: int, x: float, y: float, z: float) -> None:
    """Set the origin of bone ``child`` to (x, y, z) of bone ``parent``."""
    origins, frames = bones
    for row in range(3):
        origins[child, row] = (
            origins[parent, row] + frames[parent, row, 0] * x + frames[parent, row, 1] * y + frames[parent, row, 2] * z
        )


@compiled
def hang(frames: NDArray, parent: int, child: int, forward: float, outward: float) -> None:
    """Set the frame of a limb that hangs from a bone: y down, rotated ``forward`` and ``outward`` (left) in turns."""
    swung = np.empty((3, 3))
    rotate(frames[parent], 0, -forward, swung)
    rotate(swung, 2, outward, frames[child])
    for row in range(3):
        frames[child, row, 1] = -frames[child, row, 1]


@compiled
def bend(frames: NDArray, parent: int, child: int, forward: float) -> None:
    """Set the frame of the lower half of a limb, rotated ``forward`` in turns against the upper half."""
    rotate(frames[parent], 0, forward, frames[child])


@compiled
def pose(skeleton: NDArray, stance: NDArray) -> Bones:
    """Return the bones of a skeleton [7] in a stance [13]."""
    bones = Bones(np.empty((BONES, 3)), np.empty((BONES, 3, 3)))
    origins, frames = bones
    upright = np.zeros((3, 3))
    for axis in range(3):
        upright[axis, axis] = 1.0
    phase = stance[PHASE]
    step = sine(phase)
    origins[PELVIS, 0] = 0.0
    origins[PELVIS, 1] = skeleton[THIGH] + skeleton[SHIN]
    origins[PELVIS, 2] = 0.0
    turned = np.empty((3, 3))
    rotate(upright, 2, 0.075 * stance[STRIDE] * step + stance[SWAY], turned)
    rotate(turned, 1, -0.35 * stance[TWIST] * step, frames[PELVIS])
    fasten(bones, PELVIS, TRUNK, 0.0, skeleton[WAIST], 0.0)
    rotate(upright, 0, stance[LEAN], turned)
    rotate(turned, 1, stance[TWIST] * step, frames[TRUNK])
    fasten(bones, TRUNK, HEAD, 0.0, skeleton[NECK], 0.012)
    rotate(upright, 1, stance[HEAD_TURN], turned)
    rotate(turned, 0, stance[HEAD_NOD], frames[HEAD])
    for side in range(2):
        left = 1.0 - 2.0 * side
        fasten(bones, TRUNK, ARM_L + side, left * skeleton[SHOULDER], skeleton[NECK] - 0.085, 0.0)
        swing = -left * stance[SWING] * step + stance[LIFT_L + side]
        hang(frames, TRUNK, ARM_L + side, swing, left * stance[SPREAD])
        fasten(bones, ARM_L + side, FOREARM_L + side, 0.0, skeleton[UPPER_ARM], 0.0)
        bend(frames, ARM_L + side, FOREARM_L + side, stance[ELBOW_L + side] + 0.25 * max(0.0, swing))
        fasten(bones, PELVIS, THIGH_L + side, left * skeleton[HIP], 0.0, 0.0)
        along = left * stance[STRIDE] * step
        carried = max(0.0, left * cosine(phase))
        knee = 0.012 + 1.6 * stance[STRIDE] * carried * carried
        hang(frames, PELVIS, THIGH_L + side, along + 0.45 * knee, left * 0.004)
        fasten(bones, THIGH_L + side, SHIN_L + side, 0.0, skeleton[THIGH], 0.0)
        bend(frames, THIGH_L + side, SHIN_L + side, -knee)
        fasten(bones, SHIN_L + side, FOOT_L + side, 0.0, skeleton[SHIN], 0.0)
        # A foot's y points to the toes and its z up; the ankle compensates for half of the leg's swing.
        rotate(frames[SHIN_L + side], 0, 0.25 - 0.5 * along + 0.3 * knee, frames[FOOT_L + side])
    return bones
