"""Second-moment parameter sets, read from data files, and the section that chooses one."""

from functools import cache
from importlib.resources import files
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from alloyscope.errors import ConfigError
from alloyscope.sections import PathText, Positive, Section, parse_section
from alloyscope.units import ATOMIC_NUMBER


class PairParameters(Section):
    """Second-moment parameters of one pair; see docs/physics.md §1 for the formula."""

    A_eV: Positive
    xi_eV: Positive
    p: Positive
    q: Positive
    r0_A: Positive
    cut_start_A: Positive
    cut_end_A: Positive

    @model_validator(mode="after")
    def _window(self) -> Self:
        if not self.r0_A < self.cut_start_A < self.cut_end_A:
            raise ValueError(
                f"cutoff window must satisfy r0 < cut_start < cut_end; "
                f"got r0 {self.r0_A}, window {self.cut_start_A} → {self.cut_end_A} Å"
            )
        return self


class Citation(Section):
    """A reference value for a property of a set.

    Attributes:
        property: Name of the property in validation.json, e.g. `Ag fcc lattice constant`.
        kind: `computed` independently with the same parameters, so that a deviation means an error; or `experiment`.
        reason: Reason for the tolerance.
    """

    property: str
    value: float
    tolerance: Positive
    unit: str
    kind: Literal["computed", "experiment"]
    source: str
    reason: str


class ParameterSet(Section):
    """A second-moment parameter set: every pair of its elements, with the source of each row."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")  # also the name of files
    description: str
    pairs: dict[str, PairParameters]
    sources: dict[str, str]
    references: tuple[Citation, ...] = ()

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(element for pair in self.pairs for element in pair.split("-")))

    def pair(self, first: str, second: str) -> PairParameters:
        """Parameters of a pair, in either order."""
        name = f"{first}-{second}"
        return self.pairs[name] if name in self.pairs else self.pairs[f"{second}-{first}"]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        unknown = set(self.elements) - ATOMIC_NUMBER.keys()
        if unknown:
            raise ValueError(f"unknown elements {sorted(unknown)}; known are {sorted(ATOMIC_NUMBER)}")
        for first, second in combinations_with_replacement(self.elements, 2):
            present = {f"{first}-{second}", f"{second}-{first}"} & self.pairs.keys()
            if len(present) != 1:
                raise ValueError(f"needs the pair {first}-{second} exactly once; has {sorted(self.pairs)}")
        if missing := self.pairs.keys() - self.sources.keys():
            raise ValueError(f"pairs without a source: {sorted(missing)}")
        return self


def packaged_sets() -> tuple[str, ...]:
    """Names of the parameter sets in the package."""
    folder = files("alloyscope") / "data" / "potentials"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir()))


@cache
def parameter_set(name: str) -> ParameterSet:
    """Read a parameter set, given by the name of a packaged one or by the path of a YAML file.

    Raises:
        ConfigError: there is no such set, or its content is faulty.
    """
    if name in packaged_sets():
        text = (files("alloyscope") / "data" / "potentials" / f"{name}.yaml").read_text()
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        text = Path(name).read_text()
    else:
        raise ConfigError(
            f"potential.set: must be one of {', '.join(packaged_sets())} or the path of a .yaml file; got {name!r}"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    return parse_section(ParameterSet, content, path=f"parameter set {name}")


class PotentialSection(Section):
    set: PathText = "AgCo-orleans"
    n_r: int = Field(2000, ge=500, le=20_000)
    n_rho: int = Field(50_000, ge=50_000)
    rho_max_eV2: Positive = 300.0  # docs/physics.md §1: 12 neighbours at 0.85 r0 give at most 133 eV²
