"""The configuration: one frozen pydantic model per section, the only home of defaults.

Unit suffixes stand in the key names.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from alloyscope.errors import ConfigError
from alloyscope.instrument import WAVE_STEP_A, DetectorSection, Device, ImagingSection, OpticsSection
from alloyscope.parameters import parameter_set
from alloyscope.sections import (
    Fraction,
    IntRange,
    Place,
    Positive,
    PositiveRange,
    Range,
    S,
    Section,
    bounds,
    compact,
    parse_section,
)
from alloyscope.units import electron_wavelength_A, fcc_111_spacing_A

FROZEN = "ALLOYSCOPE_CONFIG"  # environment variable

Protocol = Literal["gas_quench", "droplets"]
Split = Literal["train", "validation", "calibration", "test"]
Task = Literal["reading", "denoising"]
OrderLabel = Literal["d_com", "eta", "protocol"]


class CampaignSection(Section):
    name: str = Field("agco", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    results: Place = "results"
    n_particles: int = Field(200_000, ge=1)
    seed: int = Field(2026, ge=0)


class PotentialSection(Section):
    set: Place = "AgCo"
    n_r: int = Field(2000, ge=500, le=20_000)
    n_rho: int = Field(50_000, ge=50_000)
    rho_max_eV2: Positive = 300.0  # docs/physics.md §1: 12 neighbours at 0.85 r0 give at most 133 eV²


class ParticlesSection(Section):
    source: Literal["md", "files"] = "md"
    files: tuple[Place, ...] = ()  # with source `files`: paths or patterns; frames in order are the particles
    species: tuple[str, str] = ("Ag", "Co")
    n_atoms: IntRange = (60, 1000)
    fraction_first: Range = (0.1, 0.9)
    protocols: dict[Protocol, Annotated[float, Field(ge=0)]] = Field({"gas_quench": 0.5, "droplets": 0.5})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        faults = []
        low, high = self.n_atoms
        if not 13 <= low <= high <= 1000:
            faults.append(f"n_atoms must be [low, high] with 13 ≤ low ≤ high ≤ 1000; got [{low}, {high}]")
        if not 0 < self.fraction_first[0] <= self.fraction_first[1] < 1:
            faults.append(f"fraction_first must lie inside (0, 1); got {list(self.fraction_first)}")
        if self.species[0] == self.species[1]:
            faults.append(f"species must differ; got {list(self.species)}")
        if not sum(self.protocols.values()) > 0:
            faults.append(f"protocols needs one weight above 0; got {self.protocols}")
        if (self.source == "files") != bool(self.files):
            faults.append(f"files must name structure files with source `files`, and only then; got {list(self.files)}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class GasQuench(Section):
    """Core-shell route: a hot gas mixture in a confining sphere, quenched (docs/physics.md §2)."""

    start_K: Positive = 7500.0
    condense_K: Positive = 2000.0
    condense_ps: PositiveRange = (40.0, 80.0)
    hold_ps: Positive = 10.0  # repeated at condense_K until one cluster is left
    max_holds: int = Field(12, ge=0)
    cool_ps: PositiveRange = (60.0, 140.0)
    volume_per_atom_A3: Positive = 110.0  # ASSUME room enough to condense in: docs/physics.md §2


class Droplets(Section):
    """Janus route: two equilibrated droplets brought into contact, then cooled (docs/physics.md §2)."""

    melt_K: Positive = 1600.0  # ASSUME both pure droplets of ≤ 1000 atoms are liquid here
    melt_ps: Positive = 5.0
    settle_ps: Positive = 5.0  # from melt_K to contact_K, still apart
    contact_K: Positive = 800.0
    contact_ps: PositiveRange = (10.0, 30.0)
    max_holds: int = Field(4, ge=0)  # contact_ps is repeated as often, at most, until one cluster is left
    cool_ps: PositiveRange = (40.0, 80.0)


class MdSection(Section):
    particles_per_chunk: int = Field(200, ge=1)
    gas_quench: GasQuench = GasQuench()
    droplets: Droplets = Droplets()
    final_K: Positive = 300.0
    thermalise_ps: Positive = 20.0
    snapshots: int = Field(1, ge=1)
    snapshot_spacing_ps: Positive = 1.0
    # (temperature above which it holds [K], timestep [fs])
    timesteps_fs: tuple[tuple[float, Positive], ...] = ((4000.0, 1.0), (2000.0, 2.0), (1000.0, 3.0), (0.0, 4.0))
    damp_ps: Positive = 1.0
    skin_A: Positive = 1.0
    min_cluster_fraction: Fraction = 0.95
    max_attempts: int = Field(3, ge=1)
    wall_limit_s: Positive = 3600.0  # catches hangs only; the retry criterion counts steps

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        starts = [start for start, _ in self.timesteps_fs]
        if not starts or starts != sorted(starts, reverse=True) or starts[-1] != 0:
            raise ValueError(f"timesteps_fs must fall to temperature 0; got {starts}")
        return self

    @property
    def settle_ps(self) -> float:
        """The thermostat lags behind a ramp by rate × damp; five damping times forget it."""
        return 5 * self.damp_ps


SPLIT_BLOCK = 20  # each block of this many consecutive particles holds the split fractions exactly


class SplitsSection(Section):
    train: Fraction = 0.7
    validation: Fraction = 0.1
    calibration: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.calibration + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"must sum to 1; got {total:g}")
        shares = (self.train, self.validation, self.calibration, self.test)
        if any(abs(share * SPLIT_BLOCK - round(share * SPLIT_BLOCK)) > 1e-6 for share in shares):
            raise ValueError(f"must be multiples of {1 / SPLIT_BLOCK:g}; got {', '.join(map(str, shares))}")
        return self


class LabelsSection(Section):
    ordering: OrderLabel = "d_com"  # docs/decisions: η > 0 alone does not separate the two orders
    d_com_over_Rg_limit: Positive = 0.5


class DatasetSection(Section):
    min_chunks: int | None = Field(None, ge=1)  # None: all; a number: train on the first so many
    gated_images: int = Field(4, ge=1)  # made anew and examined by the gates before release


class TaskSettings(Section):
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: Positive = 1e-3
    width: int = Field(32, ge=4)  # channels of the first level
    redraw_noise: bool = True  # a fresh dose and noise at each visit of a training image


class TrainingSection(Section):
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    reading: TaskSettings = TaskSettings()
    denoising: TaskSettings = TaskSettings()
    loader_workers: int = Field(0, ge=0)


class ExecutionSection(Section):
    """How jobs work on a machine: nothing here changes a result, and no stage is made from it.

    A key that is left out (null) follows the older key of the same name, `md.wall_limit_s`, `imaging.device` or
    `imaging.checked_waves`. Those remain what md and hrtem are made from, so changing one there runs the stage again.
    """

    wall_limit_s: Positive | None = None  # of one particle's molecular dynamics; it catches hangs only
    device: Device | None = None
    checked_waves: int | None = Field(None, ge=0)  # per imaging chunk, against abTEM on a twice finer grid


class Config(Section):
    """A whole campaign."""

    campaign: CampaignSection = CampaignSection()
    potential: PotentialSection = PotentialSection()
    particles: ParticlesSection = ParticlesSection()
    md: MdSection = MdSection()
    splits: SplitsSection = SplitsSection()
    labels: LabelsSection = LabelsSection()
    imaging: ImagingSection = ImagingSection()
    optics: OpticsSection = OpticsSection()
    detector: DetectorSection = DetectorSection()
    dataset: DatasetSection = DatasetSection()
    training: TrainingSection = TrainingSection()
    execution: ExecutionSection = ExecutionSection()

    def as_json(self) -> str:
        """Compact JSON of all that stages are made from: `execution` is left out."""
        return compact(self.made_from(exclude={"execution"}))

    @property
    def wall_limit_s(self) -> float:
        """Time after which a particle's molecular dynamics is taken for hung [s]."""
        return self.execution.wall_limit_s or self.md.wall_limit_s

    @property
    def device(self) -> Device:
        """Where images are computed."""
        return self.execution.device or self.imaging.device

    @property
    def checked_waves(self) -> int:
        """Waves of each imaging chunk that are compared with abTEM's."""
        return self.imaging.checked_waves if self.execution.checked_waves is None else self.execution.checked_waves

    @property
    def folder(self) -> Path:
        return Path(self.campaign.results) / self.campaign.name

    def image_settings(self) -> str:
        """What the images are made from, as JSON: neither how many there are nor what is learned from them."""
        others = {"dataset", "training", "execution"}
        return compact(self.made_from(exclude={"campaign": {"results", "n_particles"}} | dict.fromkeys(others, True)))


