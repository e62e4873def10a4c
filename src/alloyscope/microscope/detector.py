"""Camera: vibration and drift of the image, MTF, pixels, dose, noise and gains.

The point (x, y) of the field lies at column x/p − ½ and row y/p − ½ of the camera image (p: pixel size), for any grid
of the wave. ASSUME the MTF describes only the scintillator or sensor: the pixel's aperture is included by the
integration over the pixel's area.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import View, require
from alloyscope.microscope.arrays import Array, Backend, frequencies
from alloyscope.microscope.settings import DetectorSection

COUNT_MAX = 65_535


def mtf(k_nyquist: Array, c1: Array, c2: Array, c3: Array) -> Array:
    """(1 − c1) / (1 + (k / 2 c2)^c3) + c1, k in units of the camera's Nyquist frequency (docs/physics.md §3)."""
    return _mtf_of((k_nyquist / (2 * c2)) ** c3, c1)


def _mtf_of(fallen: Array, c1: Array) -> Array:
    return (1 - c1) / (1 + fallen) + c1


def vibration_envelope(
    ky_per_A: Array, kx_per_A: Array, vibration_A: Array, ratio: Array, angle_rad: Array, backend: Backend
) -> Array:
    """Fourier transform of an elliptic Gaussian: exp(−2π² σ² (k∥² + r² k⊥²)).

    σ is the standard deviation along the direction at `angle_rad` from x towards y, and r σ that across it.
    """
    cosine, sine = backend.xp.cos(angle_rad), backend.xp.sin(angle_rad)
    along, across = kx_per_A * cosine + ky_per_A * sine, ky_per_A * cosine - kx_per_A * sine
    return backend.xp.exp(-2 * np.pi**2 * vibration_A**2 * (along**2 + ratio**2 * across**2))


def drift_transfer(ky_per_A: Array, kx_per_A: Array, drift_A: Array, angle_rad: Array, backend: Backend) -> Array:
    """Fourier transform of a path of length d at constant velocity: sin(π k∥ d) / (π k∥ d).

    The path is centred on the image's position and runs along `angle_rad` from x towards y.
    """
    along = kx_per_A * backend.xp.cos(angle_rad) + ky_per_A * backend.xp.sin(angle_rad)
    return backend.xp.sinc(along * drift_A)


