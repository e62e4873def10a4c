"""Numbers as the report writes them."""

import math


def number(value: float | None, unit: str = "") -> str:
    """A score as the page and the summary write it."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    return minus(f"{value:.{3 if abs(value) < 2 else 1}f}") + (f" {unit}" if unit else "")


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Both ends of an interval, the unit once."""
    return f"{number(low, unit).removesuffix(unit).strip()} to {number(high, unit)}"


def mean_and_spread(mean: float, spread: float) -> str:
    """Mean ± standard deviation, both to the second digit of the latter."""
    if not spread > 0:
        return number(mean)
    digits = max(0, 1 - math.floor(math.log10(spread)))
    return minus(f"{mean:.{digits}f} ± {spread:.{digits}f}")


def minus(text: str) -> str:
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the unit a reader would choose."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
