"""The sections of the microscope: imaging, supporting film, optics, detector.

Units are part of the key names.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from alloyscope.contracts import Engine
from alloyscope.microscope.presets import over_preset
from alloyscope.sections import (
    LATER,
    Draw,
    Fraction,
    FractionDraw,
    LogUniform,
    NonNegativeDraw,
    PathText,
    Positive,
    PositiveDraw,
    Section,
    bounds,
)
from alloyscope.units import electron_wavelength_A

Device = Literal["auto", "cpu", "gpu"]
Camera = Literal["counting", "scintillator"]
FARTHEST_TILT = 2.652  # of the tilts that images average over, in units of angular_spread (microscope/coherence.py)
WAVE_STEP_A = 0.2  # largest grid step of a stored exit wave


class OverPreset(Section):
    """A section that takes the values of keys that are left out from a preset."""

    section: ClassVar[str]  # name of the section, also in a preset

    @model_validator(mode="before")
    @classmethod
    def _over_preset(cls, given: Any) -> Any:
        needed = {name for name, field in cls.model_fields.items() if LATER not in field.metadata}
        return over_preset(cls.section, cls.model_fields["preset"].default, needed, given)


class FilmSection(Section):
    """Supporting film of amorphous carbon: a periodic block, made once, quenched from the melt at fixed density."""

    share: Fraction = 0.0  # share of the images that show the film
    thickness_A: PositiveDraw = 30.0  # ASSUME an ultrathin film, 3 nm
    edge_A: float = Field(60.0, ge=10)  # edge of the block across the beam
    density_g_per_cm3: float = Field(2.0, ge=1.8, le=2.3)  # evaporated carbon; the bounds are those of md/carbon.py
    melt_K: Positive = 8000.0
    melt_ps: Positive = 2.0
    quench_ps: Positive = 4.0
    settle_ps: Positive = 1.0  # at 300 K

    @property
    def block_A(self) -> tuple[float, float, float]:
        """Edges of the block [Å]; it is thick enough for every drawn thickness and for the potential's cutoff."""
        return self.edge_A, self.edge_A, max(10.0, bounds(self.thickness_A)[1])


class ImagingSection(OverPreset):
    section: ClassVar[str] = "imaging"

    preset: Annotated[PathText, LATER] = "corrected"  # for keys that are left out: a name in data/presets, or a path
    engine: Engine = "batched"
    device: Device = "auto"  # older place of this key; prefer the section `execution`
    voltage_kV: Positive = 200.0
    pixels: int = Field(128, ge=32)
    pixel_size_A: Positive = 10 / 23  # 23 px/nm
    grid: int = Field(384, ge=64)
    slice_A: Annotated[float, Field(gt=0, le=4)] = 2.0  # thickness of the slices, when `n_slices` is null
    n_slices: int | None = Field(None, ge=1)  # a fixed number of slices, whatever the height of a particle
    views: int = Field(5, ge=1)
    max_shift_A: Annotated[float, Field(ge=0)] = 4.0
    md_chunks_per_chunk: int = Field(1, ge=1)
    checked_waves: int = Field(1, ge=0)  # older place of this key; prefer the section `execution`
    store_waves: bool = False  # store exit waves, from which images of other optics and doses can be made
    snapshots_per_image: int | None = Field(None, ge=1)  # number drawn for each view; None: all
    film: FilmSection = FilmSection()

    @model_validator(mode="after")
    def _bins(self) -> Self:
        if self.pixels % 16:
            raise ValueError(f"pixels must be a multiple of 16, for the networks' coarsest level; got {self.pixels}")
        return self

    @property
    def field_A(self) -> float:
        """Edge of the field of view [Å]."""
        return self.pixels * self.pixel_size_A

    @property
    def band_limit_per_A(self) -> float:
        """Largest spatial frequency that the multislice grid carries, two thirds of its Nyquist frequency [1/Å]."""
        return self.grid / (3 * self.field_A)


