"""The page "the run" of a campaign folder made by hand."""

import html
import re
from dataclasses import replace

import pytest
from markupsafe import Markup

from alloyscope import cli
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.config.read import parse
from alloyscope.errors import StoreError
from alloyscope.pages import run
from alloyscope.store.atomic import write_json
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from tests.stages.campaign_folder import benchmark
from tests.stages.page_parser import Page

CONFIG = parse(
    {
        "campaign": {"name": "demo", "n_particles": 10},
        "md": {"particles_per_chunk": 4},
        "imaging": {"md_chunks_per_chunk": 5},
    }
)


def manifest(stage, chunk, slots, core_s=30.0, **changes):
    record = Stopwatch(stage).record() | {"wall_s": 50.0, "core_s": core_s, "peak_memory_MB": 100.0} | changes
    return Manifest(stage, chunk, "d" * 16, tuple(slots), {}, {"outside_field": 1}, record)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The figure is made but not rendered, which takes most of the time."""
    monkeypatch.setattr(run, "embed", lambda figure, alt: Markup('<img alt="{}" src="data:image/png;,">').format(alt))


@pytest.fixture
def folder(tmp_path):
    """Two md chunks of three: the first with 4 threads, the second resumed; one image chunk; particle 1 failed."""
    slots = [Slot(n, n != 1, "2 clusters <b>" if n == 1 else None, 3 if n == 1 else 1, 10.0) for n in range(8)]
    for chunk in range(2):
        mine = slots[4 * chunk : 4 * chunk + 4]
        made = manifest("md", chunk, mine, core_s=320.0 if chunk == 0 else 15.0)
        made.write(tmp_path / "structures" / manifest_name(chunk))
        benchmark(tmp_path, "md", 100.0 if chunk == 0 else 300.0, f"chunk-00000{chunk}", threads=4 if chunk == 0 else 1)
    off = [replace(slot, valid=False, reason="too wide") if slot.particle == 2 else slot for slot in slots]
    manifest("hrtem", 0, off).write(tmp_path / "hrtem" / manifest_name(0))
    benchmark(tmp_path, "hrtem", 60.0, "chunk-000000", extended=False)
    return tmp_path


def page_of(folder, config=CONFIG):
    out = folder / "report" / "run.html"
    run.write_page(folder, config, out, Stopwatch("report"))
    return out.read_text()


def rows(text):
    """Cells of every table row, as a reader sees them."""
    found = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [[html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall("<td.*?</td>", row)] for row in found]


def test_used_stands_beside_asked(folder):
    """Core time over 100 s of four threads and 300 s of one: 84 %. 512.5 MiB: 537 MB.

    Record and benchmark both end before the job: of one chunk the record knows more, 320 s, of the other the benchmark,
    270 s.
    """
    table = rows(page_of(folder))
    cells = ["md", "2", "3.3 min", "5.0 min", "4.0 h", "9.8 min", "4", "84 %", "537 MB", "2000 MB"]
    assert cells in table
    assert ["hrtem", "1", "60 s", "60 s", "–", "54 s", "–", "–", "537 MB", "–"] in table


def test_job_with_one_source_alone(folder):
    (folder / "benchmarks" / "hrtem" / "chunk-000000.tsv").unlink()
    benchmark(folder, "statistics", 100.0)
    table = rows(page_of(folder))
    assert ["hrtem", "1", "50 s", "50 s", "–", "30 s", "–", "–", "105 MB", "–"] in table
    assert ["statistics", "1", "100 s", "100 s", "4.0 h", "90 s", "1", "90 %", "537 MB", "2000 MB"] in table


def test_job_too_short_to_be_sampled(folder):
    path = folder / "benchmarks" / "md" / "chunk-000001.tsv"
    path.write_text(path.read_text().replace("512.5", "NA").replace("270.0", "NA"))
    cells = ["md", "2", "3.3 min", "5.0 min", "4.0 h", "5.6 min", "4", "48 %", "537 MB", "2000 MB"]
    assert cells in rows(page_of(folder))


def test_failures_count_where_they_happen(folder):
    text = page_of(folder)
    table = rows(text)
    assert ["md", "2", "3", "8", "1", "1", "1"] in table
    assert ["hrtem", "1", "1", "8", "1", "–", "–"] in table
    assert ["md", "1", "… clusters <b>"] in table
    assert ["hrtem", "1", "too wide"] in table
    assert "1 particles do not fit into the field of view" in text


def test_work_before_the_last_start_is_told(folder):
    """The ledger of the second chunk holds 40 s, its last start spent 15 s; the first chunk's spent more.

    A kill and --forcerun look alike here.
    """
    text = page_of(folder)
    assert "hold 80 s of core time" in text
    assert "1 chunks were started more than once, at least 25 s of it" in text
    assert "killed" not in text


def test_one_version_everywhere(folder):
    text = page_of(folder)
    assert "All jobs ran with the same versions." in text
    assert 'class="fault"' not in text


def test_versions_and_machines_that_differ_are_named(folder):
    record = Stopwatch("md").record()
    other = {
        "versions": record["versions"] | {"numpy": "0.9"},
        "machine": record["machine"] | {"cpu": "Z80", "cores": 1, "memory_GB": 0.6},
    }
    manifest("md", 1, [Slot(n, True) for n in range(4, 8)], **other).write(folder / "structures" / manifest_name(1))
    text = page_of(folder)
    assert "Jobs ran with different versions of numpy." in text
    assert ["numpy", "0.9", "md 1"] in rows(text)
    assert ["numpy", record["versions"]["numpy"], "md 1, hrtem 1"] in rows(text)
    assert "<br>Z80, 1 cores, 1 GB" in text


def test_gates_with_their_range(folder):
    gates = [
        {"of": name, "gate": "norm", "value": value, "low": 0.99, "high": None}
        for name, value in (("a", 0.995), ("b", 0.992))
    ]
    account = {"gates": gates, "unchecked": ["the engine, & why"], "provenance": Stopwatch("gates").record()}
    write_json(folder / "hrtem" / "gates.json", account)
    text = page_of(folder)
    assert "<li>the engine, &amp; why</li>" in text
    assert ["norm", "2", "0.992", "0.995", "≥ 0.99"] in rows(text)
    assert "Every gate has passed" in text


def test_commands_are_those_of_this_campaign(folder):
    """They are run in tests/workflow."""
    lines = re.findall("<code>(snakemake.*)</code>", page_of(folder))
    start = "snakemake --profile profiles/local --configfile results/demo/plan/config.yaml"
    assert f"{start} --forcerun md --until md" in lines
    assert lines[-1] == f"{start} --force results/demo/structures/chunk-000000.json"
    assert not any(rule in line for rule in ("files", "film") for line in lines if f"--until {rule}" in line)
    own = CONFIG.model_copy(
        update={"particles": CONFIG.particles.model_copy(update={"source": "files", "files": ("own.xyz",)})}
    )
    lines = re.findall("<code>(snakemake.*)</code>", page_of(folder, own))
    assert [line.split()[-1] for line in lines[:3]] == ["potential", "plan", "files"]


@pytest.mark.parametrize(
    ("asked", "profile"),
    [(", 'slurm_partition': 'gpu', 'gres': 'gpu:1'", "slurm"), (", 'gpu': 1", "profiles/node"), ("", "profiles/local")],
)
def test_profile_is_the_one_the_jobs_ran_with(folder, asked, profile):
    benchmark(folder, "train", 60.0, "reading-seed-0", extra=asked)
    text = page_of(folder)
    assert f"snakemake --profile {profile} --configfile" in text
    assert ("sbatch profiles/node/job.sh" in text) == (profile == "profiles/node")


def test_first_and_last_end_are_those_of_all_clocks(folder):
    """Summer time ends between the chunks; by its clock the first one ended later."""
    for chunk, finished in enumerate(("2026-10-25T02:50:00+0200", "2026-10-25T02:10:00+0100")):
        slots = [Slot(n, True) for n in range(4 * chunk, 4 * chunk + 4)]
        manifest("md", chunk, slots, finished=finished).write(folder / "structures" / manifest_name(chunk))
    assert '<td class="whole">2026-10-25 02:50<br>to 2026-10-25 02:10</td>' in page_of(folder)


def test_failed_attempts_stand_in_snakemakes_logs(folder, monkeypatch):
    """The second chunk failed twice; another campaign of the same workplace failed as well."""
    monkeypatch.chdir(folder)
    assert "Attempts of jobs that failed, by Snakemake’s logs: –." in page_of(folder)
    blocks = ["SNAKEMAKE\n"]
    chunks = [folder / "structures" / manifest_name(chunk) for chunk in range(2)]
    for number, output in enumerate([*chunks, "results/other/structures/chunk-000000.json"]):
        started = f"rule md:\n    output: {output}\n    jobid: {number}\n"
        failed = f"Error in rule md:\n    message: None\n    jobid: {number}\n    output: {output}\n"
        blocks += [(started + failed) * (2 if number else 0), started, f"Finished jobid: {number} (Rule: md)\n"]
    log = folder / ".snakemake" / "log" / "2026-01-01T000000.000000.snakemake.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(blocks[:3]))
    assert "by Snakemake’s logs: none." in page_of(folder)
    log.write_text("".join(blocks))
    assert "Attempts of jobs that failed, by Snakemake’s logs: md 2." in page_of(folder)


def test_all_chunks_are_needed_when_the_data_set_waits_for_the_first(folder):
    """Two imaging chunks of 8 particles, each of two md chunks, by the plan; half of each is there."""
    config = parse(
        {
            "campaign": {"name": "demo", "n_particles": 16},
            "md": {"particles_per_chunk": 4},
            "imaging": {"md_chunks_per_chunk": 2},
            "dataset": {"min_chunks": 1},
        }
    )
    table = rows(page_of(folder, config))
    assert ["md", "2", "4", "8", "1", "1", "1"] in table
    assert ["hrtem", "1", "2", "8", "1", "–", "–"] in table


def test_page_of_a_campaign_that_has_only_begun(tmp_path):
    text = page_of(tmp_path)
    parsed = Page(text)
    assert "No job has ended yet" in text
    assert "No chunk has ended yet" in text
    targets = {link[1:] for link in parsed.references if link.startswith("#")}
    assert targets == set(parsed.ids)


def test_page_is_self_contained(folder):
    assert not [link for link in Page(page_of(folder)).references if not link.startswith(("#", "data:image/"))]
    for name in ("index.html", "statistics.html"):
        (folder / "report" / name).touch()
    parsed = Page(page_of(folder))
    outside = [link for link in parsed.references if not link.startswith(("#", "data:image/"))]
    assert outside == ["index.html", "statistics.html"]
    assert not parsed.tags & {"script", "link", "iframe", "b"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("structures/chunk-000001.json", "truncated or not JSON"),
        ("benchmarks/md/chunk-000001.tsv", "not a table"),
        ("hrtem/gates.json", "truncated or not JSON"),
    ],
)
def test_damaged_file_is_named(folder, name, message):
    (folder / name).write_text("")
    with pytest.raises(StoreError, match=rf"{name}: {message}"):
        page_of(folder)


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        ({}, "'stage'"),
        ({"stage": "md", "wall_s": 1.0}, "'core_s'"),
        (Stopwatch("md").record() | {"machine": {}}, "'cpu'"),
    ],
)
@pytest.mark.parametrize("name", ["structures/chunk-000001.json", "hrtem/gates.json"])
def test_provenance_that_is_not_whole_is_named(folder, name, record, missing):
    if name.startswith("structures"):
        Manifest("md", 1, "d" * 16, (), {}, {}, record).write(folder / name)
    else:
        write_json(folder / name, {"gates": [], "provenance": record})
    with pytest.raises(StoreError, match=rf"{name}: holds no provenance, or not all of it \({missing}\); delete it"):
        page_of(folder)


def test_gates_without_a_list(folder):
    write_json(folder / "hrtem" / "gates.json", {"provenance": Stopwatch("gates").record()})
    with pytest.raises(StoreError, match=r"gates.json: no list of gates"):
        page_of(folder)


def test_command_line(folder, capsys):
    assert cli.main(["account", str(folder)]) == 2
    assert "no campaign here" in capsys.readouterr().err
    write_json(folder / "plan" / "campaign.json", {"config": CONFIG.model_dump(mode="json")})
    assert cli.main(["account", str(folder)]) == 0
    assert "campaign “demo”" in (folder / "report" / "run.html").read_text()