def _half_plane(size: int, field_A: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k_y, k_x) of `rfft2` [1/Å], shapes (size, 1) and (1, size // 2 + 1)."""
    return frequencies(size, field_A)[:, None], np.fft.rfftfreq(size, field_A / size).astype(np.float64)[None, :]


@lru_cache(maxsize=8)
def _log_k_nyquist(size: int, field_A: float, pixels: int) -> NDArray[np.float32]:
    """Logarithm of k in units of the camera's Nyquist frequency at the points of `rfft2`; −∞ at k = 0.

    With it (k / 2 c2)^c3 is an exponential function, which takes a fifth of the time of a power.
    """
    ky, kx = _half_plane(size, field_A)
    with np.errstate(divide="ignore"):
        found: NDArray[np.float32] = np.log(np.hypot(ky, kx) * (2 * field_A / pixels)).astype(np.float32)
    return found


@lru_cache(maxsize=8)
def _pixel_mean(size: int, field_A: float, pixels: int) -> NDArray[np.complex64]:
    """Factor that turns values at points into means over pixels, which are centred half a pixel further."""
    edge = field_A / pixels
    ky, kx = _half_plane(size, field_A)
    factor: NDArray[np.complex64] = (
        np.sinc(ky * edge) * np.sinc(kx * edge) * np.exp(1j * np.pi * (ky + kx) * edge)
    ).astype(np.complex64)
    return factor


def camera_image(
    intensity: Array, views: Sequence[View], pixels: int, field_A: float, backend: Backend
) -> NDArray[np.float32]:
    """Expected image on the camera's pixels, before noise.

    Args:
        intensity: Intensity on the wave's grid in units of the beam, shape (batch, size, size), float32; may be
            overwritten.
        views: Vibration, drift and MTF of each image.
        pixels: Camera pixels along each edge.
        field_A: Edge of the field of view [Å].
        backend: Backend of `intensity`.

    Returns:
        Mean intensity over each pixel's area, shape (batch, pixels, pixels), float32, ≥ 0.
    """
    size = intensity.shape[-1]
    ky, kx = (backend.asarray(axis.astype(np.float32)) for axis in _half_plane(size, field_A))
    log_k = backend.asarray(_log_k_nyquist(size, field_A, pixels))

    def column(name: str) -> Array:
        return backend.asarray(np.array([getattr(view, name) for view in views], np.float32)[:, None, None])

    response = vibration_envelope(
        ky, kx, column("vibration_A"), column("vibration_ratio"), column("vibration_angle_rad"), backend
    )
    if any(view.drift_A > 0 for view in views):
        response = response * drift_transfer(ky, kx, column("drift_A"), column("drift_angle_rad"), backend)
    power = column("mtf_c3") * (log_k - backend.xp.log(2 * column("mtf_c2")))
    # Beyond 80 float32 has no number, and the fraction of the MTF is 0.
    response = response * _mtf_of(backend.xp.exp(backend.xp.clip(power, None, 80.0)), column("mtf_c1"))
    spectrum = backend.rfft2(intensity) * response * backend.asarray(_pixel_mean(size, field_A, pixels))
    # The camera cannot distinguish frequencies that differ by a multiple of `pixels`: along y they are summed; along x
    # one point in `fold` is kept, which does the same.
    fold = -(-size // pixels)
    wide = fold * pixels
    full = backend.zeros((len(views), wide, wide // 2 + 1), "complex64")
    rows = backend.asarray(np.fft.fftfreq(size, 1 / size).astype(np.int64) % wide)
    full[:, rows, : size // 2 + 1] = spectrum
    folded = full.reshape(len(views), fold, pixels, wide // 2 + 1).sum(1)
    binned = backend.irfft2(folded, (pixels, wide))[..., ::fold] * (pixels * wide / size**2)
    # Rounding and weak negative lobes of the MTF may give values below 0, which numbers of electrons cannot have.
    image: NDArray[np.float32] = np.maximum(backend.to_numpy(binned), 0).astype(np.float32)
    return image


def expose(
    clean: NDArray[np.float32],
    *,
    dose_e_per_A2: float,
    readout_e: float,
    gain_map_rms: float,
    mtf_parameters: tuple[float, float, float],
    pixel_size_A: float,
    detector: DetectorSection,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Expose one image: draw its stored counts.

    A counting camera draws Poisson numbers with the expected image as mean. A scintillator camera also blurs the shot
    noise with the MTF: ASSUME the noise before the blur has the variance of the blurred mean, so that the expectation
    is exactly `clean`. Then each pixel's own gain, readout noise, gain and offset are applied, and counts are rounded
    and clipped to 0 … 65535. The map of the pixels' gains is drawn anew for each exposure (docs/decisions/0016).

    ASSUME no electron is missed and all count alike. The DQE of the shot noise is then 1 at all frequencies for a
    scintillator camera, whose noise passes the MTF like the signal, and MTF² for a counting camera, whose noise is
    white; a real DQE is lower.

    Args:
        clean: Expected intensity in units of the beam, shape (height, width).
        dose_e_per_A2: Electrons per area of the incident beam.
        readout_e: Standard deviation of the readout noise per pixel [electrons].
        gain_map_rms: Standard deviation of the pixels' gains, which are log-normal with mean 1.
        mtf_parameters: c1, c2, c3 of the MTF; only a scintillator camera uses them.
        pixel_size_A: Pixel edge [Å].
        detector: Kind of camera, gain, offset.
        rng: Random stream; draws run over row, column: first shot noise, then gains, then readout noise.

    Returns:
        Counts, shape (height, width), uint16.

    Raises:
        ContractError: clean is not one image, or is negative or NaN anywhere.
    """
    require(clean.ndim == 2, f"clean must be (y, x); got {clean.shape}")
    require(bool((clean >= 0).all()), "clean must be finite and ≥ 0")
    mean = clean.astype(np.float64) * (dose_e_per_A2 * pixel_size_A**2)
    electrons = rng.poisson(mean).astype(np.float64)
    if detector.camera == "scintillator":
        electrons = mean + _blur(electrons - mean, mtf_parameters)
    if gain_map_rms > 0:
        electrons = electrons * gain_map(mean.shape, gain_map_rms, rng)
    if readout_e > 0:
        electrons = electrons + readout_e * rng.standard_normal(mean.shape)
    electrons *= detector.gain
    electrons += detector.offset
    return np.clip(np.rint(electrons, out=electrons), 0, COUNT_MAX, out=electrons).astype(np.uint16)


def gain_map(shape: tuple[int, ...], rms: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the gains of the pixels: log-normal, so above 0, independent, with mean 1 and standard deviation `rms`."""
    sigma2 = np.log1p(rms**2)
    gains: NDArray[np.float64] = np.exp(np.sqrt(sigma2) * rng.standard_normal(shape) - sigma2 / 2)
    return gains


def _blur(noise: NDArray[np.float64], parameters: tuple[float, float, float]) -> NDArray[np.float64]:
    height, width = noise.shape
    ky, kx = 2 * np.fft.fftfreq(height)[:, None], 2 * np.fft.rfftfreq(width)[None, :]
    return np.fft.irfft2(np.fft.rfft2(noise) * mtf(np.hypot(ky, kx), *parameters), s=noise.shape)
