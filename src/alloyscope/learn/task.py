"""The record of a task: what a network learns, how it is scored, and how the report presents it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from alloyscope.sections import LATER, Draw, Fraction, LogUniform, Positive, PositiveDraw, Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from alloyscope.learn.data import Released
    from alloyscope.microscope.settings import DetectorSection

CELL_PIXELS = 8  # pixels along an edge of a cell of the projected maps
CROP_PIXELS = 16  # crops are multiples of it, as the networks need
Batch = Mapping[str, "Tensor"]  # arrays of n images, or of one without the leading axis; see `Task`


Images = Literal["stored", "redrawn"]


class Scale(NamedTuple):
    """Mean and standard deviation of the scaled labels over the training images."""

    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A score that the report shows.

    Attributes:
        name: Name of the score; `name_low` and `name_high` are the ends of its 95 % interval.
        words: Name for readers, in lower case.
        unit: Unit; "%" for a share.
        baseline: Name of the score of a naive guess.
        baseline_words: Description of that guess.
        axis: Label of the axis of its learning curve.
        lower_is_better: Whether the score is an error.
    """

    name: str
    words: str
    unit: str
    baseline: str
    baseline_words: str
    axis: str
    lower_is_better: bool = False

    def beats(self, scores: Mapping[str, Any]) -> bool:
        """Whether the whole 95 % interval is better than the baseline; without an interval, whether the value is.

        The score must have a value.
        """
        sign = -1 if self.lower_is_better else 1
        worst = scores[f"{self.name}_{'high' if self.lower_is_better else 'low'}"]
        return bool(sign * (scores[self.name] if worst is None else worst) > sign * scores[self.baseline])


@dataclass(frozen=True)
class Evaluated:
    """Results of an evaluated task; all but `runs` and `metrics` belong to the first run.

    Attributes:
        runs: Names of the runs.
        metrics: Scores of each run.
        training: Account of the training, run.json.
        curves: Learning curves, one row per epoch.
        predictions: Predictions, one row per test image.
        examples: Arrays `noisy`, `truth` and `denoised` (the network's output), shape (n, y, x), and their rows
            `image`; empty if no examples were kept.
        species: The two species.
        pixel_size_A: Pixel edge [Å].
    """

    runs: list[str]
    metrics: list[dict[str, Any]]
    training: dict[str, Any]
    curves: "pd.DataFrame"
    predictions: "pd.DataFrame"
    examples: dict[str, NDArray[Any]]
    species: tuple[str, str]
    pixel_size_A: float


@dataclass(frozen=True)
class Picture:
    """A figure of the report. `width` is "", "narrow" or "wide"; `pixels` is true for a picture of images."""

    figure: "Figure"
    alt: str
    caption: str = ""
    width: str = ""
    pixels: bool = False


@dataclass(frozen=True)
class Block:
    """A paragraph of the report, a table after it, whose first row is its head, and the pictures after both."""

    text: str = ""
    pictures: Sequence[Picture] = field(default=())
    rows: Sequence[Sequence[str]] = field(default=())


