"""What a recorded command makes, as its own parser, config files and source say, against what its entry claims."""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import yaml
from ase import Atoms
from snakemake.cli import get_argument_parser, parse_config

from alloyscope.campaign.chunks import imaging_capacity, n_chunks
from alloyscope.config.model import Config
from alloyscope.config.read import load
from alloyscope.errors import AlloyscopeError
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.potential.sets import PotentialSection, packaged_sets
from alloyscope.stages import potential
from alloyscope.store.atomic import write_json
from benchmarks.record.campaign import RecordedCampaign, measures
from benchmarks.record.files import validation
from benchmarks.record.page import Result

ROOT = Path(__file__).resolve().parents[2]
Entry = Mapping[str, Any]


class Untrue(Exception):
    """A command does not make what its entry claims."""


def check(name: str, entry: Entry) -> None:
    """Hold an entry of docs/results.json against its command.

    Raises:
        Untrue: says why the command does not make this entry.
    """
    *before, last = (tuple(shlex.split(line)) for line in entry["command"].split(" && "))
    campaigns = [campaign for words in before if (campaign := campaign_of(words)) is not None]
    match last:
        case ["alloyscope", "potential", *words]:
            check_potential(name, entry, words)
        case ["python", script, *words]:
            check_benchmark(name, entry, Benchmark.of(script, tuple(words)), campaigns)
        case ["make", ".venv/.installed-package"]:
            made_by_make(last)
            require(name == "setup_s", "the environment has the result setup_s alone")
        case _ if campaign := campaign_of(last):
            check_campaign(name, entry, campaign)
        case _:
            raise Untrue(f"nobody knows what {shlex.join(last)} makes")


