"""The reference image: abTEM's exit wave, and a lens and a camera that share no code with `microscope`.

The illumination is a sum of incoherent plane waves, each with its own focus and tilt, and their intensities are added:

    I(r) = Σ_f Σ_τ w_f w_τ |F⁻¹{ψ(k) A(k + τ/λ) exp(−iχ_f(k + τ/λ))}|²

χ is abTEM's function of aberrations, evaluated at the shifted angles. The objective aperture A stays in its place in
the back focal plane, so that a tilted diffraction pattern moves against it. ASSUME a tilt changes only the phase of the
exit wave, by 2π τ·r/λ, as in a thin object. docs/decisions/0014-reference.md gives the convergence of the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import abtem
import numpy as np
from abtem.core.energy import energy2wavelength
from abtem.transfer import Aberrations
from numpy.typing import NDArray
from scipy.fft import fft2, ifft2, next_fast_len

from alloyscope.contracts import ABERRATIONS, Film, Structure, View, require
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import film_slab, slabs
from alloyscope.microscope.settings import ImagingSection

REFINE = 2  # abTEM's grid is finer than the campaign's by this factor
Complex = NDArray[np.complex128]
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """Numbers of nodes: foci (Gauss–Hermite); tilts on rings (Gauss–Laguerre in τ²), evenly spaced on each.

    The tilts integrate polynomials up to the degree min(4 rings − 1, spokes − 1) exactly.
    """

    foci: int = 15
    rings: int = 2
    spokes: int = 8


DEFAULT = Sums()


def foci_A(view: View, count: int) -> tuple[Real, Real]:
    """Shifts of the focus [Å] and their weights, for a Gaussian with the 1/e width `focal_spread_A`."""
    nodes, weights = np.polynomial.hermite.hermgauss(count if view.focal_spread_A > 0 else 1)
    return view.focal_spread_A * nodes, weights / np.sqrt(np.pi)


def tilts_rad(view: View, sums: Sums) -> tuple[Real, Real]:
    """Tilts (x, y) of the illumination [rad], shape (n, 2), and their weights; 1/e width `angular_spread_mrad`."""
    if view.angular_spread_mrad == 0:
        return np.zeros((1, 2)), np.ones(1)
    squares, weights = np.polynomial.laguerre.laggauss(sums.rings)
    azimuth = 2 * np.pi * (np.arange(sums.spokes)[None] + 0.5 * (np.arange(sums.rings)[:, None] % 2)) / sums.spokes
    radius = 1e-3 * view.angular_spread_mrad * np.sqrt(squares)[:, None]
    points = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth)], axis=-1)
    return points.reshape(-1, 2), np.repeat(weights / sums.spokes, sums.spokes)


def transfer(alpha_rad: Real, phi_rad: Real, voltage_kV: float, **coefficients: float) -> Complex:
    """abTEM's exp(−iχ) at the angles, in double precision."""
    with abtem.config.set({"precision": "float64", "device": "cpu"}):
        function = Aberrations(coefficients, energy=1e3 * voltage_kV)
        values: Complex = np.asarray(function._evaluate_from_angular_grid(alpha_rad, phi_rad), np.complex128)
    return values


def coefficients_of(view: View) -> dict[str, float]:
    """abTEM's names and values of a view's aberrations, without defocus."""
    values: dict[str, float] = {}
    for n, m in ABERRATIONS:
        values[f"C{n}{m}"] = getattr(view, f"C{n}{m}_A")
        if m:
            values[f"phi{n}{m}"] = getattr(view, f"phi{n}{m}_rad")
    return values


