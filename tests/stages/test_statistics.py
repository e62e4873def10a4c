"""The page on structures, from a table and structure files made by hand."""

import html
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from alloyscope.campaign.tables import structure_columns
from alloyscope.contracts import Structure
from alloyscope.errors import StoreError
from alloyscope.figures import rendering
from alloyscope.ids import chunk_name
from alloyscope.pages import structures, structures_pictures
from alloyscope.pages.page import embed_pixels, p_value, thousands
from alloyscope.stages import statistics
from alloyscope.store.atomic import write_text
from alloyscope.store.structures import to_text
from alloyscope.store.tables import read_table, write_table
from alloyscope.structure.settings import LabelsSection
from alloyscope.structure.statistics import Deviation, RankTest, Share
from tests.stages.campaign_folder import FAILED, configuration, structures_table
from tests.stages.page_parser import Page

LATTICE = np.argwhere(np.indices((14, 14, 14)).sum(axis=0) % 2 == 0) - 6.5


def structure(row):
    """The particle's atoms on a lattice: cobalt innermost in core-shell particles, to the right in Janus ones."""
    points = LATTICE[np.linalg.norm(LATTICE, axis=1).argsort(kind="stable")][: row["n_atoms"]]
    depth = -np.linalg.norm(points, axis=1) if row["ordering"] == "core_shell" else points[:, 0]
    points = points[depth.argsort(kind="stable")] * 2.0
    elements = ("Ag",) * row["n_first"] + ("Co",) * row["n_second"]
    return Structure(elements, points, {"particle": row["particle"], "snapshot": 0})


def write(folder, table):
    """The table and the structures of its valid particles, in chunks of the numbers that it gives."""
    write_table(folder / "structures.parquet", table, structure_columns(configuration().particles))
    for chunk, group in table[table["valid"]].groupby("chunk"):
        frames = [structure(row) for row in group.to_dict("records")]
        write_text(folder / f"chunk-{chunk_name(chunk)}.extxyz", to_text(frames))
    return folder / "structures.parquet"


