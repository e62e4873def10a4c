"""Confidence intervals of proportions."""

import math

NORMAL_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, J. Am. Stat. Assoc. 22, 209 (1927)); successes may be fractional.

    Without trials both ends are NaN.
    """
    if not trials:
        return math.nan, math.nan
    share, z2 = successes / trials, NORMAL_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    # The share limits the rounding error when an end is exactly 0 or 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
