"""Pictures of particles as shaded spheres, whole or cut open, drawn by LAMMPS (`dump image`)."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alloyscope.contracts import Structure, require
from alloyscope.errors import SimulationError
from alloyscope.units import NEAREST_NEIGHBOUR_A

# LAMMPS's lights together exceed 1, so the picture is brighter than these colours: silver appears light grey-blue and
# cobalt vermilion. Pairs differ in lightness as well as in hue.
COLOUR = {
    "Ag": "#8E9AAB",
    "Co": "#A8380A",
    "Au": "#B57F12",
    "Cu": "#8F3F22",
    "Ni": "#0B7A5B",
    "Pd": "#5C6B8A",
    "Pt": "#A9A294",
}
OVERSAMPLING = 2  # drawn pixels per pixel of the result, along each edge
MARGIN_A = 5.0  # distance between the atoms and the faces of LAMMPS's box
OCCLUSION = "4321 0.6"  # seed and strength of the ambient occlusion


@dataclass(frozen=True)
class Scene:
    """A particle in the orientation of the picture; the viewer looks along +y, x points right, z up.

    Attributes:
        positions_A: Positions, shape (n, 3); the plane y = 0 is the plane of the cut.
        types: 0 for the first species, 1 for the second, shape (n,).
        species: Chemical symbols.
    """

    positions_A: NDArray[np.float64]
    types: NDArray[np.int64]
    species: tuple[str, str]

    @classmethod
    def of(cls, structure: Structure, species: tuple[str, str]) -> "Scene":
        """Rotate a particle so that the line from the first species' centre to the second's points to the right.

        Both centres lie in the plane y = 0. The rotation about the line shows the particle's largest extent, and the
        middle of the picture is x = z = 0.

        Raises:
            ContractError: the particle holds an element that is neither species.
        """
        foreign = sorted(set(structure.elements) - set(species))
        require(not foreign, f"picture needs {' and '.join(species)} only; got {', '.join(foreign)} as well")
        types = np.array([species.index(element) for element in structure.elements])
        centres, line = _line(structure.positions_A, types)
        across = structure.positions_A - centres
        beside = across - np.outer(across @ line, line)
        _, axes = np.linalg.eigh((beside - beside.mean(axis=0)).T @ (beside - beside.mean(axis=0)))
        up = axes[:, 2] - (axes[:, 2] @ line) * line
        up /= np.linalg.norm(up)
        turned = across @ np.stack([line, np.cross(up, line), up], axis=1)
        turned[:, [0, 2]] -= (turned.max(axis=0) + turned.min(axis=0))[[0, 2]] / 2
        return cls(turned, types, species)

    @property
    def cut(self) -> "Scene":
        """The particle without the atoms in front of the plane y = 0."""
        behind = self.positions_A[:, 1] >= 0
        return replace(self, positions_A=self.positions_A[behind], types=self.types[behind])

    @property
    def extent_A(self) -> float:
        """Edge of the square that the picture needs, including the atoms' diameters [Å]."""
        spread = np.ptp(self.positions_A[:, [0, 2]], axis=0).max()
        return float(spread) + max(NEAREST_NEIGHBOUR_A[element] for element in self.species)


def _line(
    positions_A: NDArray[np.float64], types: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A point on the line through both species' centres, and its direction; else the particle's longest axis."""
    if 0 < types.sum() < len(types):
        first, second = (positions_A[types == which].mean(axis=0) for which in (0, 1))
        length = float(np.linalg.norm(second - first))
        if length > 1e-9:
            return first, (second - first) / length
    centre = positions_A.mean(axis=0)
    _, axes = np.linalg.eigh((positions_A - centre).T @ (positions_A - centre))
    return centre, axes[:, 2]


def render(lmp: Any, scene: Scene, field_A: float, pixels: int) -> NDArray[np.uint8]:
    """Draw a particle on white; every atom has the diameter of the atoms in its own crystal.

    Args:
        lmp: A LAMMPS instance; the system that it holds is lost.
        scene: The particle.
        field_A: Edge of the picture [Å].
        pixels: Edge of the picture in pixels.

    Returns:
        Red, green and blue, shape (pixels, pixels, 3).

    Raises:
        SimulationError: LAMMPS cannot draw the picture.
    """
    size = OVERSAMPLING * pixels
    half_A = max(float(np.abs(scene.positions_A).max()), field_A) + MARGIN_A
    numbered = [(which + 1, element) for which, element in enumerate(scene.species)]
    # Define all colours before one is used: LAMMPS keeps pointers to colours, and moves colours when one is added.
    look = [f"color {element} {_rgb(COLOUR[element])}" for element in scene.species]
    look += [f"acolor {which} {element} adiam {which} {NEAREST_NEIGHBOUR_A[element]}" for which, element in numbered]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.ppm"
        try:
            lmp.commands_list(
                [
                    "clear",
                    "units metal",
                    "boundary f f f",
                    f"region box block {-half_A} {half_A} {-half_A} {half_A} {-half_A} {half_A}",
                    "create_box 2 box",
                    "mass * 1.0",
                ]
            )
            lmp.create_atoms(len(scene.types), None, (scene.types + 1).tolist(), scene.positions_A.ravel().tolist())
            lmp.command(
                f'write_dump all image "{path}" type type size {size} {size} box no 0 shiny 0.2 ssao yes {OCCLUSION} '
                # The viewer is at −y; at zoom 1 the picture is twice as wide as the box.
                f"view 90 -90 center s 0.5 0.5 0.5 zoom {4 * half_A / field_A} "
                f"modify backcolor white {' '.join(look)}"
            )
            with Image.open(path) as drawn:
                fine = np.asarray(drawn, dtype=np.float64)
        except Exception as error:  # noqa: BLE001 - the lammps module raises bare Exception
            raise SimulationError(
                f"LAMMPS cannot draw a particle ({' '.join(str(error).split())}); check LAMMPS with alloyscope doctor"
            ) from None
    blocks = fine.reshape(pixels, OVERSAMPLING, pixels, OVERSAMPLING, 3)
    picture: NDArray[np.uint8] = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return picture


def _rgb(colour: str) -> str:
    return " ".join(f"{int(colour[k : k + 2], 16) / 255:.4f}" for k in (1, 3, 5))