def planned(**changes):
    table = structures_table(configuration(), np.random.default_rng(3))
    return table.assign(**{"chunk": table["particle"] // 10} | changes)


def make(path, labels=LabelsSection()):  # noqa: B008 - frozen
    out = path.parents[1] / "report" / "statistics.html"
    statistics.run(structures=path, labels=labels, out=out)
    return out.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Whole, with its pictures drawn."""
    path = write(tmp_path_factory.mktemp("results") / "demo" / "structures", planned())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structures_pictures, "PIXELS", 60)
        return make(path)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A folder to write to; nothing is rendered, which takes most of the time."""

    def alone(figure, alt):
        return Markup('<img alt="{}" src="data:image/svg+xml;base64,">').format(alt)

    monkeypatch.setattr(structures, "embed", alone)
    monkeypatch.setattr(structures_pictures, "embed_pixels", alone)
    monkeypatch.setattr(rendering, "render", lambda *arguments: None)
    return tmp_path / "demo" / "structures"


def text_of(page):
    body = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_page_is_self_contained_and_whole(page):
    parsed = Page(page)
    outside = [link for link in parsed.references if not link.startswith(("#", "data:image/"))]
    assert outside == ["index.html", "run.html"]
    assert not parsed.tags & {"script", "link", "iframe"}
    assert "url(" not in page
    assert {link[1:] for link in parsed.references if link.startswith("#")} == set(parsed.ids)


def test_headline_counts(page):
    text = text_of(page)
    assert "39 valid particles of 40" in text
    assert "0.04 core-hours of molecular dynamics" in text  # 40 particles of 4 s
    assert "1 needed more than one attempt, 2.5 %" in text
    assert "1 failed, 2.5 %" in text
    assert "1 … clusters &lt;after&gt; … attempts" in text
    orders = planned()["ordering"].value_counts()
    assert f"core-shell, {orders['core_shell']} particles" in text
    assert f"Janus, {orders['janus']} particles" in text


def test_typical_particles_are_shown_whole_and_cut(page):
    alts = [alt for alt in Page(page).images if alt.endswith((", whole", ", cut open"))]
    assert len(alts) == len(set(alts)) == 12
    assert [("core-shell" in alt, "cut" in alt) for alt in alts] == [(True, False), (True, True)] * 3 + [
        (False, False),
        (False, True),
    ] * 3
    table = planned().set_index("particle_id")
    for alt in alts:
        identity, words = alt.split(": ")
        assert f"{table.loc[identity, 'n_atoms']} atoms" in words
        assert f"{table.loc[identity, 'ordering']}".split("_")[0] == words.split(",")[0].split("-")[0].lower()


def test_every_figure_has_its_own_words(page):
    images = Page(page).images
    assert len(images) == len(set(images)) == 12 + 8


def test_scale_bar_is_one_nanometre(page, tmp_path):
    width = float(re.search(r'class="bar" style="width: ([\d.]+)%"', page)[1])
    path = write(tmp_path / "structures", planned())
    campaign = structures.ParticleTable.read(path, LabelsSection())
    shown = structures_pictures.scenes(structures_pictures.picked(campaign.valid), path.parent, campaign.species)
    widest_A = max(np.ptp(scene.positions_A[:, [0, 2]], axis=0).max() + 2.89 for scene in shown)
    assert width == pytest.approx(100 * 10 / (1.03 * widest_A), abs=0.01)


def test_labels_that_disagree_are_counted_both_ways(page):
    """order_eta says core-shell everywhere, the other three what the protocol aims at."""
    janus = (planned()["order_protocol"] == "janus").sum()
    text = text_of(page)
    assert re.search(rf"protocol and η {janus} of 39 [\d.]+ % [\d.]+ to [\d.]+ % 0 {janus} 0 ", text)
    assert re.search(r"protocol and d com / R g 0 of 39 0\.0 % 0\.0 to [\d.]+ % 0 0 0 ", text)
    assert re.search(rf"η and d com / R g {janus} of 39 [\d.]+ % [\d.]+ to [\d.]+ % {janus} 0 0 ", text)


def test_particles_of_neither_order_are_counted_and_shown(quick):
    """Ten of them by enclosure; the centres call five of these core-shell and five Janus."""
    table = planned()
    valid = table.index[table["valid"]]
    table.loc[valid[:10], ["order_enclosure", "ordering"]] = "other"
    table.loc[valid[:10], "order_d_com"] = ["core_shell", "janus"] * 5
    page = make(write(quick, table))
    text = text_of(page)
    assert re.search(r"25\.6 % neither, 10 particles", text)
    assert re.search(r"d com / R g and enclosure 10 of 39 25\.6 % [\d.]+ to [\d.]+ % 0 0 10 ", text)
    assert sum(": neither, " in alt and alt.endswith(", whole") for alt in Page(page).images) == 3


def test_line_that_makes_the_page_again(page):
    assert re.search(r"<pre>python -m alloyscope statistics --structures \S+structures.parquet --labels ", page)
    assert "&#34;ordering&#34;:&#34;enclosure&#34;" in page


def test_that_line_is_quoted_for_a_shell(quick):
    path = write(quick.parents[1] / "$(touch owned)" / "structures", planned())
    line = re.search("<pre>(python .*?)</pre>", make(path))
    assert line
    words = shlex.split(html.unescape(line[1]))
    assert words[4:6] == ["--structures", str(path)]
    assert words[words.index("--labels") + 1] == LabelsSection().as_json()


def test_eight_particles_of_one_protocol_and_order(quick):
    table = planned()
    text = make(write(quick, table[table["ordering"] == "janus"][:8]))
    assert "8 valid particles of 8" in text_of(text)
    assert "There are not two protocols of molecular dynamics to compare" in text
    assert "either no particle was retried, or all were" in text
    assert sum(alt.endswith("whole") for alt in Page(text).images) == 3


def test_two_particles(quick):
    table = planned()
    text = make(write(quick, table[table["valid"]].groupby("ordering").head(1)))
    assert "2 valid particles of 2" in text_of(text)
    assert sum(alt.endswith("whole") for alt in Page(text).images) == 2


def test_structures_of_the_users_own(quick):
    """They have neither protocol times nor a label by protocol, and cost nothing; one that failed has no known size."""
    unknown = dict.fromkeys(("condense_ps", "contact_ps", "cool_ps", "temperature_K", "potential_energy_eV"), np.nan)
    table = planned(protocol="file", seconds=0.0, **unknown)
    table.loc[table["particle"] == FAILED, ["n_atoms", "n_first", "n_second", "fraction_first"]] = (0, 0, 0, np.nan)
    table["order_protocol"] = pd.array([None] * len(table), dtype="string")
    page = make(write(quick, table))
    text = text_of(page)
    assert "40 own structures" in text
    assert "core-hours" not in text
    assert not re.search(r"\bnan\b", text)
    assert "against the times" not in "".join(Page(page).images)
    assert re.search(r"protocol and η 0 of 0 – – 0 0 0 ", text)


def test_pure_particles_have_no_order(quick):
    nothing = pd.array([None] * 40, dtype="string")
    labels = dict.fromkeys(("ordering", "order_eta", "order_d_com", "order_enclosure"), nothing)
    lacking = dict.fromkeys(("eta", "d_com_over_Rg"), np.nan)
    page = make(write(quick, planned(**labels, **lacking)))
    assert "39 valid particles have no label" in text_of(page)
    assert "particles" not in Page(page).ids


def test_particles_that_did_not_relax_are_counted(quick):
    table = planned()
    table.loc[table["particle"].isin([1, 2]), [name for name in table if name.startswith("cna_")]] = np.nan
    assert "2 valid particles did not relax and are left out" in text_of(make(write(quick, table)))


def test_no_valid_particle(quick):
    table = planned()
    path = write(quick, table[table["particle"] == FAILED])
    with pytest.raises(StoreError, match=r"none of its 1 particles is valid; alloyscope status .*demo tells why"):
        make(path)


def test_missing_structure_file_is_named(quick):
    path = write(quick, planned(chunk=7))
    (quick / "chunk-000007.extxyz").unlink()
    with pytest.raises(StoreError, match=r"chunk-000007.extxyz: cannot be read"):
        make(path)
    assert not (quick.parent / "report" / "statistics.html").exists()


def test_structure_file_that_lacks_the_particle_is_named(quick):
    path = write(quick, planned(chunk=7))
    write_text(quick / "chunk-000007.extxyz", "")
    with pytest.raises(StoreError, match=r"chunk-000007.extxyz: lacks particle \d+, which structures.parquet lists"):
        make(path)


def test_missing_table_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"structures.parquet: missing"):
        make(tmp_path / "demo" / "structures" / "structures.parquet")


def test_retried_particles_that_are_larger_are_said_to_differ(quick):
    """Of 19 gas quenches or so, the largest five were retried: of all the ways to choose, hardly any is as extreme."""
    table = planned(attempts=1)
    quenches = table[table["protocol"] == "gas_quench"]
    table.loc[quenches["n_atoms"].nlargest(5).index, "attempts"] = 2
    campaign = structures.ParticleTable.read(write(quick, table), LabelsSection())
    section = structures.survival_section(campaign)
    assert section["retried_verdict"].startswith("They differ among gas quenches in size. (A p below 0.025 counts")
    (row,) = [row for row in section["rates"] if row["protocol"] == "gas quenches"]
    assert row["retried"] == Share(5, len(quenches))
    assert section["tests"][1]["test"].superiority == 1.0


def test_verdicts():
    near, far = Deviation((100, 100), 0.1, 5.0, 0.7), Deviation((100, 100), 0.4, 5.0, 1e-7)
    rows = [{"words": "composition", "left": near}, {"words": "size", "left": far}]
    said = "They do differ now, in size (largest difference 0.400, p: < 0.001)."
    assert structures.survival_verdict(rows) == said
    # at 2.5 %: 1.4802 √(2/100)
    assert "No difference is seen; one above 0.209" in structures.survival_verdict([rows[0]] * 2)
    few = {"words": "size", "left": Deviation((2, 3), 0.4, 5.0, 0.7)}
    assert structures.survival_verdict([few]) == "The two sets are too small to show any difference."
    test = {"protocol": "droplet pairs", "test": RankTest((9, 9), (1.0, 2.0), 0.9, 1e-4)}
    assert "among droplet pairs in size, droplet pairs in x and droplet pairs in y." in structures.retried_verdict(
        [test | {"words": words} for words in ("size", "x", "y")]
    )


def test_numbers_in_words():
    assert [thousands(n) for n in (0, 9999, 10_000, 1_234_567)] == ["0", "9999", "10\u202f000", "1\u202f234\u202f567"]
    assert [p_value(p) for p in (0.0002, 0.0123, 0.0949, 0.095, 1.0)] == ["< 0.001", "0.012", "0.095", "0.10", "1.00"]


def test_alt_texts_are_escaped():
    image = embed_pixels(np.full((4, 4, 3), 255, np.uint8), '1 < 2 "quoted"')
    assert image.startswith('<img alt="1 &lt; 2 &quot;quoted&quot;" src="data:image/jpeg;base64,')


def test_table_of_the_page_has_the_columns_it_needs(quick):
    """What the step reads is what the step `structures` declares."""
    table = read_table(write(quick, planned()))
    assert set(table) == set(structure_columns(configuration().particles))
    assert set(structures.DESCRIPTORS) | set(structures_pictures.TYPICAL) <= set(
        structure_columns(configuration().particles)
    )