def require(holds: object, fault: str) -> None:
    if not holds:
        raise Untrue(fault)


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What a parser makes of words; its refusal is a fault."""
    with redirect_stderr(said := StringIO()):
        try:
            return parser.parse_args(words)
        except SystemExit:
            raise Untrue(f"refused: {said.getvalue().strip().splitlines()[-1]}") from None
        except AlloyscopeError as error:
            raise Untrue(f"refused: {error}") from None


def made_by_make(words: Sequence[str]) -> list[list[str]]:
    """The commands that make would run."""
    answer = subprocess.run([*words, "--dry-run", "--always-make"], cwd=ROOT, capture_output=True, text=True)
    require(answer.returncode == 0, answer.stderr.strip())
    return [line.split() for line in answer.stdout.splitlines()]


@cache
def campaign_of(words: tuple[str, ...]) -> Config | None:
    """Config of the campaign that a command runs, None if it runs none."""
    match words:
        case ["make", *_]:
            lines = [line for line in made_by_make(words) if line and line[0].endswith("/snakemake")]
            return campaign_of(("snakemake", *lines[0][1:])) if lines else None
        case ["snakemake", *options]:
            arguments = parsed(get_argument_parser(), options)
            for profile in arguments.profile:
                require((ROOT / profile / "config.yaml").exists(), f"there is no profile {profile}")
            files = [ROOT / path for path in ("config.yaml", *(arguments.configfile or []))]
            with NamedTemporaryFile("w") as over:
                yaml.safe_dump(parse_config(arguments.config), over)
                over.flush()
                try:
                    return load(*files, Path(over.name))
                except AlloyscopeError as error:
                    raise Untrue(str(error)) from None
    return None


def check_campaign(name: str, entry: Entry, config: Config) -> None:
    known = measures(RecordedCampaign(config.folder, config))
    require(name in known, f"campaign {config.campaign.name} has no result of this name")
    require(entry["artefact"].startswith(f"{config.folder}/"), f"the artefact is none of {config.folder}/")
    if name.endswith("_particles"):
        require(entry["value"] == config.campaign.n_particles, f"{config.campaign.n_particles} particles are planned")
    capacity = {"structures": config.md.particles_per_chunk, "hrtem": imaging_capacity(config)}
    if found := re.search(r"/(structures|hrtem)/chunk-(\d{6})", entry["artefact"]):
        last = n_chunks(config.campaign.n_particles, capacity[found[1]]) - 1
        require(int(found[2]) == last, f"the last chunk of {found[1]} is {last}")
    if found := re.search(r"/seed-(\d+)/", entry["artefact"]):
        require(int(found[1]) in config.training.seeds, f"the seeds are {config.training.seeds}")


def check_potential(name: str, entry: Entry, words: Sequence[str]) -> None:
    """The set makes such a check, and the value that it compares with is what the set says today."""
    parser = argparse.ArgumentParser()
    potential.add_arguments(parser)
    arguments = parsed(parser, words)
    settings = arguments.potential
    if arguments.set is not None:
        settings = settings.model_copy(update={"set": arguments.set})
    known = checks_of(settings)
    require(name in known, f"a validation of {settings.set} has no check of this name")
    require(entry["artefact"].startswith(f"{arguments.out}/validation.json "), f"the command writes to {arguments.out}")
    check = known[name]
    said = {"tolerance": check.tolerance, "unit": check.unit, "note": check.note}
    if not check.note.startswith("formula"):
        said["reference"] = check.reference
    require(said.items() <= entry.items(), f"the set says {said}")


@cache
def checks_of(settings: PotentialSection) -> dict[str, Result]:
    """The checks of a set, as they are recorded; no energy is computed, so their values mean nothing."""

    def nothing(atoms: Atoms, relax: bool) -> tuple[float, np.ndarray]:
        return 0.0, np.zeros((len(atoms), 3))

    empty = dict.fromkeys(("ThroughLammps", "FromFormula"), Mock(return_value=nothing))
    try:
        with patch.multiple(potential, load_lammps=Mock(), **empty):
            checks, _ = potential.validate("", settings)
    except AlloyscopeError as error:
        raise Untrue(str(error)) from None
    content = {"checks": [asdict(check) for check in checks], "settings": settings.model_dump(mode="json")}
    content |= {"set": {"name": settings.set}, "provenance": {"finished": "", "commit": None}}
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "validation.json", content)
        return validation(Path(folder))


@dataclass(frozen=True, eq=False)  # so that one can be remembered by
class Benchmark:
    """A benchmark's module and the words that it is called with.

    Attributes:
        module: As imported.
        area: Name of the file that it writes.
        parser, arguments: Its own, and what it makes of the words.
    """

    module: Any
    area: str
    parser: argparse.ArgumentParser
    arguments: argparse.Namespace

    @classmethod
    @cache
    def of(cls, script: str, words: tuple[str, ...]) -> "Benchmark":
        path = ROOT / script
        require(path.parent == ROOT / "benchmarks" and path.exists(), f"there is no benchmark {script}")
        module = importlib.import_module(path.stem)
        parser = parser_of(module)
        arguments = parsed(parser, words)
        if path.stem != "device":
            return cls(module, path.stem, parser, arguments)
        require(len(arguments.only or ()) == 1, "benchmarks/device.py writes one file for each step: --only names it")
        return cls(importlib.import_module("device_steps"), f"device/{arguments.only[0]}", parser, arguments)

    @property
    def values(self) -> list[Any]:
        return [value for given in vars(self.arguments).values() for value in flat(given)]

    @cache  # noqa: B019 - a few, as long as the tests run
    def vocabulary(self) -> set[str]:
        """Words of which a name may be made: constants of the source, and the arguments in place of defaults."""
        words = {word for path in sources(Path(self.module.__file__)) for word in constants(path)}
        held = {key: value for key, value in vars(self.module).items() if not key.startswith("__")}
        words |= set(map(str, flat(held)))
        words |= {*packaged_sets(), *PROTOCOLS}
        words = words - self.replaced() | {form for value in self.values for form in forms(value)}
        return {word for word in words if re.fullmatch(r"[\w\[\]-]+", word)}

    def numbers(self) -> set[str]:
        """Numbers of this benchmark's own source, and the arguments in place of defaults."""
        own = {word for word in constants(Path(self.module.__file__)) if word.isdecimal()}
        return own - self.replaced() | set(map(str, self.values))

    def replaced(self) -> set[str]:
        """Defaults that the arguments replace."""
        given = vars(self.arguments)
        defaults = [a.default for a in self.parser._actions if given.get(a.dest, a.default) != a.default]
        return {form for value in flat(defaults) for form in forms(value)}

    def configs(self) -> list[Config]:
        """Configs that the module holds or reads."""
        held = [value for value in vars(self.module).values() if isinstance(value, Config)]
        file = getattr(self.arguments, "config", None)
        require(file is None or (ROOT / file).exists(), f"there is no config {file}")
        return held if file is None else [*held, load(ROOT / file)]


