"""Partially coherent images: the sum over foci and illumination tilts, as a sum of few coherent images.

The image is the mean of |F⁻¹{ψ t}|² over the focus, normal with the 1/e width Δ, and over the tilt τ of the
illumination, normal in the plane with the 1/e width δ. The transfer function of one focus f and one tilt is

    t(k) = A(w + τ) exp(−iχ(w + τ) + iπ f |w + τ|² / λ),   w = λ k,

because the aperture A stays where it is while the diffraction pattern moves. Only the mutual transfer ⟨t(k) t̄(k′)⟩
enters (the transmission cross-coefficient: Hopkins 1953; Ishizuka, Ultramicroscopy 5, 55 (1980)). In first order of τ
it is exp(−iχ(k) + iχ(k′)) times a Gaussian of the distance between two points of a space of three dimensions:

    exp(−|G(k) − G(k′)|²),   G = (π Δ |w|² / 2λ, δ/2 ∂χ/∂α_x, δ/2 ∂χ/∂α_y)

Such a matrix is a sum of few products of one vector with itself. A Cholesky decomposition whose pivots are the points
with the most missing intensity finds them one by one; each is one coherent image, and their intensities add up. The
first pivot is the beam: its image is that with the usual envelopes. What these envelopes take from the wave is not
lost but diffuse, and the further images hold it. They stop when they miss less than `RESIDUAL` of the beam; the last
one takes that in, so that the mean intensity is right. docs/decisions/0017-partial-coherence.md has the numbers.

The first image, the interference with the beam, is taken to second order in τ, with the coupling of tilt and focus and
with the tilts at the edge of the aperture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import View, require
from alloyscope.microscope.arrays import CPU, Array, Backend, NumpyBackend, compiled_kernels
from alloyscope.microscope.optics import Lens, Phase, aberrations, intensity_grid
from alloyscope.microscope.settings import FARTHEST_TILT

RESIDUAL = 5e-5  # share of the beam; drawn images then err by 0.014 % of it at most (benchmarks/coherence.py)
NOTHING = 1e-9  # share of the beam beside the first image that needs no further image
LEAST = 1e-20  # modulus of a transfer below which its phase is taken to be −χ
SMALLEST = 1e-6  # share of a point's intensity; single precision does not tell less from nothing
NODES, WEIGHTS = np.polynomial.hermite.hermgauss(7)  # tilts at the aperture's edge
assert NODES.max() < FARTHEST_TILT


@dataclass(frozen=True)
class Band:
    """The points of the lens that pass an aperture at some tilt of the illumination.

    Attributes:
        reach: Largest index of a frequency.
        index: Indices (k_x, k_y) of the points, each from −reach to reach, shape (2, points).
        w: Their scattering angles [rad], shape (points,), complex128, in main memory.
    """

    reach: int
    index: NDArray[np.intp]
    w: NDArray[np.complex128]

    @classmethod
    def of(cls, views: Sequence[View], lens: Lens, size: int) -> Self:
        """The band of all views, for intensities on a grid with `size` points along each edge."""
        tilted_rad = FARTHEST_TILT * 1e-3 * max(view.angular_spread_mrad for view in views)
        edge_rad = 1e-3 * max(view.aperture_mrad for view in views) + 0.5 * lens.step_rad + tilted_rad
        largest = (min(size, lens.size) - 1) // 2
        return cls.within(ceil(edge_rad / lens.step_rad), largest, lens.step_rad)

    @classmethod
    @lru_cache(maxsize=64)
    def within(cls, steps: int, largest: int, step_rad: float) -> Self:
        """The points nearer to the axis than `steps` steps of the grid, with indices up to `largest`."""
        farthest = min(steps - 1, largest)
        kx, ky = np.mgrid[-farthest : farthest + 1, -farthest : farthest + 1]
        inside = np.hypot(kx, ky) < steps
        return cls(farthest, np.stack([kx[inside], ky[inside]]), step_rad * (kx + 1j * ky)[inside])

    @property
    def columns(self) -> int:
        return 2 * self.reach + 1

    @cached_property
    def radius(self) -> NDArray[np.float64]:
        """Angles to the axis [rad], shape (points,)."""
        found: NDArray[np.float64] = np.abs(self.w)
        return found

    @cached_property
    def axes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Angles α_x and α_y [rad], shape (points,) each."""
        x, y = (np.ascontiguousarray(part.astype(np.float32)) for part in (self.w.real, self.w.imag))
        return x, y

    @cached_property
    def beam(self) -> int:
        """Which of the points is the beam."""
        return int(np.argmin(self.radius))

    @cached_property
    def _places(self) -> dict[int, NDArray[np.intp]]:
        return {}

    def aberrations(self, views: Sequence[View], lens: Lens, backend: Backend) -> Phase:
        """Aberration function of each view at the points, shapes (batch, points)."""
        axis = backend.asarray((lens.step_rad * np.arange(-self.reach, self.reach + 1)).astype(np.float32))
        phase = aberrations(axis, axis, views, lens.wavelength_A, backend)
        inside = backend.asarray((self.index[0] + self.reach) * self.columns + self.index[1] + self.reach)
        return Phase(*(each.reshape(len(views), -1)[:, inside] for each in vars(phase).values()))

    def places(self, size: int, backend: Backend) -> Array:
        """Places of the points in a flat array (k_x, k_y) in FFT order, k_x up to `reach` and k_y of `size` points."""
        if size not in self._places:
            kx, ky = self.index
            self._places[size] = kx % self.columns * size + ky % size
        return backend.asarray(self._places[size])

    def spectrum(self, waves: Array, backend: Backend) -> Array:
        """Fourier coefficients of waves (batch, y, x) at the points, shape (batch, points); 1 for the beam alone."""
        batch, size = waves.shape[0], waves.shape[-1]
        rows = backend.fft(waves, out=backend.empty(tuple(waves.shape), "complex64"))
        inside = backend.empty((batch, self.columns, size), "complex64")
        backend.transpose(rows[:, :, : self.reach + 1], inside[:, : self.reach + 1])
        backend.transpose(rows[:, :, size - self.reach :], inside[:, self.reach + 1 :])
        spectra = backend.fft(inside, out=backend.empty(tuple(inside.shape), "complex64"))
        return spectra.reshape(batch, -1)[:, self.places(size, backend)] / size**2


