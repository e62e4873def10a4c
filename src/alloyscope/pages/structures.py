"""The page on structures: counts, chemical order, failures, surfaces, and pictures of typical particles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from alloyscope.campaign.provenance import Stopwatch
from alloyscope.contracts import OWN
from alloyscope.errors import StoreError
from alloyscope.figures import structures as figures
from alloyscope.figures.style import WORDS
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.pages.page import embed, p_value, protocol_looks, render
from alloyscope.pages.structures_pictures import picture_section
from alloyscope.progress import log
from alloyscope.store.atomic import write_text
from alloyscope.store.tables import read_table
from alloyscope.structure import statistics
from alloyscope.structure.settings import LabelsSection
from alloyscope.structure.statistics import ORDERS, Deviation, RankTest, Share

PLURAL = {name: protocol.plural for name, protocol in PROTOCOLS.items()} | {OWN: "own structures"}
D_COM = Markup("<i>d</i><sub>com</sub> / <i>R</i><sub>g</sub>")
WORDS_OF_LABEL = {"order_protocol": "protocol", "order_eta": "η", "order_d_com": D_COM, "order_enclosure": "enclosure"}
# Names of columns of structures.parquet on the page; {first} and {second} are the species.
DRAWN = {"fraction_first": "Fraction of {first} atoms", "n_atoms": "Atoms per particle"}
SHORT = {"fraction_first": "composition", "n_atoms": "size"}
TIMES = {"cool_ps": "Cooling time (ps)", "gather_ps": "Time before cooling (ps)"}
SURFACE = {
    "surface_fraction_first": "{first} atoms that lie at the surface",
    "surface_fraction_second": "{second} atoms that lie at the surface",
    "coverage": "Coverage: {first} share of the surface",
    "warren_cowley_alpha": "Warren–Cowley α",
    "mixing_sigma": "Mixing σ",
    "radial_segregation_A": "{first} further out than {second} (Å)",
}
DESCRIPTORS = {
    "n_atoms": "atoms",
    "fraction_first": "{first} fraction",
    "R_g_A": Markup("radius of gyration <i>R</i><sub>g</sub> (Å)"),
    "eta": "chemical order η",
    "d_com_over_Rg": D_COM,
    "radial_segregation_A": "{first} further out than {second} by (Å)",
    "surface_fraction_first": "{first} atoms that lie at the surface",
    "surface_fraction_second": "{second} atoms that lie at the surface",
    "coverage": "{first} share of the surface atoms",
    "mixing_sigma": "mixing σ (1 separated, 0 mixed)",
    "warren_cowley_alpha": "Warren–Cowley α (1 separated, 0 random)",
    "warren_cowley_bond_ends": "α with shares of bond ends",
    "seen_first": "{first} seen from outside, share of directions",
    "sidedness": "sidedness (1 on two sides, 0 all around)",
    "cut_off_first": "{first} atoms without a way to the surface",
    "cut_off_second": "{second} atoms without a way to the surface",
    "cna_fcc": "fcc atoms, relaxed",
    "cna_hcp": "hcp atoms, relaxed",
    "cna_icosahedral": "icosahedral atoms, relaxed",
    "cna_other": "other inner atoms, relaxed",
    "cna_surface": "surface atoms, relaxed",
}
MOST_REASONS = 12
LOOKS = protocol_looks()


@dataclass(frozen=True)
class ParticleTable:
    """The table of particles.

    Attributes:
        table: structures.parquet and the column `gather_ps`, the time that was drawn for the segment before cooling.
        labels: Settings of the labels.
    """

    table: pd.DataFrame
    labels: LabelsSection

    @classmethod
    def read(cls, path: Path, labels: LabelsSection) -> "ParticleTable":
        """Read the table.

        Raises:
            StoreError: the table is missing, damaged, or holds no valid particle.
        """
        table = read_table(path)
        if not table["valid"].any():
            raise StoreError(
                f"{path}: none of its {len(table)} particles is valid; alloyscope status {path.parents[1]} tells why"
            )
        drawn = {name for protocol in PROTOCOLS.values() for name in protocol.drawn} - {"cool_ps"}
        before = table[sorted(drawn & set(table))].bfill(axis=1).iloc[:, 0]
        return cls(table.assign(gather_ps=before), labels)

    @property
    def valid(self) -> pd.DataFrame:
        return self.table[self.table["valid"]]

    @property
    def species(self) -> tuple[str, str]:
        row = self.table.iloc[0]
        return str(row["species_first"]), str(row["species_second"])

    def name(self, words: str) -> str:
        first, second = self.species
        return words.format(first=first, second=second)

    def groups(self, column: str, order: Sequence[str], table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the parts of the table by the values of a column, in the order of `order`, other values last."""
        found = set(table[column].dropna())
        for name in [*(name for name in order if name in found), *sorted(found - set(order))]:
            yield name, table[table[column] == name]