def frozen(content: Any, main: bool) -> Any:
    """The config as the process that began a run of Snakemake read it, for the processes that it starts too.

    On a cluster each job reads the config's files again, in which a user may have begun to plan something else.

    Args:
        content: As this process read it.
        main: Whether this is the process that begins.
    """
    if main:
        os.environ[FROZEN] = json.dumps(content)
    return json.loads(os.environ[FROZEN]) if FROZEN in os.environ else content


def parse(content: Any) -> Config:
    """Check a whole configuration and what its sections ask of one another.

    Raises:
        ConfigError: lists every fault with its path.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"config: must hold sections; got {content!r}")
    faults: list[str] = []
    sections: dict[str, Section] = {}
    for name, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        try:
            given = content.get(name)
            sections[name] = parse_section(model, {} if given is None else given, path=name)
        except ConfigError as error:
            faults.append(str(error))
            sections[name] = _sound_part(model, content[name])
    faults += [
        f"{key}: unknown section; known are {', '.join(Config.model_fields)}"
        for key in content
        if key not in Config.model_fields
    ]
    config = Config.model_validate(sections)
    faults += _cross_faults(config)
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def _sound_part(model: type[S], content: Any) -> S:
    """What of a faulty section can stand, so that the checks across sections still run on it."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        faulty = {fault["loc"][0] for fault in error.errors() if fault["loc"]}
        kept = {key: value for key, value in content.items() if key not in faulty} if faulty else {}
        with suppress(ValidationError):
            return model.model_validate(kept)
    return model()


