"""What the options of filters may be; each check raises `ConfigError` with the option's name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._ids import is_int
from .errors import ConfigError

__all__ = ["check_at_least_one", "check_number", "check_order", "check_seed"]


def check_number(name: str, value: Any, expected: str, accepts: Any) -> None:
    """Refuse what is neither None nor an acceptable number."""
    if value is None:
        return
    is_number = isinstance(value, float | np.floating) or is_int(value)
    if not is_number or not math.isfinite(value) or not accepts(value):
        raise ConfigError(f"{name}: expected {expected} or None, found {value!r}")


def check_at_least_one(options: Any, name: str) -> None:
    """Refuse what is neither None nor a positive int."""
    expected = "an int of 1 or more"
    check_number(name, getattr(options, name), expected, lambda value: is_int(value) and 1 <= value < 2**63)


def check_order(options: Any, lower: str, upper: str) -> None:
    """Refuse limits that nothing can meet."""
    low, high = getattr(options, lower), getattr(options, upper)
    # Pixels and fractions can be compared only once the image is known.
    if None not in (low, high) and is_int(low) == is_int(high) and low > high:
        raise ConfigError(f"{lower}={low!r} and {upper}={high!r} exclude each other: nothing would be kept")


def check_seed(seed: Any) -> None:
    """Refuse what is no int."""
    if not is_int(seed):
        raise ConfigError(f"seed: expected an int, found {seed!r}")