def image_intensity(
    waves: Array, views: Sequence[View], lens: Lens, backend: Backend, size: int | None = None
) -> Array:
    """Image intensity after the lens, in units of the incident beam, averaged over focus and illumination tilt.

    Args:
        waves: Exit waves, shape (batch, y, x), complex64; not changed.
        views: Optics of each wave.
        lens: Grid and voltage.
        backend: Backend of `waves`.
        size: Points along each edge of the result (default: `intensity_grid` of the views); fewer points alias.

    Returns:
        Intensity, shape (batch, size, size), float32.

    Raises:
        ContractError: the numbers of views and waves differ.
    """
    require(len(views) == waves.shape[0], f"needs one view per wave; got {len(views)} for {waves.shape[0]} waves")
    size = size or intensity_grid(views, lens)
    band = Band.of(views, lens, size)
    spectrum = band.spectrum(waves, backend)
    batch, places, reached = len(views), band.places(size, backend), band.reach
    total = backend.zeros((batch, size, size), "float32")
    kx_ky = backend.zeros((batch, band.columns, size), "complex64")
    y_kx = backend.zeros((batch, size, size), "complex64")
    kx_y, wave = backend.empty(tuple(kx_ky.shape), "complex64"), backend.empty(tuple(y_kx.shape), "complex64")
    for transfer in coherent_transfers(abs(spectrum) ** 2, views, band, lens, backend):
        kx_ky.reshape(batch, -1)[:, places] = spectrum * transfer
        inside = backend.ifft(kx_ky, out=kx_y)
        backend.transpose(inside[:, : reached + 1], y_kx[:, :, : reached + 1])
        backend.transpose(inside[:, reached + 1 :], y_kx[:, :, size - reached :])
        backend.add_intensity(total, backend.ifft(y_kx, out=wave))
    return total