def headline(campaign: ParticleTable) -> dict[str, Any]:
    table, valid = campaign.table, campaign.valid
    labelled = valid["ordering"].dropna()
    reasons = list(statistics.failures(table, alike=True).items())
    return {
        "particles": len(table),
        "valid": Share(len(valid), len(table)),
        "orders": {order: Share(int((labelled == order).sum()), len(labelled)) for order in ORDERS},
        "unlabelled": len(valid) - len(labelled),
        "protocols": {name: len(group) for name, group in campaign.groups("protocol", list(LOOKS), table)},
        "sizes": (int(valid["n_atoms"].min()), int(valid["n_atoms"].max())),
        "fractions": (float(valid["fraction_first"].min()), float(valid["fraction_first"].max())),
        "core_hours": float(table["seconds"].sum()) / 3600,
        "retried": Share(int((table["attempts"] > 1).sum()), len(table)),
        "failed": Share(int((~table["valid"]).sum()), len(table)),
        "reasons": reasons[:MOST_REASONS],
        "other_reasons": sum(count for _, count in reasons[MOST_REASONS:]),
    }


def together(bins: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the tables of bins; the result is empty when there is no bin."""
    return pd.concat([part for part in bins if len(part)] or bins[:1])


def order_section(campaign: ParticleTable) -> dict[str, Any]:
    """Share of core-shell particles and mean d_com / R_g against the drawn parameters."""
    hit = (campaign.table["ordering"] == "core_shell").astype(float).where(campaign.table["ordering"].notna())
    limit = campaign.labels.d_com_over_Rg_limit
    needed = ["protocol", "d_com_over_Rg", *DRAWN, *TIMES]
    table = campaign.table[needed].assign(core_shell=hit)[campaign.table["valid"]]

    def figure(across: Mapping[str, str], alt: str) -> Markup | None:
        bins = []
        for name, group in campaign.groups("protocol", list(LOOKS), table):
            for column in across:
                place = {"across": column, "group": name}
                bins.append(statistics.binned_share(group[column], group["core_shell"]).assign(up="share", **place))
                bins.append(statistics.binned_mean(group[column], group["d_com_over_Rg"]).assign(up="mean", **place))
        found = together(bins)
        if found.empty:
            return None
        up = {"share": "Core-shell, %", "mean": "Mean $d_{com}$ / $R_g$"}
        names = {column: campaign.name(words) for column, words in across.items()}
        return embed(figures.bands(found, names, up, LOOKS, {"mean": limit}), alt)

    return {
        "drawn": figure(DRAWN, "Core-shell share and mean distance of the centres against composition and size"),
        "times": figure(TIMES, "Core-shell share and mean distance of the centres against the times of the protocol"),
    }


def made_by_md(campaign: ParticleTable) -> list[str]:
    """Protocols of molecular dynamics in the table; all draw size and composition from the same distribution."""
    return [name for name, _ in campaign.groups("protocol", list(LOOKS), campaign.table) if name in PROTOCOLS]


def aims(campaign: ParticleTable) -> str:
    """The chemical order that each protocol aims at, in words."""
    aimed = {name: PROTOCOLS[name].aims_at for name in made_by_md(campaign)}
    return ", ".join(f"{WORDS[order]} for a {PROTOCOLS[name].words}" for name, order in aimed.items() if order)


def survival_section(campaign: ParticleTable) -> dict[str, Any]:
    """Retries and failures, and tests whether they depend on the size and composition of the particles."""
    # The size of a failed structure of the user's own is unknown.
    table = campaign.table[["valid", "protocol", "attempts", *DRAWN]]
    table = table.assign(n_atoms=table["n_atoms"].where(table["n_atoms"] > 0))
    valid, rates, tests, bins = table[table["valid"]], [], [], []
    for name, group in campaign.groups("protocol", list(LOOKS), table):
        retried = group["attempts"] > 1
        rates.append(
            {
                "protocol": PLURAL.get(name, name),
                "n": len(group),
                "retried": Share(int(retried.sum()), len(group)),
                "failed": Share(int((~group["valid"]).sum()), len(group)),
            }
        )
        for column in DRAWN:
            place = {"across": column, "group": name}
            bins.append(statistics.binned_share(group[column], retried).assign(up="retried", **place))
            bins.append(statistics.binned_share(group[column], ~group["valid"]).assign(up="failed", **place))
            test = RankTest.of(group.loc[retried, column], group.loc[~retried, column])
            tests.append({"protocol": PLURAL.get(name, name), "words": SHORT[column], "test": test})
    pairs = list(combinations(made_by_md(campaign), 2))
    deviations = [
        {
            "words": SHORT[column] + (f", {PLURAL[one]} and {PLURAL[other]}" if len(pairs) > 1 else ""),
            "planned": Deviation.of(*(table.loc[table["protocol"] == name, column] for name in (one, other))),
            "left": Deviation.of(*(valid.loc[valid["protocol"] == name, column] for name in (one, other))),
        }
        for one, other in pairs
        for column in DRAWN
    ]
    tests = [row for row in tests if row["test"] is not None]
    deviations = [row for row in deviations if row["left"] is not None]
    names = {column: campaign.name(words) for column, words in DRAWN.items()}
    up = {"retried": "Retried, %", "failed": "Failed, %"}
    return {
        "rates": rates,
        "tests": tests,
        "retried_verdict": retried_verdict(tests),
        "deviations": deviations,
        "level": level_of(deviations),
        "verdict": survival_verdict(deviations),
        "figure": embed(figures.bands(together(bins), names, up, LOOKS), "Retried and failed particles"),
    }


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def level_of(tests: Sequence[Any]) -> float:
    """Significance level of a single test that gives 5 % for all tests together (Bonferroni)."""
    return 0.05 / max(1, len(tests))


def retried_verdict(tests: Sequence[Mapping[str, Any]]) -> str:
    """State in which tests retried particles differ, at 5 % for all tests together."""
    limit = level_of(tests)
    differ = [f"{row['protocol']} in {row['words']}" for row in tests if row["test"].p < limit]
    said = f"They differ among {listed(differ)}." if differ else "No difference is seen."
    return f"{said} (A p below {limit:.3g} counts, which makes 5 % for the {len(tests)} tests together.)"


def survival_verdict(deviations: Sequence[Mapping[str, Any]]) -> str:
    """State whether valid particles of two protocols differ in size or composition, at 5 % for all tests together."""
    limit = level_of(deviations)
    differ = [
        f"{row['words']} (largest difference {row['left'].largest:.3f}, p: {p_value(row['left'].p)})"
        for row in deviations
        if row["left"].p < limit
    ]
    if differ:
        return f"They do differ now, in {listed(differ)}."
    visible = max((row["left"].visible(limit) for row in deviations), default=1.0)
    if visible >= 1:
        return "The two sets are too small to show any difference."
    return f"No difference is seen; one above {visible:.3f} in the cumulative shares would have shown."


def label_section(campaign: ParticleTable) -> dict[str, Any]:
    """How often two labels disagree, in which way, and at which compositions and sizes."""
    valid, rows, bins = campaign.valid, [], []
    for pair in figures.PAIRS:
        one, other = pair.split(", ")
        counts = statistics.crossed(valid, one, other)
        differ = {way: count for way, count in counts.items() if way[0] != way[1]}
        share = Share(sum(differ.values()), sum(counts.values()))
        ways = [differ.get(way, 0) for way in (("core_shell", "janus"), ("janus", "core_shell"))]
        ways += [sum(count for way, count in differ.items() if "other" in way)]
        rows.append({"one": WORDS_OF_LABEL[one], "other": WORDS_OF_LABEL[other], "share": share, "ways": ways})
        both = valid[valid[one].notna() & valid[other].notna()]
        for column in DRAWN:
            found = statistics.binned_share(both[column], both[one] != both[other])
            bins.append(found.assign(across=column, up="share", group=pair))
    found = together(bins)
    names = {column: campaign.name(words) for column, words in DRAWN.items()}
    figure = None if found.empty else figures.bands(found, names, {"share": "Labels that disagree, %"}, figures.PAIRS)
    return {"rows": rows, "figure": figure and embed(figure, "Labels that disagree against composition and size")}


def surface_section(campaign: ParticleTable) -> dict[str, Any]:
    """Surface, mixing and common-neighbour classes of the atoms, by chemical order."""
    valid = campaign.valid
    classes = statistics.mean_by_size(valid, list(figures.CLASSES), "ordering")
    names = {column: campaign.name(words) for column, words in SURFACE.items()}
    return {
        "figure": embed(figures.descriptors_by_order(valid, names), "Surface and mixing of the particles by order"),
        "classes": None if classes.empty else embed(figures.neighbour_classes(classes), "Common-neighbour classes"),
        "unrelaxed": int(valid["cna_surface"].isna().sum()),
        "descriptors": descriptor_table(campaign),
    }


def descriptor_table(campaign: ParticleTable) -> dict[str, Any]:
    """Mean and standard deviation of every descriptor, by order and by protocol."""
    cells: dict[tuple[str, str], tuple[float, float]] = {}
    columns: dict[str, str] = {}
    valid = campaign.table.loc[campaign.table["valid"], ["valid", "ordering", "protocol", *DESCRIPTORS]]
    for by, order, words in (("ordering", ORDERS, WORDS), ("protocol", list(LOOKS), PLURAL)):
        columns |= {name: words.get(name, name) for name, _ in campaign.groups(by, order, valid[[by]])}
        for row in statistics.by_protocol(valid, list(DESCRIPTORS), by).to_dict("records"):
            cells[row["descriptor"], row[by]] = (row["mean"], row["std"])
    rows = [
        (campaign.name(words), [cells.get((column, name)) for name in columns]) for column, words in DESCRIPTORS.items()
    ]
    return {"columns": list(columns.values()), "rows": rows}


def write_page(structures: Path, labels: LabelsSection, out: Path, watch: Stopwatch) -> None:
    """Write the page.

    Args:
        structures: Table of particles; the structure files lie beside it.
        labels: Settings of the labels.
        out: Page to write.
        watch: Stopwatch of the job that writes the page.

    Raises:
        StoreError: an input is missing or damaged, or no particle is valid.
        SimulationError: LAMMPS cannot draw a picture.
    """
    campaign = ParticleTable.read(structures, labels)
    limit = labels.d_com_over_Rg_limit
    page = render(
        "statistics.html",
        name=structures.resolve().parents[1].name,
        structures=structures,
        out=out,
        species=campaign.species,
        labels=labels,
        words=WORDS,
        plural=PLURAL,
        temperature_K=float(campaign.valid["temperature_K"].mean()),
        headline=headline(campaign),
        distributions=embed(
            figures.distributions(campaign.table, limit, LOOKS),
            "Sizes, compositions and order of the particles by protocol",
        ),
        plane=embed(
            figures.order_plane(campaign.table, limit, LOOKS),
            "Chemical order against the distance of the species' centres",
        ),
        order=order_section(campaign),
        survival=survival_section(campaign),
        aims=aims(campaign),
        compared=[PLURAL[name] for name in made_by_md(campaign)],
        label=label_section(campaign),
        surface=surface_section(campaign),
        pictures=picture_section(campaign.valid, campaign.species, structures.parent),
        least_per_bin=statistics.LEAST_PER_BIN,
        own=watch.record(),
    )
    write_text(out, page)
    log(f"{out}: written, {len(page.encode()) / 1000:.0f} kB")
