"""The drawn parameters of an image, which follow from the numbers of particle and view."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alloyscope.contracts import ABERRATIONS, View
from alloyscope.ids import rng_for, uniform_for, value_at
from alloyscope.microscope.settings import DetectorSection, FilmSection, ImagingSection, OpticsSection
from alloyscope.sections import Draw
from alloyscope.units import scherzer_defocus_A


def rotation(particle: int, view: int, seed: int) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w), uniform on SO(3): a normal 4-vector, normalised (Muller 1959)."""
    quaternion = rng_for("rotation", seed, particle, view).standard_normal(4)
    x, y, z, w = (quaternion / np.linalg.norm(quaternion)).tolist()
    return x, y, z, w


def drawn_view(
    particle: int,
    view: int,
    imaging: ImagingSection,
    optics: OpticsSection,
    detector: DetectorSection,
    seed: int,
) -> View:
    """Draw all parameters of one image. Each has its own random stream, so a new parameter does not change others."""

    def value(name: str, draw: Draw) -> float:
        # Fixed values need no stream, and streams cost most of the time.
        return draw if isinstance(draw, float) else value_at(draw, uniform_for(name, seed, particle, view))

    def angle(name: str) -> float:
        return value(name, (0.0, 2 * np.pi))

    shift = (-imaging.max_shift_A, imaging.max_shift_A)
    names = OpticsSection.model_fields.keys() - {"preset", "defocus_from_scherzer", "vibration_across_A"}
    drawn_optics: dict[str, Any] = {name: value(name, getattr(optics, name)) for name in names}
    if optics.defocus_from_scherzer:
        drawn_optics["defocus_A"] += scherzer_defocus_A(drawn_optics["C30_A"], imaging.voltage_kV)
    drawn_optics["vibration_angle_rad"] = value("vibration_angle", (0.0, np.pi))
    if optics.vibration_across_A is not None:
        drawn_optics |= widest_first(drawn_optics, value("vibration_across_A", optics.vibration_across_A))
    if drawn_optics["drift_A"] > 0:
        drawn_optics["drift_angle_rad"] = value("drift_angle", (0.0, np.pi))
    drawn_detector: dict[str, Any] = {
        name: value(name, getattr(detector, name))
        for name in ("dose_e_per_A2", "mtf_c1", "mtf_c2", "mtf_c3", "readout_e", "gain_map_rms")
    }
    angles: dict[str, Any] = {f"phi{n}{m}_rad": angle(f"phi{n}{m}") for n, m in ABERRATIONS if m}
    return View(
        particle=particle,
        view=view,
        engine=imaging.engine,
        rotation=rotation(particle, view, seed),
        shift_A=(value("shift_y", shift), value("shift_x", shift)),
        **drawn_optics,
        **drawn_detector,
        **angles,
        **film_of(imaging.film, value),
    )


def widest_first(drawn: dict[str, Any], across_A: float) -> dict[str, Any]:
    """Two independent widths of vibration as fields of View, whose direction is that of the wider one."""
    along_A, angle_rad = drawn["vibration_A"], drawn["vibration_angle_rad"]
    narrow_A, wide_A = sorted((along_A, across_A))
    return {
        "vibration_A": wide_A,
        "vibration_ratio": narrow_A / wide_A if wide_A > 0 else 1.0,
        "vibration_angle_rad": angle_rad if along_A >= across_A else (angle_rad + np.pi / 2) % np.pi,
    }


def film_of(film: FilmSection, value: Callable[[str, Draw], float]) -> dict[str, Any]:
    """Draw the film of one image, as fields of View; empty for an image without a film."""
    if value("film", (0.0, 1.0)) >= film.share:
        return {}
    return {
        "film_thickness_A": value("film_thickness_A", film.thickness_A),
        "film_angle_rad": value("film_angle", (0.0, 2 * np.pi)),
        "film_offset": tuple(value(f"film_{axis}", (0.0, 1.0)) for axis in "xyz"),
    }


def drawn_snapshots(particle: int, view: int, kept: int, wanted: int | None, seed: int) -> tuple[int, ...]:
    """Draw `wanted` of a particle's `kept` snapshots, over which one image averages; with None, all are used."""
    if wanted is None or wanted >= kept:
        return tuple(range(kept))
    chosen = rng_for("snapshots", seed, particle, view).choice(kept, wanted, replace=False)
    return tuple(sorted(chosen.tolist()))