def coherent_transfers(
    power: Array, views: Sequence[View], band: Band, lens: Lens, backend: Backend
) -> Iterator[Array]:
    """Transfer functions of the coherent images whose intensities add up to the partially coherent image.

    Args:
        power: Intensity of each wave's Fourier coefficients, as a share of the beam, shape (batch, points), float32.
        views: Optics of each wave.
        band: The points.
        lens: Grid and voltage.
        backend: Backend of `power`.

    Yields:
        Transfer function, shape (batch, points), complex64; 0 for a wave whose images are complete.
    """
    xp = backend.xp
    edge = _Edge.of(views, band, lens)
    phase, separation, linear = _linear(views, band, lens, backend)
    passed = edge.passed(phase, band, backend)  # complex: at the edge, tilts shift the phase
    trace = backend.asarray(edge.trace.astype(np.float32))
    strength = abs(passed)
    pattern = abs(linear)  # of the beam
    turned, size = linear * passed, pattern * strength
    sharp = backend.unit_circle(-phase.chi)
    unit = xp.where(size > LEAST, turned / xp.clip(size, LEAST, None), 1) * sharp  # of the interference with the beam

    rows = backend.asarray(np.arange(len(views)))
    missing = xp.clip(1 - pattern**2, 0, None)
    used = 0 * trace  # Σ of the squared transfer of the images so far
    found: list[Array] = []
    # The further images share what the aperture passes beside the first one.
    diffuse = xp.clip((trace - size**2) / xp.clip(missing, SMALLEST, None), 0, 1)
    weight = power * diffuse
    active = backend.ones((len(views), 1), "float32")
    while True:
        lacking = missing * weight
        if found:
            goes_on = (lacking.sum(1)[:, None] > RESIDUAL) * active
        else:  # what is left out of the first image belongs to a further one: it does not interfere with the beam
            goes_on = ((power * (trace - (pattern * strength) ** 2)).sum(1)[:, None] > NOTHING) * active
        shown = pattern * strength
        if not bool(goes_on.all()):
            last = (1 - 2.0 * (pattern < 0)) * xp.sqrt(xp.clip(trace - used, 0, None))
            shown = active * xp.where(goes_on > 0, shown, last)
        yield unit * shown
        active = goes_on
        if not bool(active.any()):
            return
        found.append(pattern)
        used = used + shown**2
        unit, strength = sharp, diffuse**0.5
        pivot = lacking.argmax(1)
        pattern = xp.exp(-sum((part - part[rows, pivot][:, None]) ** 2 for part in separation))
        for earlier in found:
            pattern = pattern - earlier * earlier[rows, pivot][:, None]
        pattern = pattern / xp.sqrt(xp.clip(missing[rows, pivot], SMALLEST, None))[:, None]
        missing = xp.clip(missing - pattern**2, 0, None)


def _linear(views: Sequence[View], band: Band, lens: Lens, backend: Backend) -> tuple[Phase, tuple[Array, ...], Array]:
    """Aberrations, the three components of G, and the interference with the beam without the aperture.

    It is ⟨exp(−iχ(w + τ) + iχ(w) + iχ(τ) + iπf (|w + τ|² − |τ|²) / λ)⟩. With t = τ/δ the mean over the focus leaves
    exp(−G₁²) ∫ exp(−tᵀN t − tᵀb) d²t / π, where N = 1 + δ² (4B w wᵀ + i/2 (∂²χ(w) − ∂²χ(0))),
    b = δ (i∂χ + 4B |w|² w) and B = (πΔ/2λ)²; the integral is exp(bᵀN⁻¹b / 4) / √det N.
    """
    phase = band.aberrations(views, lens, backend)
    spread = np.array([[1e-3 * view.angular_spread_mrad] for view in views], np.float32)
    blur = np.array([[np.pi * view.focal_spread_A / (2 * lens.wavelength_A)] for view in views], np.float32)
    kernels = compiled_kernels() if isinstance(backend, NumpyBackend) else None
    if kernels is None:
        return phase, *_interference(phase, band, backend.asarray(spread), backend.asarray(blur), backend)
    g, linear = np.empty((3, len(views), len(band.w)), np.float32), np.empty(phase.chi.shape, np.complex64)
    derivatives = (phase.x, phase.y, phase.xx, phase.xy, phase.yy)
    for row in range(len(views)):
        parts, out = (np.ascontiguousarray(each[row]) for each in derivatives), linear[row].view(np.float32)
        kernels.interfere(*band.axes, *parts, spread[row, 0], blur[row, 0], band.beam, *g[:, row], out)
    return phase, tuple(g), linear


