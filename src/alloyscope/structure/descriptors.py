"""The descriptors of a particle: chemical order, shape, surface."""

from alloyscope.contracts import Structure
from alloyscope.structure import enclosure, order, shape
from alloyscope.structure.neighbours import CLASSES

DESCRIPTORS = (
    "eta",
    "d_com_A",
    "R_g_A",
    "d_com_over_Rg",
    "coverage",
    "radial_segregation_A",
    "mixing_sigma",
    "warren_cowley_alpha",
    "warren_cowley_bond_ends",
    "surface_fraction_first",
    "surface_fraction_second",
    "seen_first",
    "sidedness",
    "cut_off_first",
    "cut_off_second",
    "largest_cluster_fraction",
)


RELAXED = (*(f"cna_{name}" for name in CLASSES), "inherent_energy_eV")


def descriptors(structure: Structure, species: tuple[str, str]) -> dict[str, float]:
    """Every descriptor of a snapshot, by the names of `DESCRIPTORS`."""
    body = shape.Nanoparticle.of(structure, species)
    bonds = order.Bonds.of(body)
    outside = enclosure.Outside.of(body)
    d_com, R_g = order.centre_distance_A(body), body.radius_of_gyration_A
    return {
        "eta": order.eta(body),
        "d_com_A": d_com,
        "R_g_A": R_g,
        "d_com_over_Rg": d_com / R_g,
        "coverage": order.coverage(body),
        "radial_segregation_A": order.radial_segregation_A(body),
        "mixing_sigma": bonds.mixing,
        "warren_cowley_alpha": order.warren_cowley(body),
        "warren_cowley_bond_ends": bonds.warren_cowley,
        "surface_fraction_first": shape.surface_fraction(body, body.first),
        "surface_fraction_second": shape.surface_fraction(body, ~body.first),
        "seen_first": outside.seen_first,
        "sidedness": outside.sidedness,
        "cut_off_first": enclosure.cut_off(body, body.first),
        "cut_off_second": enclosure.cut_off(body, ~body.first),
        "largest_cluster_fraction": shape.largest_cluster_fraction(body),
    }
