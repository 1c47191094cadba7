"""Where tests find the checkout, the official results and the data that come with it, and the lists beside it."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
ORACLES = CHECKOUT / "tests" / "oracles"
DATA = CHECKOUT / "tests" / "data"
SHARED = CHECKOUT.parent / "shared"
