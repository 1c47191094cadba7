"""How the renderer's inner loops are compiled."""

from __future__ import annotations

from reidbench import compiled

# Without fast-math LLVM neither reorders nor fuses + - * / and sqrt, so results do not depend on the processor.
kernel = compiled
