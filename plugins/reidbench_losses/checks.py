"""Numeric options: what studies search of them, and checks of their values."""

from __future__ import annotations

from typing import Annotated

from reidbench import OptionError, Searched

HingeMargin = Annotated[float, Searched(0.1, 1.0, log=True)]  # the margins of Hermans et al. 2017, Table 1
PairDropout = Annotated[float, Searched(0.0, 0.9)]  # 0.9 in Zheng, Zheng, Yang 2016


def check_at_least(loss: str, least: float, **options: float) -> None:
    """Raise OptionError, naming loss and option, for a value below ``least``."""
    for name, value in options.items():
        if value < least:
            raise OptionError(f"{loss}: option {name}: expected {least} or more, got {value}")


def check_above_0(loss: str, **options: float) -> None:
    """Raise OptionError, naming loss and option, for a value that is not above 0."""
    for name, value in options.items():
        if not value > 0:
            raise OptionError(f"{loss}: option {name}: expected a number above 0, got {value}")


def check_fraction(loss: str, **options: float) -> None:
    """Raise OptionError, naming loss and option, for a value that is not from 0 to below 1."""
    for name, value in options.items():
        if not 0 <= value < 1:
            raise OptionError(f"{loss}: option {name}: expected a number from 0 to below 1, got {value}")
