"""The structure-factor multislice engine: exact projected potentials on any grid.

The potential of each slice is built in reciprocal space, V(k) = Σ_Z f_Z(k) Σ_j exp(−2πi k·r_j). The phase factor is
separable, so the sum over atoms is the matrix product (k_x × atoms)·(atoms × k_y), up to the Nyquist frequency.
The conventions are abTEM's: transmission exp(iσV), then Fresnel propagation exp(−iπλ Δz k²) by the slice thickness, and
waves that are band-limited at two thirds of the Nyquist frequency with the same taper. The exit wave is the wave at the
lower face of the box.

Neither the potential nor the transmission function is cut at two thirds (docs/decisions/0003-potential-band.md). The
error from the cut at the Nyquist frequency is corrected by factors that are matched to the grid (imaging/factors.py).
They make the phase complex: its imaginary part is the negative logarithm of the transmitted amplitude.

A particle is computed in its own square, its extent across the beam and MARGIN_A on either side; the wave is put back
into the field of view, where it is 1 elsewhere.

A two-dimensional transform is a transform of rows, a transposition, and again a transform of rows: planned FFTs are
fastest on contiguous rows, and frequencies outside the wave's band are left out between the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alloyscope.imaging.box import Slab
from alloyscope.imaging.factors import correction_A2, projected_factor_VA2
from alloyscope.microscope.arrays import Array, Backend, fast_length, frequencies
from alloyscope.microscope.settings import ImagingSection
from alloyscope.units import electron_wavelength_A, interaction_constant_rad_per_VA

# Share of the beam that the scattered wave may have at the edge of a square, where it would come in again on the other
# side; else the whole field of view is computed. AgCo of 60 to 1000 atoms: up to 2e-5, Au and AuCu 5e-5.
MOST_CARRIED_OUT = 1e-4
MARGIN_A = 2.5  # between the outermost nuclei and the edge of their square (docs/decisions/0015-slices.md)
KEPT_KERNELS = 4  # propagators of a square grid; slices of the same thickness share one
_STRIDE = 16  # harmonics that are computed one by one; the others are products of two
CUTOFF, TAPER = 2 / 3, 0.01  # abTEM's defaults, in units of the Nyquist frequency and of 1 / pixel


def band_limit(size: int, field_A: float) -> NDArray[np.float32]:
    """1 inside two thirds of the Nyquist frequency, 0 outside, shape (size, size) in FFT order."""
    k = frequencies(size, field_A)
    radius = np.hypot(k[:, None], k[None, :])
    cutoff, taper = CUTOFF * size / (2 * field_A), TAPER * size / field_A
    edge = 0.5 * (1 + np.cos(np.pi * np.clip((radius - cutoff + taper) / taper, 0, 1)))
    return np.where(radius > cutoff, 0, edge).astype(np.float32)


@dataclass(frozen=True)
class _Atoms:
    """The atoms of a batch of slabs, sorted by slice, species and slab.

    Attributes:
        columns: exp(−2πi k_x x) for k_x ≥ 0, shape (atoms + 1, size // 2 + 1), complex64; the last row is zero.
        rows: exp(−2πi k_y y) for k_y ≥ 0, of the same shape.
        members: For each occupied slice, in the order of the beam, the index that takes out the atoms of each species,
            shape (batch, most, …); slabs with fewer atoms are padded with the last row.
    """

    columns: Array
    rows: Array
    members: dict[int, list[tuple[str, Any]]]


@dataclass(frozen=True)
class _Scratch:
    """Arrays of a batch that every slice overwrites; the names list the axes after the batch axis."""

    phase: tuple[Array, Array]  # k_x × k_y, and later y × x
    other: Array  # k_x × y, and y × k_x of the wave
    band: tuple[Array, Array]  # k_x inside the band limit × y or k_y
    padded: Array  # y × k_x, zero outside the band limit

    @classmethod
    def of(cls, backend: Backend, batch: int, size: int, band: int) -> Self:
        def array(*shape: int) -> Array:
            return backend.zeros((batch, *shape), "complex64")

        square, strip = (size, size), (band, size)
        return cls((array(*square), array(*square)), array(*square), (array(*strip), array(*strip)), array(*square))


class Multislice:
    """Computes exit waves on the grid of the field of view, each particle in its own square of that grid.

    Attributes:
        size: Grid points along an edge of the field of view.
        backend: Memory and transforms.
        kind: Class that computes on one square.
    """

    kind: "type[Square]"

    def __init__(self, imaging: ImagingSection, backend: Backend) -> None:
        self.kind = Square
        self.size = imaging.grid
        self.field_A = imaging.field_A
        self.voltage_kV = imaging.voltage_kV
        self.backend = backend
        self._squares: dict[int, Square] = {}

    def square(self, slab: Slab) -> int:
        """Grid points along an edge of a slab's own square."""
        if not len(slab.positions_A):
            return self.size
        least = ceil((slab.extent_A + 2 * MARGIN_A) * self.size / self.field_A) + 1
        return min(self.size, fast_length(least))

    def exit_waves(self, slabs: Sequence[Slab], incident: Array | None = None) -> Array:
        """Exit waves of plane waves, or of the given incident waves, through different slabs.

        Incident waves pass the whole field of view.

        Returns:
            Waves on the backend, shape (batch, y, x), complex64; |ψ|² of an incident plane wave is 1.

        """
        size = max(self.square(slab) for slab in slabs) if incident is None else self.size
        corners = [self._corner(slab, size) for slab in slabs]
        # A square that ends with the field of view may come too near to the nuclei.
        if size == self.size or any(self._crowded(slab, size, *corner) for slab, corner in zip(slabs, corners)):
            return self._on(self.size).exit_waves(slabs, incident)
        step_A = self.field_A / self.size
        own = [
            replace(
                slab,
                positions_A=slab.positions_A - np.array([corner[1] * step_A, corner[0] * step_A, 0.0]),
                field_A=size * step_A,
            )
            for slab, corner in zip(slabs, corners)
        ]
        inside = self._on(size).exit_waves(own)
        if carried_out(inside, self.backend).max() > MOST_CARRIED_OUT:
            return self._on(self.size).exit_waves(slabs)
        waves = self.backend.ones((len(slabs), self.size, self.size), "complex64")
        for wave, part, (y, x) in zip(waves, inside, corners):
            wave[y : y + size, x : x + size] = part
        return waves

    def _on(self, size: int) -> "Square":
        if size not in self._squares:
            edge_A = self.field_A * size / self.size
            self._squares[size] = self.kind(size, edge_A, self.voltage_kV, self.backend)
        return self._squares[size]

    def _corner(self, slab: Slab, size: int) -> tuple[int, int]:
        """Place (y, x) of the square's first point on the grid; it does not extend beyond the field of view."""
        if not len(slab.positions_A):
            return 0, 0
        low, high = slab.positions_A[:, :2].min(axis=0), slab.positions_A[:, :2].max(axis=0)
        first = np.rint((low + high) / 2 * self.size / self.field_A - size / 2).astype(int)
        x, y = np.clip(first, 0, self.size - size).tolist()
        return y, x

    def _crowded(self, slab: Slab, size: int, y: int, x: int) -> bool:
        """Whether a nucleus comes nearer to the square's edge than MARGIN_A, but for two steps of the grid."""
        step_A = self.field_A / self.size
        corner_A = step_A * np.array([x, y])
        to_edge = np.concatenate(
            [slab.positions_A[:, :2] - corner_A, corner_A + size * step_A - slab.positions_A[:, :2]]
        )
        return bool((to_edge < MARGIN_A - 2 * step_A).any())


def carried_out(waves: Array, backend: Backend) -> NDArray[np.float64]:
    """Mean intensity of the scattered waves, ψ − 1, along the edges of their squares, shape (batch,)."""
    edges = (waves[:, 0], waves[:, -1], waves[:, :, 0], waves[:, :, -1])
    sums = sum((abs(edge - 1) ** 2).mean(1) for edge in edges)
    return backend.to_numpy(sums).astype(np.float64) / len(edges)


class Square:
    """Computes exit waves on one periodic square grid, whose tables are made once.

    Args:
        size: Grid points along an edge.
        edge_A: Edge [Å].
        voltage_kV: Acceleration voltage.
        backend: Memory and transforms.
    """

    def __init__(self, size: int, edge_A: float, voltage_kV: float, backend: Backend) -> None:
        self.size = size
        self.edge_A = edge_A
        self.voltage_kV = voltage_kV
        self.backend = backend
        self.potential_reach = size / 2  # the Nyquist frequency in units of 1 / edge
        self._reach = -(-size // 3) - 1  # largest index inside the band limit
        self._factors: dict[str, Array] = {}
        self._scratch: dict[int, _Scratch] = {}
        self._kernels: dict[tuple[float, int], Array] = {}

    def exit_waves(self, slabs: Sequence[Slab], incident: Array | None = None) -> Array:
        """As `Multislice.exit_waves`, for slabs whose boxes are the square."""
        batch, n_slices = len(slabs), max(slab.n_slices for slab in slabs)
        if batch not in self._scratch:
            self._scratch = {batch: _Scratch.of(self.backend, batch, self.size, 2 * self._reach + 1)}
        scratch = self._scratch[batch]
        waves = self.backend.empty((batch, self.size, self.size), "complex64")
        waves[...] = 1 if incident is None else incident
        atoms = self._atoms(slabs, n_slices)
        # Vacuum between atoms is one longer propagation; before the first atom it does not change a plane wave.
        occupied = sorted(atoms.members.keys() | ({0} if incident is not None else set()))
        for here, following in pairwise([*occupied, n_slices]):
            if here in atoms.members:
                self.backend.transmit(waves, self._phase(atoms.members[here], atoms, scratch))
            waves = self._propagated(waves, self._propagator(slabs, following - here), scratch)
        return waves

    def _phase(self, members: list[tuple[str, Any]], atoms: _Atoms, scratch: _Scratch) -> Array:
        """Complex phase of one slice's transmission function, shape (batch, y, x), complex64."""
        spectrum, phase = scratch.phase
        species = [(atoms.columns[index], atoms.rows[index], self._factor(element)) for element, index in members]
        self.backend.lattice_sum(species, out=spectrum)
        kx_y = self.backend.ifft(spectrum, out=scratch.other)
        self.backend.transpose(kx_y, phase)
        return self.backend.ifft(phase, out=scratch.other)

    def _propagated(self, waves: Array, kernel: Array, scratch: _Scratch) -> Array:
        """Propagate waves through vacuum; `waves` may be overwritten."""
        spectra = self.backend.fft(waves, out=scratch.other)
        inside, reach = scratch.band[0], self._reach
        self.backend.transpose(spectra[:, :, : reach + 1], inside[:, : reach + 1])
        self.backend.transpose(spectra[:, :, self.size - reach :], inside[:, reach + 1 :])
        spectra = self.backend.fft(inside, out=scratch.band[1])
        spectra *= kernel
        inside = self.backend.ifft(spectra, out=scratch.band[0])
        self.backend.transpose(inside[:, : reach + 1], scratch.padded[:, :, : reach + 1])
        self.backend.transpose(inside[:, reach + 1 :], scratch.padded[:, :, self.size - reach :])
        return self.backend.ifft(scratch.padded, out=waves)

    def _atoms(self, slabs: Sequence[Slab], n_slices: int) -> _Atoms:
        """Sort the atoms; slabs with fewer slices begin later, so that all end with the same one."""
        species = sorted({element for slab in slabs for element in slab.elements})
        code = {element: number for number, element in enumerate(species)}
        groups = (n_slices, len(species), len(slabs))
        which = [np.array([code[element] for element in slab.elements], np.intp) for slab in slabs]
        keys = np.concatenate(
            [
                np.ravel_multi_index((slab.slices() + n_slices - slab.n_slices, kind, np.full(len(kind), row)), groups)
                for row, (slab, kind) in enumerate(zip(slabs, which))
            ]
        )
        turns = np.concatenate([slab.positions_A[:, :2] / self.edge_A for slab in slabs])[np.argsort(keys)]
        counts = np.bincount(keys, minlength=int(np.prod(groups))).reshape(groups)
        ends = counts.cumsum().reshape(groups)
        members: dict[int, list[tuple[str, Any]]] = {}
        for here, kind in zip(*np.nonzero(counts.any(2))):
            count, end = counts[here, kind][:, None], ends[here, kind][:, None]
            if len(slabs) == 1:
                index: Any = np.s_[None, int(end[0, 0] - count[0, 0]) : int(end[0, 0])]
            else:
                number = np.arange(count.max())[None]
                index = self.backend.asarray(np.where(number < count, end - count + number, len(turns)))
            members.setdefault(int(here), []).append((species[kind], index))
        x, y = self.backend.asarray(np.ascontiguousarray(turns.T))
        return _Atoms(self._harmonics(x), self._harmonics(y), members)

    def _harmonics(self, turns: Array) -> Array:
        """exp(−2πi n · turns) for n from 0 to size // 2 and one row of zeros, shape (turns + 1, n), complex64."""
        low = self._unit_circles(turns, np.arange(_STRIDE))
        high = self._unit_circles(turns, np.arange(0, self.size // 2 + 1, _STRIDE))
        return (high[:, :, None] * low[:, None, :]).reshape(len(low), -1)[:, : self.size // 2 + 1]

    def _unit_circles(self, turns: Array, index: NDArray[Any]) -> Array:
        """exp(−2πi index · turns) and one row of zeros, shape (turns + 1, index), complex64."""
        xp = self.backend.xp
        angle = turns[:, None] * self.backend.asarray(-index)[None]
        angle -= xp.round(angle)  # whole turns are subtracted in double precision
        angle *= 2 * np.pi
        single = self.backend.empty(tuple(angle.shape), "float32")
        single[...] = angle
        result = self.backend.zeros((len(turns) + 1, len(index)), "complex64")
        result[:-1] = self.backend.unit_circle(single)
        return result

    def _factor(self, element: str) -> Array:
        """Fourier transform of an atom's complex phase over the square's area, shape (k_x, k_y), complex64."""
        if element not in self._factors:
            index = np.rint(np.fft.fftfreq(self.size, 1 / self.size))
            index2 = index[:, None] ** 2 + index[None, :] ** 2  # exact, so that rounding admits no Nyquist frequency
            k2 = index2 / self.edge_A**2
            limit_per_A = self.potential_reach / self.edge_A
            mended = correction_A2(element, limit_per_A, self.voltage_kV)(np.sqrt(k2))
            phase = interaction_constant_rad_per_VA(self.voltage_kV) * projected_factor_VA2(element, k2) + mended
            inside = index2 < self.potential_reach**2
            self._factors[element] = self.backend.asarray((phase * inside / self.edge_A**2).astype(np.complex64))
        return self._factors[element]

    @cached_property
    def _inside(self) -> NDArray[np.intp]:
        """Indices inside the band limit, in FFT order."""
        return np.concatenate([np.arange(self._reach + 1), np.arange(-self._reach, 0)])

    @cached_property
    def _band_limit(self) -> Array:
        return self.backend.asarray(band_limit(self.size, self.edge_A)[self._inside])

    def _propagator(self, slabs: Sequence[Slab], steps: int) -> Array:
        """exp(−iπλ Δz k²) over `steps` slices of each slab, shape (batch or 1, k_x, k_y), complex64.

        The band limit is applied once per slice. The result is divided by the number of grid points, because the
        transforms are not normalised.
        """
        thicknesses_A = {round(slab.slice_A, 9) for slab in slabs}
        if len(thicknesses_A) > 1:
            return self._kernel([slab.slice_A for slab in slabs], steps)
        key = (thicknesses_A.pop(), steps)
        if key not in self._kernels:
            if len(self._kernels) >= KEPT_KERNELS:
                self._kernels.clear()
            self._kernels[key] = self._kernel([slabs[0].slice_A], steps)
        return self._kernels[key]

    def _kernel(self, thicknesses_A: Sequence[float], steps: int) -> Array:
        lengths_A = np.array(thicknesses_A) * steps
        turns = self.backend.asarray(0.5 * electron_wavelength_A(self.voltage_kV) * lengths_A)
        k2 = frequencies(self.size, self.edge_A) ** 2
        kernel = self._unit_circles(turns, k2[self._inside])[:-1, :, None] * self._unit_circles(turns, k2)[:-1, None]
        kernel *= self._band_limit**steps / self.size**2
        return kernel
