"""Views that fit into the field, and the exposure of an image as its view says."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alloyscope.contracts import Structure, View
from alloyscope.errors import GateError, at_particle
from alloyscope.ids import particle_id, rng_for
from alloyscope.imaging.box import slabs
from alloyscope.imaging.hrtem import shown
from alloyscope.microscope.detector import expose
from alloyscope.microscope.settings import DetectorSection, ImagingSection
from alloyscope.progress import log


def outside_field(
    views: Sequence[View], snapshots: Mapping[int, Sequence[Structure]], imaging: ImagingSection
) -> dict[int, str]:
    """Find the particles that lie partly outside the field in some view; the values are the reasons."""
    found: dict[int, str] = {}
    for view in views:
        if view.particle in snapshots and view.particle not in found:
            try:
                with at_particle(view.particle):
                    slabs(shown((snapshots[view.particle], view)), view, imaging)
            except GateError as error:
                found[view.particle] = f"view {view.view}: {str(error).partition(': ')[2]}"
                log(f"{particle_id(view.particle)}: {found[view.particle]}")
    return found


def exposed(
    image: NDArray[np.float32], view: View, imaging: ImagingSection, detector: DetectorSection, seed: int
) -> NDArray[np.uint16]:
    """Stored counts of an expected image with the dose and camera of its view; noise depends on seed and view alone."""
    return expose(
        image,
        dose_e_per_A2=view.dose_e_per_A2,
        readout_e=view.readout_e,
        gain_map_rms=view.gain_map_rms,
        mtf_parameters=(view.mtf_c1, view.mtf_c2, view.mtf_c3),
        pixel_size_A=imaging.pixel_size_A,
        detector=detector,
        rng=rng_for("noise", seed, view.particle, view.view),
    )
