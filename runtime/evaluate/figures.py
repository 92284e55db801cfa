"""Means, errors, and numbers as a person reads them, of scores of any size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection


def mean_of(values: Collection[float]) -> float:
    """Their mean, rounded once; NaN without any."""
    if not values:
        return math.nan
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # of the sum: the mean is no larger than they are
        return math.fsum(value / len(values) for value in values)


def standard_error(values: Collection[float]) -> float:
    """That of their mean, as far as they tell; NaN for fewer than two, which tell nothing."""
    if len(values) < 2:
        return math.nan
    unit = max(1.0, *map(abs, values)) if any(abs(value) > 1e150 for value in values) else 1.0  # their squares overflow
    return statistics.stdev(value / unit for value in values) / math.sqrt(len(values)) * unit


def figure(value: float) -> str:
    """`value` with three digits after the point, or, where that would show nothing or no end, with three digits in all."""
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1e9 else f"{value:.3g}"


def with_error(values: Collection[float]) -> tuple[str, str]:
    """The mean, and what stands behind it: ``± 0.012``, if that is known."""
    error = standard_error(values)
    return figure(mean_of(values)), "" if math.isnan(error) else f"± {figure(error)}"
