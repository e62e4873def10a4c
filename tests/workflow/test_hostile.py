"""Names that a shell would run, in a real campaign: they stay names. What steps refuse: test_security."""

import json
import shutil
from collections.abc import Callable

import pytest

from tests.workflow.workplace import MINIMAL, Workplace

pytestmark = pytest.mark.xdist_group("workflow")

PLACE = "re s;touch owned1;$(touch owned2)'`touch owned3`&|<>#*"
OWN = ("own $(touch owned4)/a;touch owned5'.extxyz", "own $(touch owned4)/$IFS`touch owned6`\\.extxyz")


@pytest.fixture
def place(copy: Callable[[], Workplace]) -> Workplace:
    """The structures and the potential of the minimal campaign, under names that a shell would run."""
    made = copy()
    minimal, hostile = made.path / "results" / "minimal", made.path / PLACE / "hostile"
    shutil.copytree(minimal / "potential", hostile / "potential")
    for chunk, name in enumerate(OWN):
        (made.path / name).parent.mkdir(exist_ok=True)
        shutil.copy(minimal / "structures" / f"chunk-00000{chunk}.extxyz", made.path / name)
    return made


def overlay(place: Workplace, text: str) -> tuple[str, ...]:
    (place.path / "hostile.yaml").write_text(text)
    return (*MINIMAL, "hostile.yaml")


def test_names_never_become_commands(place: Workplace) -> None:
    """Chunks, their tables and the plan are made for real; every other rule's command line is made and not run."""
    campaign = {"name": "hostile", "results": PLACE}
    config = overlay(place, json.dumps({"campaign": campaign, "particles": {"source": "files", "files": OWN}}))
    targets = [f"{PLACE}/hostile/{name}" for name in ("structures/structures.parquet", "plan/particles.parquet")]
    answer = place.snakemake(*config, "--", *targets)
    assert answer.code == 0, answer.text[-4000:]
    assert answer.jobs == {"files": 2, "describe": 1, "structures": 1, "plan": 1}
    rest = place.dry_run("--printshellcmds", *config)
    assert rest.code == 0, rest.text[-4000:]
    assert rest.text.count("touch owned1") > 20
    assert not list(place.path.rglob("owned*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("campaign: {name: '../../x'}\n", "campaign.name: "),
        ("campaign: {name: 'x; touch owned'}\n", "campaign.name: "),
        ('campaign: {results: "x\\ntouch owned"}\n', "campaign.results: must be a path"),
        ("campaign: {results: '{chunk}'}\n", "campaign.results: must be a path"),
        ("particles: {species: ['$(touch owned)', Co]}\n", "particles.species: $(touch owned) has no parameters"),
        ("campaign: {seed: !!python/object/apply:os.system ['touch owned']}\n", "not valid JSON or YAML"),
    ],
)
def test_hostile_config_is_refused_before_any_job(fresh: Workplace, text: str, message: str) -> None:
    answer = fresh.forked(*overlay(fresh, text))
    assert answer.code == 1
    assert message in answer.text
    assert not (fresh.path / "results").exists()
    assert not list(fresh.path.rglob("owned*"))
