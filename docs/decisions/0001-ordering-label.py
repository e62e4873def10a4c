"""Numbers of 0001-ordering-label.md: python docs/decisions/0001-ordering-label.py agco-starter.extxyz.gz."""

import gzip
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.lammps import commands
from alloyscope.lammps.start import load_lammps
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.potential.sets import PotentialSection, parameter_set
from alloyscope.potential.table import setfl
from alloyscope.store.structures import from_text
from alloyscope.structure import order, statistics
from alloyscope.structure.descriptors import descriptors
from alloyscope.structure.neighbours import Inherent, shell_cutoff_A
from alloyscope.structure.shape import Nanoparticle
from alloyscope.units import ATOMIC_MASS_u

SPECIES = ("Ag", "Co")


def by_mass(structure):
    """η and d_com / R_g with atoms weighed by their mass in the centre and in R_g."""
    positions, first = structure.positions_A, np.array(structure.elements) == SPECIES[0]
    masses = np.array([ATOMIC_MASS_u[symbol] for symbol in structure.elements])
    distances = np.linalg.norm(positions - np.average(positions, axis=0, weights=masses), axis=1)
    R_g = np.sqrt(np.average(distances**2, weights=masses))
    outer = distances > order.OUTER_SHELL * R_g
    d_com = np.linalg.norm(positions[first].mean(axis=0) - positions[~first].mean(axis=0))
    excess = sum(abs(first[region].mean() - first.mean()) for region in (outer, ~outer) if region.any())
    return {"eta_by_mass": 2 * excess - d_com / (2 * R_g), "d_com_by_mass": d_com / R_g}


def bonds(structure):
    """Coordination and length of the summed unit bond vectors of every atom."""
    body = Nanoparticle.of(structure, SPECIES)
    i, j = body.pairs.T
    units = body.positions_A[j] - body.positions_A[i]
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    sums = np.zeros_like(body.positions_A)
    np.add.at(sums, i, units)
    np.add.at(sums, j, -units)
    return np.bincount(body.pairs.ravel(), minlength=body.n_atoms), np.linalg.norm(sums, axis=1)


def relaxed_surface(structures):
    """Atoms of relaxed particles: coordination below 12, and enclosed by the bond vectors of the 300 K snapshot."""
    parameters = parameter_set("AgCo")
    cutoff_A = shell_cutoff_A([parameters.pair(one, one).r0_A for one in SPECIES])
    lmp = load_lammps()
    missing, enclosed = [], []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "AgCo.eam.fs"
        table.write_text(setfl(parameters, PotentialSection()))
        for structure in structures:
            types = np.array([SPECIES.index(symbol) for symbol in structure.elements])
            system = commands.System(SPECIES, types, structure.positions_A, table)
            missing.append(Inherent.of(lmp, system, cutoff_A).coordination < 12)
            enclosed.append(~Nanoparticle.of(structure, SPECIES).surface)
    return np.concatenate(missing), np.concatenate(enclosed)


def percent(share):
    return f"{100 * share.value:.1f} % ({100 * share.interval[0]:.1f}–{100 * share.interval[1]:.1f})"


def main(path):
    with gzip.open(path, "rt") as handle:
        structures = from_text(handle.read())
    table = pd.DataFrame([descriptors(s, SPECIES) | by_mass(s) | {"protocol": s.info["protocol"]} for s in structures])
    table["valid"] = True
    table["order_protocol"] = table["protocol"].map({name: protocol.aims_at for name, protocol in PROTOCOLS.items()})
    table["order_eta"] = order.label_by_eta(table["eta"].to_numpy())
    table["order_eta_by_mass"] = order.label_by_eta(table["eta_by_mass"].to_numpy())
    table["order_d_com"] = order.label_by_centres(table["d_com_over_Rg"].to_numpy(), 0.5)
    table["order_d_com_by_mass"] = order.label_by_centres(table["d_com_by_mass"].to_numpy(), 0.5)
    whole = table[table["largest_cluster_fraction"] >= 0.95]
    for name in ("order_eta", "order_eta_by_mass", "order_d_com", "order_d_com_by_mass"):
        shares = statistics.core_shell_share(table, name)
        print(f"{name}: core-shell among gas quenches {percent(shares['gas_quench'])},")
        print(f"  among droplet pairs {percent(shares['droplets'])},")
        print(f"  agrees with the protocol {percent(statistics.agreement(table, name))},")
        print(f"  whole particles only {percent(statistics.agreement(whole, name))}")
    print(f"η and d_com / R_g agree: {percent(statistics.agreement(table, 'order_eta', 'order_d_com'))}")
    print(statistics.by_protocol(table, ["eta", "d_com_over_Rg", "coverage"]).round(2).to_string(index=False))
    for column, limits, below in (("d_com_over_Rg", (0.3, 0.4, 0.5, 0.6, 0.7), True), ("coverage", (0.8, 0.9), False)):
        for limit in limits:
            core = (table[column] < limit) == below
            agree = (core == (table["order_protocol"] == "core_shell")).mean()
            print(f"{column} limit {limit}: agrees with the protocol in {100 * agree:.1f} %")
    broken = table[table["largest_cluster_fraction"] < 0.95]
    print(f"{len(broken)} below 0.95 in one cluster: {broken['protocol'].value_counts().to_dict()}")
    print(f"  their smallest d_com / R_g {broken['d_com_over_Rg'].min():.2f}")
    coordination, sums = (np.concatenate(values) for values in zip(*map(bonds, structures)))
    print(f"atoms with 11 neighbours whose bond vectors cancel: {100 * (sums[coordination == 11] < 1.75).mean():.1f} %")
    counts, edges = np.histogram(sums, bins=np.arange(0, 4.6, 0.25))
    print("length of summed bond vectors:", ", ".join(f"{e:g} {c}" for e, c in zip(edges, counts)))
    missing, enclosed = relaxed_surface(structures[::14])
    print(f"of {len(missing)} atoms of every 14th particle, relaxed: below 12 neighbours {100 * missing.mean():.1f} %,")
    print(f"  surface by bond vectors {100 * (~enclosed).mean():.1f} %, the two differ for", end=" ")
    print(
        f"{100 * (missing == enclosed).mean():.1f} %, {100 * (missing & enclosed).mean():.1f} % below 12 yet enclosed"
    )


if __name__ == "__main__":
    main(sys.argv[1])
