"""Data that pass between stages: frozen dataclasses, checked on construction."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alloyscope.errors import ContractError

Engine = Literal["batched", "abtem"]
Ordering = Literal["core_shell", "janus", "other"]  # other: neither of the two
Split = Literal["train", "validation", "calibration", "test"]
OWN = "file"  # the protocol of a user's structure that names no known protocol


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)


@dataclass(frozen=True)
class Particle:
    """A planned particle: the properties that follow from its number."""

    number: int
    protocol: str
    species: tuple[str, str]
    counts: tuple[int, int]  # atoms of the first and second species

    def __post_init__(self) -> None:
        require(self.number >= 0, f"particle number must be ≥ 0; got {self.number}")
        require(
            min(self.counts) >= 0 and sum(self.counts) > 0,
            f"counts must be ≥ 0, not both 0; got {self.counts}",
        )

    @property
    def n_atoms(self) -> int:
        return sum(self.counts)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbol of every atom, first species first."""
        return (self.species[0],) * self.counts[0] + (self.species[1],) * self.counts[1]


@dataclass(frozen=True)
class Structure:
    """One snapshot of a particle.

    Attributes:
        elements: Chemical symbol of every atom, length n.
        positions_A: Cartesian positions [Å], shape (n, 3), float64.
        info: Scalars of the snapshot (particle, protocol, snapshot, potential_energy_eV, temperature_K).
    """

    elements: tuple[str, ...]
    positions_A: NDArray[np.float64]
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.elements), 3)
        require(self.positions_A.shape == shape, f"positions must be {shape}; got {self.positions_A.shape}")
        require(self.positions_A.dtype == np.float64, f"positions must be float64; got {self.positions_A.dtype}")
        require(bool(np.isfinite(self.positions_A).all()), "positions must be finite")


@dataclass(frozen=True)
class Film:
    """A periodic block of amorphous carbon.

    Attributes:
        positions_A: Positions, shape (n, 3), float64, within the block.
        edges_A: Edges of the block, which begins at the origin [Å].
    """

    positions_A: NDArray[np.float64]
    edges_A: tuple[float, float, float]

    def __post_init__(self) -> None:
        shape, inside = self.positions_A.shape, (self.positions_A >= 0) & (self.positions_A < self.edges_A)
        require(len(shape) == 2 and shape[1:] == (3,), f"positions of a film must be (n, 3); got {shape}")
        require(bool(inside.all()), f"atoms of a film must lie in its block of {self.edges_A} Å")


# (order n, symmetry m) of every aberration C_nm except defocus; those with m > 0 have an angle
ABERRATIONS = (
    *((1, 2), (2, 1), (2, 3), (3, 0), (3, 2), (3, 4)),
    *((4, 1), (4, 3), (4, 5), (5, 0), (5, 2), (5, 4), (5, 6)),
)


@dataclass(frozen=True)
class View:
    """The drawn parameters of one image: a row of `images.parquet`.

    Aberrations have abTEM's names and signs (defocus = −C10), angles in rad and lengths in Å. `rotation` is a unit
    quaternion (x, y, z, w); `shift_A` moves the particle in the image plane (y, x). `snapshots` are the numbers of the
    snapshots over which the exposure averages; an empty tuple means all. Thickness 0 means that there is no film;
    `film_offset` shifts its block, in fractions of the block's edges (x, y, z). Defocus is measured from the particle's
    lower face, with and without a film. `vibration_A` is the standard deviation of the image's position along the
    direction `vibration_angle_rad` from x towards y; across it, it is `vibration_ratio` times as large. During the
    exposure the image moves by `drift_A` along `drift_angle_rad`. `gain_map_rms` is the standard deviation of the
    pixels' gains about 1.
    """

    particle: int
    view: int
    engine: Engine
    rotation: tuple[float, float, float, float]
    shift_A: tuple[float, float]
    defocus_A: float
    C12_A: float
    phi12_rad: float
    C21_A: float
    phi21_rad: float
    C23_A: float
    phi23_rad: float
    C30_A: float
    C32_A: float
    phi32_rad: float
    C34_A: float
    phi34_rad: float
    C41_A: float
    phi41_rad: float
    C43_A: float
    phi43_rad: float
    C45_A: float
    phi45_rad: float
    C50_A: float
    C52_A: float
    phi52_rad: float
    C54_A: float
    phi54_rad: float
    C56_A: float
    phi56_rad: float
    focal_spread_A: float
    angular_spread_mrad: float
    aperture_mrad: float
    vibration_A: float
    vibration_ratio: float
    vibration_angle_rad: float
    dose_e_per_A2: float
    mtf_c1: float
    mtf_c2: float
    mtf_c3: float
    readout_e: float
    snapshots: tuple[int, ...] = ()
    film_thickness_A: float = 0.0
    film_angle_rad: float = 0.0
    film_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drift_A: float = 0.0
    drift_angle_rad: float = 0.0
    gain_map_rms: float = 0.0

    def __post_init__(self) -> None:
        norm = float(np.linalg.norm(self.rotation))
        require(abs(norm - 1) < 1e-6, f"rotation must be a unit quaternion; its norm is {norm:g}")
        require(self.dose_e_per_A2 > 0, f"dose must be above 0; got {self.dose_e_per_A2}")
