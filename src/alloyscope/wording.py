"""Formats of numbers in the report."""

import math


def number(value: float | None, unit: str = "") -> str:
    """Format a score with its unit."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    return minus(f"{value:.{3 if abs(value) < 2 else 1}f}") + (f" {unit}" if unit else "")


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Format both ends of an interval, with the unit once."""
    return f"{number(low, unit).removesuffix(unit).strip()} to {number(high, unit)}"


def mean_and_spread(mean: float, spread: float) -> str:
    """Format mean ± standard deviation, both to the second significant digit of the latter."""
    if not spread > 0:
        return number(mean)
    digits = max(0, 1 - math.floor(math.log10(spread)))
    return minus(f"{mean:.{digits}f} ± {spread:.{digits}f}")


def minus(text: str) -> str:
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Format a time in hours, minutes or seconds, whichever suits its length."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
