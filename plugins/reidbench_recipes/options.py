"""Types of options that all recipes here have."""

from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]
