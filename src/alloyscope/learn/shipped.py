"""A trained model as a folder: weights (safetensors) and a card (JSON); nothing in it is executed."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from alloyscope.errors import ConfigError, StoreError
from alloyscope.learn.calibration import Calibration
from alloyscope.learn.likeness import Likeness
from alloyscope.learn.predict import Reader
from alloyscope.learn.task import Scale, Task
from alloyscope.learn.tasks import TASKS
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.sections import Section, parse_section
from alloyscope.store.atomic import checksum, read_json, write_json
from alloyscope.store.weights import load_weights, save_weights
from alloyscope.structure.settings import LabelsSection

CARD, WEIGHTS = "card.json", "weights.safetensors"
SAME = 5e-3  # relative difference up to which voltages and pixels count as equal
LICENCE = "MIT"


class Origin(Section):
    """What a model was trained on.

    Attributes:
        campaign: Name of the campaign.
        dataset: Digest of its image set.
        images_digest: Digest of the settings that made its images, whatever their number.
        potential, protocols: Parameter set, and protocols of molecular dynamics, of the structures.
        particles, images, visits: Numbers of training particles, of their images, and of visits of an image.
        seed: Seed of the training.
        n_atoms, fraction_first: Smallest and largest value, and mean, over the training images.
        commit: Commit of the source tree that trained it.
        versions: Versions of the packages that trained it.
    """

    campaign: str
    dataset: str
    images_digest: str
    potential: str
    protocols: tuple[str, ...]
    particles: int
    images: int
    visits: int
    seed: int
    n_atoms: tuple[float, float, float]
    fraction_first: tuple[float, float, float]
    commit: str | None
    versions: dict[str, str]


class ModelCard(Section):
    """Description of a model: `card.json`.

    Attributes:
        format: Version of this form.
        name: Name of the model.
        task: Task in TASKS.
        settings: Section of the task; it says how images are normalised.
        classes: Names of class 0 and class 1, if the task has classes.
        centre, spread: Scale of the task's labels.
        symmetries: Number of the square's symmetries over which outputs are averaged; the calibration rests on it.
        parameters: Number of weights.
        species: The species; the first is that of `fraction_first`.
        labels: Criterion of the chemical order.
        imaging, optics, detector: The microscope of the training images: voltage, pixels, ranges of its parameters.
        trained_on: Where the training data came from.
        calibration: Intervals and sets; None for a model without.
        likeness: Statistics of "like the training"; None for a model without.
        scores: Scores on the test split of its campaign.
        licence: Licence of the weights.
        weights_sha256: Checksum of the file of weights.
    """

    format: Literal[1] = 1
    name: str
    task: str
    settings: dict[str, Any]
    classes: tuple[str, ...] = ()
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    symmetries: int = Field(ge=1, le=8)
    parameters: int
    species: tuple[str, str]
    labels: LabelsSection
    imaging: ImagingSection
    optics: OpticsSection
    detector: DetectorSection
    trained_on: Origin
    calibration: Calibration | None = None
    likeness: Likeness | None = None
    scores: dict[str, Any]
    licence: str = LICENCE
    weights_sha256: str

    @property
    def words(self) -> str:
        """What the model is for, in words."""
        first, second = self.species
        return f"{first}{second} at {self.imaging.voltage_kV:g} kV with {self.imaging.pixel_size_A:.4g} Å pixels"

    def require(
        self,
        given: str,
        *,
        voltage_kV: float | None = None,
        pixel_size_A: float | None = None,
        species: tuple[str, str] | None = None,
    ) -> None:
        """Refuse images of another voltage, pixel or material; what is None is not known and not compared.

        Args:
            given: What was given, in words, for the message.
            voltage_kV: Acceleration voltage.
            pixel_size_A: Pixel edge [Å].
            species: The two species, the first being that of `fraction_first`.

        Raises:
            ConfigError: the model is for something else.
        """
        own = self.imaging
        faults = []
        if voltage_kV is not None and abs(voltage_kV / own.voltage_kV - 1) > SAME:
            faults.append(f"{voltage_kV:g} kV")
        if pixel_size_A is not None and abs(pixel_size_A / own.pixel_size_A - 1) > SAME:
            faults.append(f"{pixel_size_A:.4g} Å pixels")
        if species is not None and tuple(species) != self.species:
            faults.append(f"species {' and '.join(species)}")
        if faults:
            raise ConfigError(
                f"model {self.name} is for {self.words}; {given} has {', '.join(faults)}; take a model that was "
                f"trained for that, or train one and export it (docs/models.md)"
            )


@dataclass(frozen=True)
class Model:
    """A loaded model: its card and the network with its weights."""

    card: ModelCard
    reader: Reader

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a model from its folder; code comes from this package alone.

        Raises:
            ConfigError: the card is faulty, or of a later version.
            StoreError: a file is missing or damaged, or the weights are of another network.
        """
        card = read_card(folder)
        path = folder / WEIGHTS
        if checksum(path) != card.weights_sha256:
            raise StoreError(f"{path}: its checksum is not that of {CARD}; export the model again")
        task = task_of(card)
        network = task.network()
        try:
            network.load_state_dict(load_weights(path))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise StoreError(f"{path}: weights of another network ({reason[:200]}); export the model again") from None
        return cls(card, Reader(task, network, Scale(card.centre, card.spread), card.symmetries))


def task_of(card: ModelCard) -> Task:
    """The task with the settings of the training.

    Raises:
        ConfigError: this version of the package does not know the task or one of its settings.
    """
    if card.task not in TASKS:
        raise ConfigError(f"{CARD}: task must be one of {', '.join(TASKS)}; got {card.task!r}; update alloyscope")
    return parse_section(TASKS[card.task], card.settings, f"{CARD}: settings")


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model.

    Raises:
        ConfigError: the card is faulty, or of a later version.
        StoreError: the file is missing or damaged.
    """
    return parse_section(ModelCard, read_json(folder / CARD), CARD)


def write_model(folder: Path, card: ModelCard, weights: dict[str, Any]) -> None:
    """Write the weights and then the card, with the weights' checksum.

    Raises:
        StoreError: the folder cannot be written.
    """
    save_weights(folder / WEIGHTS, weights)
    sealed = card.model_copy(update={"weights_sha256": checksum(folder / WEIGHTS)})
    write_json(folder / CARD, sealed.model_dump(mode="json"))


def packaged_folder() -> Path:
    return Path(str(files("alloyscope"))) / "data" / "models"


def packaged_models() -> list[str]:
    """Names of the models in the package: the folders of data/models with a card."""
    return sorted(path.parent.name for path in packaged_folder().glob(f"*/{CARD}"))


def model_folder(name: str) -> Path:
    """Folder of a model, given by its path or by the name of a packaged one.

    Raises:
        ConfigError: there is no such model; the message lists those of the package.
    """
    if (Path(name) / CARD).exists():
        return Path(name)
    known = packaged_models()
    if name in known:
        return packaged_folder() / name
    listed = f"one of the package's models {', '.join(known)}" if known else "(no model is in this package)"
    raise ConfigError(f"model must be a folder with {CARD}, or {listed}; got {name!r}")