class OpticsSection(OverPreset):
    """Lens parameters, drawn for each image, with abTEM's names and signs. Defaults: docs/physics.md §3, `corrected`.

    The angle of each astigmatic aberration and the directions of vibration and drift are drawn uniformly. With
    `defocus_from_scherzer`, the drawn defocus is added to the Scherzer defocus of the image's own C30
    (`units.scherzer_defocus_A`).
    """

    section: ClassVar[str] = "optics"

    preset: PathText = "corrected"  # as imaging.preset
    defocus_A: Draw = (-200.0, 200.0)  # underfocus positive, defocus = −C10
    defocus_from_scherzer: bool = False
    C12_A: Draw = (0.0, 50.0)
    C21_A: Draw = (0.0, 1000.0)
    C23_A: Draw = (0.0, 1000.0)
    C30_A: Draw = (-1.5e5, 1.5e5)
    C32_A: Draw = 0.0
    C34_A: Draw = 0.0
    C41_A: Draw = 0.0
    C43_A: Draw = 0.0
    C45_A: Draw = 0.0
    C50_A: Draw = 0.0
    C52_A: Draw = 0.0
    C54_A: Draw = 0.0
    C56_A: Draw = 0.0
    focal_spread_A: NonNegativeDraw = (20.0, 60.0)  # 1/e width, √2 σ
    angular_spread_mrad: NonNegativeDraw = (0.05, 0.3)  # 1/e width, √2 σ
    aperture_mrad: PositiveDraw = 30.0
    vibration_A: NonNegativeDraw = (0.05, 0.4)  # standard deviation of the image's position in the widest direction
    vibration_ratio: FractionDraw = (0.3, 1.0)  # ASSUME; across / along that direction: 1 is round, 0 a line
    # With a draw, the widths along two axes are drawn independently, and vibration_ratio is not used.
    vibration_across_A: Annotated[NonNegativeDraw | None, LATER] = None
    drift_A: Annotated[NonNegativeDraw, LATER] = 0.0  # path of the image during the exposure, at constant velocity

    @model_validator(mode="before")
    @classmethod
    def _without_foci(cls, given: Any) -> Any:
        """Leave out `n_foci` of older versions, whose default is in their stored configs."""
        if not isinstance(given, Mapping) or "n_foci" not in given:
            return given
        if given["n_foci"] != 1:
            raise ValueError("n_foci: images average over all foci now, as many as they need; remove this key")
        return {key: value for key, value in given.items() if key != "n_foci"}

    @model_validator(mode="after")
    def _has_scherzer_focus(self) -> Self:
        if self.defocus_from_scherzer and bounds(self.C30_A) == (0, 0):
            raise ValueError("defocus_from_scherzer needs a C30_A other than 0; give one, or set it to false")
        return self


class DetectorSection(OverPreset):
    """Camera parameters, drawn for each image.

    MTF(k) = (1 − c1) / (1 + (k / 2 c2)^c3) + c1, k in units of the camera's Nyquist frequency; with c1 = 1 it is 1
    everywhere, whatever c2 and c3 are: a camera without MTF.
    """

    section: ClassVar[str] = "detector"

    preset: PathText = "corrected"  # as imaging.preset
    camera: Camera = "counting"
    dose_e_per_A2: PositiveDraw = LogUniform(log_uniform=(1e2, 1e4))
    mtf_c1: FractionDraw = (0.0, 0.01)
    mtf_c2: PositiveDraw = (0.3, 0.4)
    mtf_c3: PositiveDraw = (2.4, 2.6)
    readout_e: NonNegativeDraw = 0.0  # standard deviation per pixel
    gain_map_rms: Annotated[FractionDraw, LATER] = 0.0  # standard deviation of the pixels' gains about 1, drawn anew
    gain: Positive = 1.0  # stored counts per electron
    offset: int = Field(0, ge=0)  # stored counts at zero electrons


def aperture_faults(imaging: ImagingSection, optics: OpticsSection) -> list[str]:
    """Faults of an aperture that is wider than the multislice grid or the stored waves carry."""
    limit_mrad = 1e3 * electron_wavelength_A(imaging.voltage_kV) * imaging.band_limit_per_A
    widest_mrad = bounds(optics.aperture_mrad)[1]
    faults = []
    if widest_mrad >= limit_mrad:
        faults.append(
            f"optics.aperture_mrad: must stay below the {limit_mrad:.1f} mrad that imaging.grid {imaging.grid} carries "
            f"over {imaging.field_A:.1f} Å; got {widest_mrad:g}"
        )
    # The limit is half a grid step below the Nyquist frequency, because the aperture's edge is one step wide.
    stored_mrad = 1e3 * electron_wavelength_A(imaging.voltage_kV) * 0.5 * (1 / WAVE_STEP_A - 1 / imaging.field_A)
    stored_mrad -= FARTHEST_TILT * bounds(optics.angular_spread_mrad)[1]
    if imaging.store_waves and widest_mrad >= stored_mrad:
        faults.append(
            f"optics.aperture_mrad: must stay below the {stored_mrad:.1f} mrad that waves stored in steps of "
            f"{WAVE_STEP_A:g} Å carry with this angular_spread_mrad; got {widest_mrad:g}"
        )
    return faults