def _interference(
    phase: Phase, band: Band, spread: Array, blur: Array, backend: Backend
) -> tuple[tuple[Array, ...], Array]:
    """G and the interference of `_linear`, from columns (batch, 1) of δ [rad] and πΔ/2λ."""
    xp = backend.xp
    x, y = (backend.asarray(axis) for axis in band.axes)
    focus = blur * (x**2 + y**2)
    tilt_x, tilt_y = spread / 2 * phase.x, spread / 2 * phase.y
    coupled, tilting = 4 * (blur * spread) ** 2, 4 * blur * spread
    n_xx, n_xy, n_yy = (
        one + coupled * squared + 0.5j * spread**2 * (curvature - curvature[:, band.beam : band.beam + 1])
        for one, squared, curvature in ((1, x**2, phase.xx), (0, x * y, phase.xy), (1, y**2, phase.yy))
    )
    b_x, b_y = (2j * tilt + tilting * focus * axis for tilt, axis in ((tilt_x, x), (tilt_y, y)))
    determinant = n_xx * n_yy - n_xy**2
    exponent = (b_x**2 * n_yy - 2 * b_x * b_y * n_xy + b_y**2 * n_xx) / (4 * determinant)
    linear = backend.unit_circle(exponent.imag) * xp.exp(exponent.real - focus**2) / xp.sqrt(determinant)
    return (focus, tilt_x, tilt_y), linear


@dataclass(frozen=True)
class _Edge:
    """The aperture, and its mean over the tilts of the illumination at the points near its edge.

    Attributes:
        opening: Aperture of each view at each point, shape (batch, points).
        near: Points that the edge may reach, shape (near,).
        tilted: The aperture there at each radial tilt of NODES, shape (7, batch, near).
        trace: Mean square of the aperture over the tilts, shape (batch, points).
        spread_rad: 1/e width of the tilts of each view, shape (batch, 1).
    """

    opening: NDArray[np.float64]
    near: NDArray[np.intp]
    tilted: NDArray[np.float64]
    trace: NDArray[np.float64]
    spread_rad: NDArray[np.float64]

    @classmethod
    def of(cls, views: Sequence[View], band: Band, lens: Lens) -> Self:
        cutoff = 1e-3 * np.array([view.aperture_mrad for view in views])[:, None]
        spread = 1e-3 * np.array([view.angular_spread_mrad for view in views])[:, None]
        radius = band.radius[None]

        def open_at(radius_rad: NDArray[np.float64]) -> NDArray[np.float64]:
            """Round aperture, whose edge is softened over one grid step, as in abTEM."""
            return np.clip((cutoff - radius_rad) / lens.step_rad + 0.5, 0, 1)

        near = np.flatnonzero((np.abs(radius - cutoff) < 0.5 * lens.step_rad + FARTHEST_TILT * spread).any(0))
        tilted = np.stack([open_at(radius[:, near] + node * spread) for node in NODES])
        opening = open_at(radius)
        trace = opening**2
        trace[:, near] = np.einsum("t,tbn->bn", WEIGHTS / np.sqrt(np.pi), tilted**2)
        return cls(opening, near, tilted, trace, spread)

    def passed(self, phase: Phase, band: Band, backend: Backend) -> Array:
        """Aperture that the interference with the beam sees, ⟨A exp(−iτ∂χ)⟩ / ⟨exp(−iτ∂χ)⟩ over radial tilts τ.

        Returns:
            Shape (batch, points), complex64; its modulus is at most 1.
        """
        w = band.w[self.near]
        outwards = w / np.maximum(np.abs(w), 1e-12)
        slope_x, slope_y = (backend.to_numpy(slope)[:, self.near] for slope in (phase.x, phase.y))
        steepness = self.spread_rad * (slope_x * outwards.real + slope_y * outwards.imag)
        turned = CPU.unit_circle(-np.multiply.outer(NODES, steepness).astype(np.float32)) * self.tilted
        mean = np.einsum("t,tbn->bn", WEIGHTS / np.sqrt(np.pi), turned) * np.exp(np.minimum((steepness / 2) ** 2, 50))
        result = self.opening.astype(np.complex64)
        result[:, self.near] = mean / np.maximum(np.abs(mean), 1)
        return backend.asarray(result)