def lens_image(
    wave: NDArray[np.complexfloating],
    view: View,
    field_A: float,
    voltage_kV: float,
    *,
    flight_A: float = 0.0,
    sums: Sums = DEFAULT,
    shifts_aperture: bool = True,
) -> Real:
    """Sum the intensities behind the lens over all foci and tilts.

    Args:
        wave: Exit wave in units of the incident amplitude, shape (y, x).
        view: Aberrations, aperture, spreads.
        field_A: Edge of the field of view [Å].
        voltage_kV: Acceleration voltage.
        flight_A: Height by which the wave is first propagated back through vacuum.
        sums: Numbers of foci and tilts.
        shifts_aperture: Whether a tilt moves the diffraction pattern against the aperture, as it does.

    Returns:
        Intensity in units of the incident beam, shape (n, n); the grid carries every frequency of the intensity.
    """
    wavelength_A = float(energy2wavelength(1e3 * voltage_kV))
    tilts, tilt_weights = tilts_rad(view, sums)
    foci, focus_weights = foci_A(view, sums.foci)
    step_rad = wavelength_A / field_A
    cutoff_rad = 1e-3 * view.aperture_mrad
    largest_rad = cutoff_rad + 0.5 * step_rad + (np.hypot(*tilts.T).max() if shifts_aperture else 0.0)
    reach = min(int(largest_rad / step_rad), (wave.shape[0] - 1) // 2)
    index = np.arange(-reach, reach + 1)
    row, column = (axis.ravel() for axis in np.meshgrid(index, index, indexing="ij"))
    inside = np.hypot(row, column) * step_rad <= largest_rad
    row, column = row[inside], column[inside]
    size = int(next_fast_len(4 * reach + 1))
    spectrum = fft2(wave.astype(np.complex128))[row, column] * (size / wave.shape[0]) ** 2
    angle = step_rad * np.hypot(row, column)
    spectrum *= transfer(angle, np.arctan2(row, column), voltage_kV, defocus=flight_A)
    total = np.zeros((size, size))
    for (tilt_x, tilt_y), tilt_weight in zip(tilts, tilt_weights):
        angle_x, angle_y = step_rad * column + tilt_x, step_rad * row + tilt_y
        alpha, phi = np.hypot(angle_x, angle_y), np.arctan2(angle_y, angle_x)
        passed = np.clip((cutoff_rad - (alpha if shifts_aperture else angle)) / step_rad + 0.5, 0, 1)
        sharp = spectrum * passed * transfer(alpha, phi, voltage_kV, defocus=view.defocus_A, **coefficients_of(view))
        for focus, focus_weight in zip(foci, focus_weights):
            waves = np.zeros((size, size), np.complex128)
            waves[row, column] = sharp * transfer(alpha, phi, voltage_kV, defocus=focus)
            waves = ifft2(waves, overwrite_x=True)
            total += tilt_weight * focus_weight * (waves.real**2 + waves.imag**2)
    return total


def camera_image(intensity: Real, view: View, pixels: int, field_A: float) -> Real:
    """Expected image on the camera's pixels, as a dense sum over the frequencies of the intensity.

    Args:
        intensity: Intensity in units of the beam, shape (n, n).
        view: Vibration, drift and MTF.
        pixels: Camera pixels along each edge.
        field_A: Edge of the field of view [Å].

    Returns:
        Mean intensity over each pixel's area, shape (pixels, pixels), ≥ 0.
    """
    size = intensity.shape[0]
    k = np.fft.fftfreq(size, 1 / size) / field_A
    kx, ky = k[None, :], k[:, None]
    direction = np.array([np.cos(view.vibration_angle_rad), np.sin(view.vibration_angle_rad)])
    spread = view.vibration_ratio**2 * np.eye(2) + (1 - view.vibration_ratio**2) * np.outer(direction, direction)
    spread *= view.vibration_A**2  # covariance of the image's position
    motion = np.exp(-2 * np.pi**2 * (spread[0, 0] * kx**2 + 2 * spread[0, 1] * kx * ky + spread[1, 1] * ky**2))
    instants, weights = np.polynomial.legendre.leggauss(12)  # of the exposure, about its middle
    along = kx * np.cos(view.drift_angle_rad) + ky * np.sin(view.drift_angle_rad)
    motion = motion * sum(
        0.5 * weight * np.cos(np.pi * view.drift_A * instant * along) for instant, weight in zip(instants, weights)
    )
    nyquist_per_A = pixels / (2 * field_A)
    fallen = (np.hypot(kx, ky) / nyquist_per_A / (2 * view.mtf_c2)) ** view.mtf_c3
    mtf = (1 + view.mtf_c1 * fallen) / (1 + fallen)
    # The mean of exp(2πi k x) over each pixel, from its values at the pixel's edges, shape (pixels, n).
    edges = np.exp(2j * np.pi * np.outer(np.linspace(0, field_A, pixels + 1), k))
    means = np.ones((pixels, size), np.complex128)
    means[:, 1:] = np.diff(edges, axis=0)[:, 1:] / (2j * np.pi * k[1:] * field_A / pixels)
    image: Real = (means @ (fft2(intensity) / size**2 * motion * mtf) @ means.T).real
    return np.maximum(image, 0)


class Reference:
    """Reference images of one campaign's microscope.

    Attributes:
        film: Block of the film below the particles, for views with a film.
    """

    def __init__(self, imaging: ImagingSection, film: Film | None = None, sums: Sums = DEFAULT) -> None:
        self.imaging = imaging
        self.film = film
        self.sums = sums
        self.engine = AbtemEngine(imaging, "cpu", REFINE)

    def image(self, snapshots: Sequence[Structure], view: View) -> Real:
        """Expected camera image: the mean over the snapshots, with the view's own optics, film and camera.

        Args:
            snapshots: The snapshots over which the view averages.
            view: All parameters of the image.

        Returns:
            Intensity in units of the beam, shape (pixels, pixels).

        Raises:
            GateError: an atom lies outside the field of view.
        """
        imaging, flight_A = self.imaging, 0.0
        waves: Any = self.engine.exit_waves(slabs(snapshots, view, imaging))
        if view.film_thickness_A > 0:
            require(self.film is not None, "a view with a film needs its block")
            assert self.film is not None
            below = film_slab(self.film, view, imaging)
            waves, flight_A = self.engine.exit_waves([below] * len(waves), waves), below.height_A
        intensity = np.mean(
            [
                lens_image(wave, view, imaging.field_A, imaging.voltage_kV, flight_A=flight_A, sums=self.sums)
                for wave in waves
            ],
            axis=0,
        )
        return camera_image(intensity, view, imaging.pixels, imaging.field_A)
