"""Building blocks of config sections: the frozen model, ranges, draws, and messages about faults.

A value that is drawn for each image is a number (fixed), `[low, high]` (uniform) or `{log_uniform: [low, high]}`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from alloyscope.errors import ConfigError


class Later:
    """Marks a key that is newer than finished campaigns, as in `snapshots: Annotated[int, LATER] = 1`.

    The default of the key is its neutral value, with which the stage gives the same results as before the key existed.
    `as_json` leaves out a key with this value, so that a new key does not run any stage again.
    """


LATER = Later()
MADE_FROM = "made from"  # context of a serialisation that leaves out later keys with neutral values


class Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def as_json(self) -> str:
        """Compact JSON for params of rules and for digests, equal for equal content.

        It can be parsed into the same section.
        """
        return compact(self.made_from())

    def made_from(self, **options: Any) -> dict[str, Any]:
        """The content from which a stage is made: `model_dump` without later keys that have their neutral value."""
        content: dict[str, Any] = self.model_dump(mode="json", context=MADE_FROM, **options)
        return content

    @model_serializer(mode="wrap")
    def _without_neutral(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if info.context == MADE_FROM:
            for name, field in type(self).model_fields.items():
                if LATER in field.metadata and getattr(self, name) == field.default:
                    content.pop(name, None)
        return content


def compact(content: Any) -> str:
    """JSON without spaces, with sorted keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _ordered(bounds: tuple[Any, Any]) -> tuple[Any, Any]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"must be [low, high] with low ≤ high; got {list(bounds)}")
    return bounds


def _path_text(path: str) -> str:
    # Snakemake takes braces for wildcards; LAMMPS cannot read quotes or line breaks inside a quoted path.
    if not path or path.startswith("-") or not path.isprintable() or set('{}"') & set(path):
        raise ValueError(
            f'must be a path without braces, double quotes, line breaks or a leading "-"; got {path!r}; rename it'
        )
    return path


PathText = Annotated[str, AfterValidator(_path_text)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
IntRange = Annotated[tuple[int, int], AfterValidator(_ordered)]
Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class LogUniform(Section):
    log_uniform: Range

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.log_uniform[0] <= 0:
            raise ValueError(f"must start above 0; got {list(self.log_uniform)}")
        return self


def _draw_kind(value: Any) -> str:
    if isinstance(value, Mapping | LogUniform):
        return "log-uniform"
    return "range" if isinstance(value, list | tuple) else "number"


Draw = Annotated[
    Annotated[float, Tag("number")] | Annotated[Range, Tag("range")] | Annotated[LogUniform, Tag("log-uniform")],
    Discriminator(_draw_kind),
]


def bounds(draw: Draw) -> tuple[float, float]:
    """Smallest and largest value of a draw."""
    match draw:
        case LogUniform():
            return draw.log_uniform
        case tuple():
            return draw
        case _:
            return draw, draw


def _above(least: float, strictly: bool) -> Callable[[Draw], Draw]:
    def check(draw: Draw) -> Draw:
        low = bounds(draw)[0]
        if low < least or (strictly and low == least):
            raise ValueError(f"must be {'above' if strictly else 'at least'} {least:g}; got {low:g}")
        return draw

    return check


def _at_most(most: float) -> Callable[[Draw], Draw]:
    def check(draw: Draw) -> Draw:
        if bounds(draw)[1] > most:
            raise ValueError(f"must be at most {most:g}; got {bounds(draw)[1]:g}")
        return draw

    return check


PositiveDraw = Annotated[Draw, AfterValidator(_above(0, strictly=True))]
NonNegativeDraw = Annotated[Draw, AfterValidator(_above(0, strictly=False))]
FractionDraw = Annotated[NonNegativeDraw, AfterValidator(_at_most(1))]


S = TypeVar("S", bound=Section)


def parse_section(model: type[S], content: Any, path: str = "") -> S:
    """Parse a section.

    Raises:
        ConfigError: the content is faulty; the message lists every fault with its path.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(_faults(error, path))) from None


def _faults(error: ValidationError, path: str) -> Iterable[str]:
    for fault in error.errors(include_url=False):
        where = [str(part) for part in fault["loc"] if part not in ("number", "range", "log-uniform")]
        name = ".".join(part for part in (path, *where) if part)
        got = "" if fault["type"] in ("missing", "value_error") else f"; got {fault['input']!r}"
        unknown = fault["type"] == "extra_forbidden"
        text = "unknown key" if unknown else fault["msg"].removeprefix("Value error, ") + got
        yield f"{name or 'config'}: {text}"
