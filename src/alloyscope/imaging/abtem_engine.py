"""Exit waves with abTEM, which is the reference for our engine and an engine of its own."""

from collections.abc import Sequence
from typing import Any, Literal

import abtem
import numpy as np
from abtem.core import backend as abtem_backend
from ase import Atoms
from numpy.typing import NDArray

from alloyscope.imaging.box import Slab
from alloyscope.microscope import gpu
from alloyscope.microscope.settings import ImagingSection

# FFTW_ESTIMATE, because measured FFTW plans, and with them the last bits of the waves, differ from run to run.
SETTINGS = {
    "precision": "float32",
    "fft": "fftw",
    "fftw.planning_effort": "FFTW_ESTIMATE",
    "fftw.threads": 1,
    "diagnostics.progress_bar": False,
    "dask.lazy": False,
}


def device_for(device: Literal["auto", "cpu", "gpu"]) -> Literal["cpu", "gpu"]:
    """Device for the engine abTEM, which needs CuPy to use a GPU.

    Raises:
        ConfigError: abTEM can use no GPU, but one is asked for, or this job was given one.
    """
    return "gpu" if gpu.chosen(device, _fault() is None, lambda: f"abTEM needs CuPy: {_fault()}") else "cpu"


def reference_device(device: Literal["auto", "cpu", "gpu"]) -> Literal["cpu", "gpu"]:
    """Device for the few waves with which others are compared: the CPU, too, where abTEM can use no GPU."""
    return "cpu" if device == "cpu" or _fault() else "gpu"


def _fault() -> str | None:
    found = abtem_backend.cp is not None  # type: ignore[attr-defined]
    return gpu.cupy_fault() or (None if found else "abTEM has not found it")


class AbtemEngine:
    """Computes exit waves on one grid with abTEM, one structure after the other; the results are in main memory.

    Attributes:
        size: Grid points along each edge: `imaging.grid` times `refine`.
    """

    def __init__(self, imaging: ImagingSection, device: Literal["cpu", "gpu"], refine: int = 1) -> None:
        self.size = imaging.grid * refine
        self.energy_eV = 1e3 * imaging.voltage_kV
        self.device = device

    def exit_waves(self, slabs: Sequence[Slab], incident: NDArray[np.complex64] | None = None) -> NDArray[np.complex64]:
        """Exit waves of plane waves, or of the given incident waves, through different slabs, shape (batch, y, x)."""
        waves = [None] * len(slabs) if incident is None else list(incident)
        return np.stack([self._exit_wave(slab, wave) for slab, wave in zip(slabs, waves)])

    def _exit_wave(self, slab: Slab, incident: NDArray[np.complex64] | None) -> NDArray[np.complex64]:
        cell = (slab.field_A, slab.field_A, slab.height_A)
        with abtem.config.set({**SETTINGS, "device": self.device}):
            potential = abtem.Potential(
                Atoms(slab.elements, positions=slab.positions_A, cell=cell),
                gpts=self.size,
                slice_thickness=(slab.slice_A,) * slab.n_slices,
                parametrization="lobato",
                projection="infinite",
            )
            wave: Any
            if incident is None:
                wave = abtem.PlaneWave(energy=self.energy_eV).multislice(potential, lazy=False)
            else:  # abTEM's axes are (x, y)
                source = abtem.Waves(incident.T.copy(), energy=self.energy_eV, extent=slab.field_A)
                wave = source.multislice(potential)
            array: NDArray[np.complex64] = np.asarray(wave.to_cpu().array, np.complex64)
        return array.T
