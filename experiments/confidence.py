"""How far the mean of a few numbers may be from the truth."""

import math

from scipy.special import stdtrit

CONFIDENCE = 0.95


def half_width(std: float, count: int) -> float:
    """Half the width of the confidence interval of a mean, by Student's t.

    Args:
        std: the sample standard deviation.
        count: how many numbers there are, at least 2.
    """
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    return quantile * std / math.sqrt(count)
