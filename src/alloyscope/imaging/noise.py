"""Tests of an image's counts against the noise of its camera, in closed form.

The shot noise of a counting camera is white. A scintillator camera multiplies its spectrum by MTF². Readout noise, the
rounding of counts and the pixels' own gains are white. So the expected power is, in electrons² per pixel and with the
mean number n̄ of electrons per pixel,

    P(k) = n̄ MTF²(k) + σ_readout² + σ_rounding² + σ_gains² (⟨n²⟩ + n̄)

also for an image whose intensity varies: shot noise of different pixels is independent.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm, poisson

from alloyscope.contracts import View
from alloyscope.microscope.settings import DetectorSection

RINGS = 6  # rings of frequencies with equal numbers of points
COUNT_MAX = 65_535
LEAST_DEVIATION = 0.5  # counts; from there on, rounding errors are uniform to 1 %
Real = NDArray[np.float64]


def _mtf2(view: View, detector: DetectorSection, shape: tuple[int, ...]) -> Real:
    """MTF² of the shot noise at the frequencies of `fft2`; 1 for a counting camera."""
    if detector.camera == "counting":
        return np.ones(shape)
    fallen = (_radius(shape) / (2 * view.mtf_c2)) ** view.mtf_c3
    found: Real = ((1 + view.mtf_c1 * fallen) / (1 + fallen)) ** 2
    return found


def _radius(shape: tuple[int, ...]) -> Real:
    """Frequencies of `fft2` in units of the camera's Nyquist frequency."""
    ky, kx = (2 * np.fft.fftfreq(n) for n in shape)
    radius: Real = np.hypot(ky[:, None], kx[None, :])
    return radius


def _white(electrons: Real, view: View, detector: DetectorSection) -> Real:
    """Variance of the pixels' gains, of readout noise and of rounding [electrons²], shape (y, x).

    It holds where the noise spreads over several counts.
    """
    shot = electrons * _mtf2(view, detector, electrons.shape).mean()
    white: Real = view.gain_map_rms**2 * (electrons**2 + shot) + view.readout_e**2 + 1 / 12 / detector.gain**2
    return white


def _whole_electrons(view: View, detector: DetectorSection) -> bool:
    """Whether the counts are a function of whole numbers of electrons, so that rounding is not random."""
    return detector.camera == "counting" and view.readout_e == 0 and view.gain_map_rms == 0


def _rounded(electrons: Real, gain: float) -> tuple[Real, Real]:
    """Mean and variance of rint(gain · n) / gain for Poisson numbers n of these means, shapes as `electrons`."""
    if gain == round(gain):
        return electrons, electrons
    low, high = float(electrons.min()), float(electrons.max())
    means = np.linspace(low, high, 65)
    number = np.arange(max(0, int(low - 12 * np.sqrt(low))), int(high + 12 * np.sqrt(high)) + 20)
    weights = poisson.pmf(number[None], means[:, None])
    stored = np.rint(gain * number) / gain
    first = weights @ stored
    second = ((stored[None] - first[:, None]) ** 2 * weights).sum(axis=1)
    return np.interp(electrons, means, first), np.interp(electrons, means, second)


def untestable(electrons: Real, view: View, detector: DetectorSection) -> str:
    """Why the closed forms do not hold for an image; empty if they do.

    Args:
        electrons: Expected electrons in each pixel, shape (y, x).
        view: Readout noise, gains of the pixels and MTF.
        detector: Kind of camera, gain, offset.
    """
    whole = _whole_electrons(view, detector)
    shot = electrons * _mtf2(view, detector, electrons.shape).mean()
    deviation = np.sqrt(shot + view.gain_map_rms**2 * electrons**2 + view.readout_e**2) + 1e-9
    zero, top = -detector.offset / detector.gain, (COUNT_MAX - detector.offset) / detector.gain
    below = 0.0 if whole else float(norm.sf((electrons - zero) / deviation).sum())
    clipped = below + float(norm.sf((top - electrons) / deviation).sum())
    if clipped > 1:
        return f"about {clipped:.0f} of {electrons.size} pixels are clipped to 0 or {COUNT_MAX} counts"
    if not whole and detector.gain * deviation.min() < LEAST_DEVIATION:
        return f"the noise is below {LEAST_DEVIATION:g} counts, so that rounding hides it"
    return ""


def p_values(counts: NDArray[np.uint16], electrons: Real, view: View, detector: DetectorSection) -> dict[str, float]:
    """Probabilities that right counts deviate as far from their expectation.

    With white noise of constant variance, the sum of n ratios of power is χ² distributed with n degrees of freedom.
    Where variance differs from pixel to pixel, powers are correlated, and single counts have the kurtosis of Poisson's
    distribution; both widen the sum, for which fewer degrees of freedom are an upper bound.

    Args:
        counts: Stored counts, shape (y, x).
        electrons: Expected electrons in each pixel, same shape.
        view: Readout noise, gains of the pixels and MTF.
        detector: Kind of camera, gain, offset.

    Returns:
        "mean"; "variance", of all pixels and of the darkest tenth; "spectrum" for each ring of frequencies, from the
        innermost on.
    """
    if _whole_electrons(view, detector):
        (mean, shot), white = _rounded(electrons, detector.gain), np.zeros(electrons.shape)
    else:
        mean, shot, white = electrons, electrons, _white(electrons, view, detector)
    rest = (counts - float(detector.offset)) / detector.gain - mean
    power = float(shot.mean()) * _mtf2(view, detector, rest.shape) + float(white.mean())
    ratio = np.abs(np.fft.fft2(rest)) ** 2 / rest.size / power
    total = float(shot.mean() + white.mean())
    widening = float(((shot + white) ** 2).mean() + shot.mean() / 2) / total**2
    found = {
        "mean": float(2 * norm.sf(abs(rest.mean()) / np.sqrt(total / rest.size))),
        "variance": _two_sided(ratio.ravel()[1:], widening),
    }
    order = np.argsort(_radius(rest.shape), axis=None, kind="stable")[1:]
    # Shot noise follows the image pixel by pixel; the darkest ones tell it from noise of the same mean variance.
    response = np.fft.ifft2(np.sqrt(_mtf2(view, detector, rest.shape))).real
    variance = np.fft.ifft2(np.fft.fft2(response**2) * np.fft.fft2(shot)).real + white
    darkest = np.argsort(variance, axis=None, kind="stable")[: rest.size // 10]
    squares = (rest**2 / variance).ravel()[darkest]
    correlated = float((power**2).mean() / power.mean() ** 2)
    found["variance of the darkest tenth"] = _two_sided(squares, correlated * (1 + 0.5 / float(variance.min())))
    for number, ring in enumerate(np.array_split(order, RINGS)):
        found[f"spectrum, ring {number + 1} of {RINGS}"] = _two_sided(ratio.ravel()[ring], widening)
    return found


def _two_sided(ratios: Real, widening: float) -> float:
    freedom = ratios.size / widening
    value = float(ratios.sum()) / widening
    return float(2 * min(chi2.cdf(value, freedom), chi2.sf(value, freedom)))