@cache
def parser_of(module: Any) -> argparse.ArgumentParser:
    """The parser that a benchmark makes, which is stopped when it begins to parse."""
    made: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        made.append(parser)
        raise KeyboardInterrupt

    with patch.object(argparse.ArgumentParser, "parse_args", stop), patch.object(sys, "argv", ["benchmark"]):
        try:
            module.main()
        except KeyboardInterrupt:
            return made[0]
    raise Untrue(f"{module.__name__} parses no command line")


def check_benchmark(name: str, entry: Entry, benchmark: Benchmark, campaigns: Sequence[Config]) -> None:
    require(
        entry["artefact"].startswith(f"results/bench/{benchmark.area}.json "),
        f"the command writes results/bench/{benchmark.area}.json",
    )
    note = entry.get("note", "")
    words = benchmark.vocabulary() | set(re.findall(r"\d+", note))
    made = any(names(path, name, words) for path in sources(Path(benchmark.module.__file__)))
    require(made, "the benchmark makes no figure of this name")
    configs = [*benchmark.configs(), *campaigns]
    source = getattr(benchmark.arguments, "folder", None)
    if source is not None:
        require(source in [campaign.folder for campaign in campaigns], f"no command before it makes {source}")
    planned = {config.campaign.n_particles for config in configs}
    known = set(map(str, planned)) | benchmark.numbers()
    claimed = re.findall(r"(?<!from )\b(\d+) particles", note)
    require(set(claimed) <= known, f"{', '.join(sorted(set(claimed) - known))} particles are planned nowhere")
    if name.endswith("_particles"):
        require(entry["value"] in benchmark.values, f"{entry['value']:g} particles are none of the arguments")
    for count in re.findall(r"from (\d+) particles", note):
        require(int(count) in {campaign.campaign.n_particles for campaign in campaigns}, f"no campaign plans {count}")
    for low, high in re.findall(r"(\d+)–(\d+) atoms", note):
        inside = [c for c in configs if c.particles.n_atoms[0] <= int(low) <= int(high) <= c.particles.n_atoms[1]]
        require(inside, f"no config plans particles of {low} to {high} atoms")


def flat(value: Any) -> Iterator[Any]:
    """Words and numbers in nested lists and mappings."""
    if isinstance(value, str | int | float | Path):
        yield value
    elif isinstance(value, Mapping):
        yield from flat([*value, *value.values()])
    elif isinstance(value, list | tuple):
        yield from (part for member in value for part in flat(member))


def forms(value: Any) -> set[str]:
    """How a value stands in a name: 200000 also as 200k."""
    return {str(value), re.sub("000$", "k", str(value)), re.sub("000000$", "M", str(value))}


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def sources(path: Path) -> set[Path]:
    """A benchmark and the benchmarks that it imports."""
    imported = {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes(path) if isinstance(node, ast.ImportFrom)}
    found = {path.parent / f"{module}.py" for module in imported if (path.parent / f"{module}.py").exists()}
    return {path}.union(*(sources(other) for other in found))


def constants(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int) and " " not in str(node.value):
            yield str(node.value)


@cache
def keys(path: Path) -> list[ast.expr]:
    """Keys of the mappings in a source."""
    found: list[ast.expr] = []
    for node in nodes(path):
        match node:
            case ast.Dict(keys=several):
                found += [key for key in several if key is not None]
            case ast.DictComp(key=key) | ast.Assign(targets=[ast.Subscript(slice=key)]):
                found.append(key)
    return found


def names(path: Path, name: str, words: set[str]) -> bool:
    """Whether the source has a key of this name; the blanks of an f-string are filled with words, joined by _."""
    word = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    plain = f"_?(?:{word})(?:_(?:{word}))*"
    strings = [node for node in nodes(path) if isinstance(node, ast.JoinedStr)]
    inner = [template(node, plain) for node in strings if re.search(template(node, ".*"), name)]
    blank = f"(?:{'|'.join([*inner, plain])})?"
    return any(
        re.fullmatch(template(key, ".*"), name) and re.fullmatch(template(key, blank), name) for key in keys(path)
    )


def template(node: ast.AST, blank: str) -> str:
    """Pattern of a string or an f-string that may be a name; of anything else a pattern that nothing fits."""
    match node:
        case ast.Constant(value=str(value)):
            return re.escape(value)
        case ast.JoinedStr(values=parts):
            literal = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            if re.search(r"\w", literal) and not re.search(r"[^\w-]", literal):
                return "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else blank for p in parts)
    return "(?!)"
