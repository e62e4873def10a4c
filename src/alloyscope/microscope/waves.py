"""Stored exit waves: waves limited to an aperture, on their own grid, and images of them with other optics."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from alloyscope.contracts import View, require
from alloyscope.microscope.arrays import CPU, Array, Backend
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens
from alloyscope.microscope.settings import FARTHEST_TILT, WAVE_STEP_A, ImagingSection, OpticsSection
from alloyscope.sections import bounds


def wave_grid(imaging: ImagingSection) -> int:
    """Points along each edge of a stored wave: steps of at most 0.2 Å, FFT-friendly; 0 when no waves are stored."""
    return next_fast_len(ceil(imaging.field_A / WAVE_STEP_A)) if imaging.store_waves else 0


@dataclass(frozen=True)
class WaveBand:
    """The band of angles in stored waves.

    Attributes:
        size: Points along each edge of a stored wave.
        aperture_mrad: Widest aperture with which images can be made from the waves.
        angular_spread_mrad: Widest spread of the illumination with which they can.
    """

    size: int
    aperture_mrad: float
    angular_spread_mrad: float

    @classmethod
    def of(cls, imaging: ImagingSection, optics: OpticsSection) -> Self | None:
        """The band of a campaign; None when the campaign stores no waves."""
        widest, spread = (bounds(draw)[1] for draw in (optics.aperture_mrad, optics.angular_spread_mrad))
        return cls(wave_grid(imaging), widest, spread) if imaging.store_waves else None

    @property
    def edge_mrad(self) -> float:
        """Angle up to which waves pass the aperture at some tilt of the illumination."""
        return self.aperture_mrad + FARTHEST_TILT * self.angular_spread_mrad

    def reach(self, lens: Lens) -> int:
        """Largest frequency index in the band; the aperture's edge ends half a grid step beyond its radius."""
        return int(1e-3 * self.edge_mrad / lens.step_rad + 0.5)

    def limited(self, waves: Array, lens: Lens, backend: Backend) -> Array:
        """Limit waves to the band and resample them to its grid, for storage.

        Args:
            waves: Exit waves on the lens's grid, shape (batch, y, x), complex64; not changed.
            lens: Grid of the waves.
            backend: Backend of the waves.

        Returns:
            Waves, shape (batch, size, size), complex64.

        Raises:
            ContractError: one of the grids cannot represent the aperture.
        """
        stored = Lens(self.size, lens.field_A, lens.voltage_kV)
        edge_rad = 1e-3 * self.edge_mrad + 0.5 * lens.step_rad
        passed = backend.asarray((abs(stored.angles(CPU)) < edge_rad).astype(np.float32))
        return _resampled(waves, self.size, self.reach(lens), backend, passed)

    def images(
        self, waves: Array, views: Sequence[View], lens: Lens, pixels: int, backend: Backend = CPU
    ) -> NDArray[np.float32]:
        """Expected camera images of stored waves with any optics inside the band, as `clean` before its rounding.

        Args:
            waves: Stored waves, shape (batch, size, size), complex64.
            views: Optics, vibration and MTF of each image; rotation, shift and dose are not used.
            lens: The multislice grid (`imaging.grid`), on which the optics act.
            pixels: Camera pixels along each edge.
            backend: Backend of `waves`.

        Returns:
            Intensity as a fraction of the incident beam, shape (batch, pixels, pixels), float32.

        Raises:
            ContractError: an aperture is wider than the band, or the waves have another size.
        """
        require(waves.shape[-1] == self.size, f"waves must have {self.size} points an edge; got {waves.shape[-1]}")
        for name in ("aperture_mrad", "angular_spread_mrad"):
            widest, most = max(getattr(view, name) for view in views), getattr(self, name)
            require(widest <= most, f"the stored waves carry {name} up to {most:g}; got {widest:g}")
        fine = _resampled(waves, lens.size, self.reach(lens), backend)
        return camera_image(image_intensity(fine, views, lens, backend), views, pixels, lens.field_A, backend)


def _resampled(waves: Array, size: int, reach: int, backend: Backend, passed: Array | None = None) -> Array:
    """Resample waves to another grid of the same field; keep frequencies up to `reach`, and in `passed` if given."""
    smaller = min(size, waves.shape[-1])
    require(2 * reach < smaller, f"a grid of {smaller} points does not carry the frequency index {reach}")
    spectrum = backend.fft2(1 * waves)
    kept = backend.zeros((waves.shape[0], size, size), "complex64")
    low, high = slice(0, reach + 1), slice(-reach, None)
    for rows in (low, high):
        for columns in (low, high):
            kept[:, rows, columns] = spectrum[:, rows, columns]
    if passed is not None:
        kept *= passed
    return backend.ifft2(kept) * (size / waves.shape[-1]) ** 2
