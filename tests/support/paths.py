"""Where tests find the checkout, and the material that lies beside it."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SHARED = CHECKOUT.parent / "shared"
ORACLES = SHARED / "oracles"