MOST_CHUNKS = 1_000_000  # names of chunks have six digits


def _cross_faults(config: Config) -> list[str]:
    try:
        parameters = parameter_set(config.potential.set)
    except ConfigError as error:
        return [str(error)]
    faults = aperture_faults(config.imaging, config.optics)
    if config.imaging.store_waves and config.particles.source == "md" and config.md.snapshots > 1:
        faults.append(
            f"imaging.store_waves: one wave per image cannot stand for several snapshots; md.snapshots must be 1; "
            f"got {config.md.snapshots}"
        )
    if config.campaign.n_particles > MOST_CHUNKS * config.md.particles_per_chunk:
        least = -(-config.campaign.n_particles // MOST_CHUNKS)
        faults.append(
            f"md.particles_per_chunk: {config.md.particles_per_chunk} makes more than {MOST_CHUNKS} chunks of "
            f"{config.campaign.n_particles} particles; must be at least {least}"
        )
    faults += _snapshot_faults(config)
    for species in config.particles.species:
        if species not in parameters.elements:
            faults.append(
                f"particles.species: {species} has no parameters in set {config.potential.set}; "
                f"it has {', '.join(parameters.elements)}"
            )
            continue
        faults += _resolution_faults(config.imaging, species, parameters.pair(species, species).r0_A)
    return faults


def _snapshot_faults(config: Config) -> list[str]:
    wanted = config.imaging.snapshots_per_image
    kept, why = (config.md.snapshots, "md.snapshots") if config.particles.source == "md" else (1, "one frame each")
    if wanted is None or wanted <= kept:
        return []
    return [f"imaging.snapshots_per_image: must be at most the {kept} that a particle has ({why}); got {wanted}"]


def aperture_faults(imaging: ImagingSection, optics: OpticsSection) -> list[str]:
    """What is wrong with an aperture that the multislice grid does not carry."""
    limit_mrad = 1e3 * electron_wavelength_A(imaging.voltage_kV) * imaging.band_limit_per_A
    widest_mrad = bounds(optics.aperture_mrad)[1]
    faults = []
    if widest_mrad >= limit_mrad:
        faults.append(
            f"optics.aperture_mrad: must stay below the {limit_mrad:.1f} mrad that imaging.grid {imaging.grid} carries "
            f"over {imaging.field_A:.1f} Å; got {widest_mrad:g}"
        )
    # half a grid step less than the Nyquist frequency: the aperture's edge is one step wide
    stored_mrad = 1e3 * electron_wavelength_A(imaging.voltage_kV) * 0.5 * (1 / WAVE_STEP_A - 1 / imaging.field_A)
    if imaging.store_waves and widest_mrad >= stored_mrad:
        faults.append(
            f"optics.aperture_mrad: must stay below the {stored_mrad:.1f} mrad that waves stored in steps of "
            f"{WAVE_STEP_A:g} Å carry; got {widest_mrad:g}"
        )
    return faults


def _resolution_faults(imaging: ImagingSection, species: str, r0_A: float) -> list[str]:
    frequency = 1 / fcc_111_spacing_A(r0_A)
    faults = []
    if frequency >= 0.5 / imaging.pixel_size_A:
        faults.append(
            f"imaging.pixel_size_A: {imaging.pixel_size_A:g} cuts {species}{{111}} at {frequency:.3f} 1/Å; "
            f"must be below {0.5 / frequency:.3f}"
        )
    if frequency >= imaging.band_limit_per_A:
        faults.append(
            f"imaging.grid: {imaging.grid} over {imaging.field_A:.1f} Å carries {imaging.band_limit_per_A:.3f} 1/Å "
            f"and cuts {species}{{111}} at {frequency:.3f}; must be above {3 * imaging.field_A * frequency:.0f}"
        )
    return faults


def load(*paths: Path) -> Config:
    """Read YAML files, later ones laid over earlier ones section by section, key by key.

    Raises:
        ConfigError: a file is missing or not YAML, or the content is faulty.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: must hold sections; got {type(content).__name__}")
        merged = _merge(merged, content)
    return parse(merged)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Snakemake's rule for several config files: mappings merge, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def json_schema() -> str:
    """JSON schema of config.yaml; `workflow/schema/config.schema.json` is this text."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"