class Task(Section, ABC):
    """A task that a network learns. Each module of learn/tasks/ holds one; its fields are section `training.<name>`.

    In training, `images` come as they are stored, or noise, dose and errors of the camera are drawn anew at each visit.

    The network gets the noisy image and a measure of its noise. A batch holds, by name:
        image: Noisy intensity in units of the image's own background (vacuum, or film if it fills the image), or, with
            normalised_by `dose`, of the incident beam, (n, 1, y, x).
        electrons: Electrons per pixel that the noise of the background shows, or those of the dose, (n,).
        row: Row of the image in the arrays, (n,).
        symmetry: Number of the symmetry of the square by which the image was turned (learn/data.turned), (n,).
        dose_e_per_A2: Dose of the image as it is shown, (n,).
        clean: Expected intensity in units of its own background, or of the incident beam, with the shape of `image`,
            if it is among `reads`.
        maps: Projected atoms of either species in each cell of the field, (n, 2, y/CELL_PIXELS, x/CELL_PIXELS), if they
            are among `reads`; only in training and validation. They are turned and cropped as the image is.
        …: The task's labels, (n,) each.

    Attributes:
        reads: Arrays beside the noisy image that a batch must hold: "clean", "maps".
        scaled: Names of the labels that `scale` standardises, for the account of a training.
        columns: Columns of predictions.parquet beside those that identify the image, with pandas dtypes.
        shown: Scores that the log and the report show.
        examples: Number of test images that the report shows with the network's output, which is then an image; `reads`
            must hold "clean".
        symmetries: Number of the symmetries of the square over which a network's output is averaged; 1 for an output
            that turns with the image.
        heading: Heading of the section in the report.
        does: What the network does, as a continuation of "A network".
        spelled: Whether every config holds the section, as for a protocol. A later task leaves this out.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    scaled: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Mapping[str, str]]
    shown: ClassVar[tuple[Shown, ...]]
    examples: ClassVar[int] = 0
    symmetries: ClassVar[int] = 8
    heading: ClassVar[str]
    does: ClassVar[str]
    spelled: ClassVar[bool] = False

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: Positive = 1e-3
    width: int = Field(32, ge=4)  # channels of the first level
    images: Images = "redrawn"  # how training images come to a network; see `Task`
    # background: an image in units of its own background (docs/decisions/0013); dose: the dose must be known
    normalised_by: Annotated[Literal["background", "dose"], LATER] = "background"
    gain_error: Annotated[PositiveDraw, LATER] = LogUniform(log_uniform=(0.9, 1.1))  # factor on the camera's gain
    offset_error: Annotated[Draw, LATER] = (-0.02, 0.02)  # of the camera's offset, as a share of the vacuum's counts
    # images that a training shows, a repeated one counted each time; takes the place of `epochs`
    visits: Annotated[int | None, LATER] = Field(None, ge=1)
    # edge of crops around the particles, which a training shows until it comes to its last part, `full_share`
    crop_pixels: Annotated[int | None, LATER] = Field(None, ge=CROP_PIXELS, multiple_of=CROP_PIXELS)
    full_share: Annotated[Fraction, LATER] = 0.3

    @model_validator(mode="before")
    @classmethod
    def _redraw_noise(cls, content: Any) -> Any:
        """Read the key `redraw_noise` of earlier versions, which is `images: redrawn` or `images: stored`."""
        if not isinstance(content, Mapping) or "redraw_noise" not in content:
            return content
        content = dict(content)
        earlier = content.pop("redraw_noise")
        if not isinstance(earlier, bool) or "images" in content:
            raise ValueError(
                f"redraw_noise is the earlier name of `images`: true is `redrawn`, false is `stored`; got {earlier!r}"
                + (" beside `images`; remove it" if "images" in content else "")
            )
        return content | {"images": "redrawn" if earlier else "stored"}

    # Which images of the split `train` are shown (learn/subset.py); null: all
    particles: Annotated[int | None, Field(ge=1), LATER] = None  # so many, from the first on
    views: Annotated[int | None, Field(ge=1), LATER] = None  # so many of each particle, from the first on
    split: Annotated[Literal["particle", "image"], LATER] = "particle"  # image: test images show particles trained on

    @classmethod
    def name(cls) -> str:
        """Name in `training.tasks`: that of the module."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def network(self) -> "nn.Module":
        """Make the network with fresh weights; it takes (image, electrons) of a batch."""

    def taught(self, network: "nn.Module", batch: Batch) -> Any:
        """What the network gives for `loss` and `metrics`: its output, and what else a training teaches it."""
        return network(batch["image"], batch["electrons"])

    def labels(self, table: "pd.DataFrame") -> dict[str, NDArray[np.float32]]:
        """Labels for the batch from rows of images.parquet, by name, (n,) each.

        Raises:
            ContractError: a label is unknown or missing.
        """
        return {}

    def remark(self, table: "pd.DataFrame") -> str:
        """A sentence for the log about images that lack a label, from rows of images.parquet; empty if none does."""
        return ""

    def scale(self, labels: Mapping[str, NDArray[np.float32]]) -> Scale:
        """Centre and spread of those labels of the training images that the loss standardises."""
        return Scale()

    @abstractmethod
    def loss(self, output: Any, batch: Batch, scale: Scale) -> "Tensor":
        """Mean loss over a batch."""

    @abstractmethod
    def metrics(self, output: Any, batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """Metrics of each image, by name with unit, for the learning curves; NaN for an image that does not count."""

    @abstractmethod
    def read(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """The network's predictions for each image, (n,) each."""

    def table(self, tested: "pd.DataFrame", read: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
        """Columns of predictions.parquet, from the rows of the test images and their predictions."""
        return dict(read)

    def beside(
        self,
        released: "Released",
        tested: "pd.DataFrame",
        detector: "DetectorSection",
        apply: "Callable[[NDArray[Any], float], NDArray[Any]]",
    ) -> dict[str, Any]:
        """Further columns of predictions.parquet, which need more than one visit of each test image.

        Args:
            released: The image set.
            tested: Rows of the test images.
            detector: The camera that the network knows.
            apply: The network: image, shape (y, x), and electrons → its output of that image, without the first axis.
        """
        return {}

    @abstractmethod
    def score(self, predictions: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
        """Scores with intervals and baselines.

        Args:
            predictions: One row per test image.
            training: Rows of the training images, for the naive guess.
        """

    @abstractmethod
    def section(self, found: Evaluated) -> list[Block]:
        """Blocks of the report between the scores and the learning curves."""
