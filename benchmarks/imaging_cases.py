"""Particles and views that the imaging benchmarks share, and the images and waves that an engine makes of them."""

import gzip
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
from ase.cluster import Octahedron
from ase.io import iread
from numpy.typing import NDArray

from alloyscope.contracts import Structure, View
from alloyscope.ids import rng_for
from alloyscope.imaging.abtem_engine import AbtemEngine
from alloyscope.imaging.box import slabs
from alloyscope.imaging.hrtem import plain_optics
from alloyscope.imaging.multislice import Multislice
from alloyscope.microscope.arrays import CPU
from alloyscope.microscope.coherence import image_intensity
from alloyscope.microscope.detector import camera_image
from alloyscope.microscope.optics import Lens
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view, rotation

SEED = 1
PARTICLES = Path(__file__).parents[1] / "data" / "agco-reference"
LATTICE_A = {"Ag": 4.086, "Co": 3.54, "Au": 4.078, "Cu": 3.615}  # fcc
ORIENTATIONS = {"tilted": rotation(0, 0, SEED), "[001]": (0.0, 0.0, 0.0, 1.0)}
SHIFT_A = (2.0, -3.0)  # off the centre of the field
DISPLACEMENT_A = 0.08  # rms along each axis, about room temperature


def truncated_octahedron(elements: tuple[str, ...], lattice_A: float, count: int) -> Structure:
    """The `count` atoms nearest to the centre of a truncated octahedron, displaced; elements drawn at random."""
    cluster = Octahedron(elements[0], 9, 3 if count <= 405 else 2, latticeconstant=lattice_A)
    rng = rng_for("imaging-case", SEED)
    positions = cluster.positions - cluster.positions.mean(axis=0)
    nearest = np.argsort(np.linalg.norm(positions, axis=1), kind="stable")[:count]
    displaced = positions[nearest] + rng.normal(0, DISPLACEMENT_A, (len(nearest), 3))
    return Structure(tuple(rng.choice(elements, len(nearest)).tolist()), displaced)


def pure(element: str) -> Structure:
    """405 atoms of one element."""
    return truncated_octahedron((element,), LATTICE_A[element], 405)


def alloy() -> Structure:
    """459 atoms, Ag and Co at random places of one lattice."""
    return truncated_octahedron(("Ag", "Co"), LATTICE_A["Ag"], 459)


def particles(count: int) -> list[Structure]:
    """Particles of the reference set, at equal distances in the order of their numbers of atoms."""
    texts = [gzip.decompress(path.read_bytes()).decode() for path in sorted(PARTICLES.glob("part-*.extxyz.gz"))]
    frames = [frame for text in texts for frame in iread(StringIO(text), format="extxyz")]
    frames.sort(key=len)
    chosen = np.linspace(0, len(frames) - 1, count).astype(int)
    return [
        Structure(tuple(frames[place].get_chemical_symbols()), frames[place].positions.astype(np.float64))
        for place in chosen
    ]


def view(orientation: str) -> View:
    drawn = drawn_view(0, 0, ImagingSection(), OpticsSection(), DetectorSection(), SEED)
    return replace(plain_optics(drawn), rotation=ORIENTATIONS[orientation], shift_A=SHIFT_A)


@dataclass(frozen=True)
class Seen:
    """What an engine makes of a particle.

    Attributes:
        image: Camera image under plain optics, in units of the beam.
        spectrum: Fourier coefficients of the exit wave less the beam, indices −reach … reach, shape (k_y, k_x).
        k_per_A: Their frequencies, same shape.
    """

    image: NDArray[np.float32]
    spectrum: NDArray[np.complex64]
    k_per_A: NDArray[np.float64]


def see(engine: Multislice | AbtemEngine, imaging: ImagingSection, structure: Structure, seen: View) -> Seen:
    wave = engine.exit_waves(slabs([structure], seen, imaging))
    lens = Lens(engine.size, imaging.field_A, imaging.voltage_kV)
    intensity = image_intensity(wave, [seen], lens, CPU)
    reach = int(1.5 * imaging.field_A)  # inside two thirds of the Nyquist frequency of 256²
    index = np.arange(-reach, reach + 1)
    spectrum = np.fft.fft2(wave[0] - 1)[np.ix_(index, index)] / engine.size**2
    k = np.hypot(index[:, None], index[None]) / imaging.field_A
    return Seen(camera_image(intensity, [seen], imaging.pixels, imaging.field_A, CPU)[0], spectrum, k)


def band_error(seen: Seen, truth: Seen, low_per_A: float, high_per_A: float) -> float:
    """Root mean square difference of the waves in a band of frequencies, as a share of the scattered wave there."""
    band = (truth.k_per_A >= low_per_A) & (truth.k_per_A < high_per_A)
    return float(np.linalg.norm((seen.spectrum - truth.spectrum)[band]) / np.linalg.norm(truth.spectrum[band]))
