"""Numbers of 0012-neither-order.md: python docs/decisions/0012-neither-order.py FILE ... (AgCo, .extxyz.gz)."""

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from alloyscope.contracts import Structure
from alloyscope.ids import rng_for
from alloyscope.md.protocols import PROTOCOLS
from alloyscope.store.structures import from_text
from alloyscope.structure import enclosure, order, statistics
from alloyscope.structure.descriptors import descriptors

SPECIES = ("Ag", "Co")
NOISE_A = 0.1  # along each axis
LIMITS = {
    "SHELL_SEEN": (0.75, 0.8, 0.9, 0.95),
    "HIDDEN": (0.15, 0.2, 0.3, 0.35),
    "APART": (0.05, 0.1, 0.2, 0.25),
    "PURE_INSIDE": (0.7, 0.9),
    "CUT_OFF": (0.02, 0.1),
    "ONE_SIDE": (0.5, 0.6, 0.8, 0.9),
    "DOPANT": (0.0, 0.02, 0.06),
}


def described(structures):
    rows = []
    for structure in structures:
        fraction = structure.elements.count(SPECIES[0]) / len(structure.elements)
        rows.append(descriptors(structure, SPECIES) | {"fraction_first": fraction, **structure.info})
    return pd.DataFrame(rows)


def labels_of(table):
    return enclosure.label_by_enclosure({name: table[name].to_numpy(dtype=float) for name in enclosure.NUMBERS})


def displaced(structures):
    for number, structure in enumerate(structures):
        moved = rng_for("displaced", number).normal(0, NOISE_A, structure.positions_A.shape)
        yield Structure(structure.elements, structure.positions_A + moved, structure.info)


def counts(table, label):
    return {
        protocol: {name: int((group[label] == name).sum()) for name in statistics.ORDERS}
        for protocol, group in table.groupby("protocol")
    }


def percent(share):
    return f"{100 * share.value:.1f} % ({100 * share.interval[0]:.1f}–{100 * share.interval[1]:.1f})"


def main(paths):
    texts = [gzip.decompress(Path(path).read_bytes()).decode() for path in paths]
    structures = [frame for text in texts for frame in from_text(text)]
    started = time.process_time()
    table = described(structures)
    print(f"{len(table)} particles, {1e3 * (time.process_time() - started) / len(table):.1f} ms of CPU each")
    table["valid"] = table["largest_cluster_fraction"] >= 0.95  # md.min_cluster_fraction
    whole = np.flatnonzero(table["valid"])
    table = table[table["valid"]].reset_index(drop=True)
    table["order_protocol"] = table["protocol"].map({name: protocol.aims_at for name, protocol in PROTOCOLS.items()})
    table["order_eta"] = order.label_by_eta(table["eta"].to_numpy())
    table["order_d_com"] = order.label_by_centres(table["d_com_over_Rg"].to_numpy(), 0.5)
    table["order_enclosure"] = labels_of(table)
    print(f"{len(table)} in one cluster: {counts(table, 'order_enclosure')}")
    either = table[table["order_enclosure"] != "other"]
    for name in ("order_enclosure", "order_d_com", "order_eta"):
        print(f"{name}: agrees with the protocol {percent(statistics.agreement(table, name))},", end=" ")
        print(f"of the {len(either)} with an order {percent(statistics.agreement(either, name))}")
    for name in ("order_d_com", "order_eta"):
        print(pd.crosstab(table["order_enclosure"], table[name]).to_string())
    quenched = table[(table["protocol"] == "gas_quench") & (table["order_enclosure"] == "other")]
    few = quenched["seen_first"] < enclosure.SHELL_SEEN
    print(f"of {len(quenched)} gas quenches of neither order silver is seen in less than 85 % in {few.sum()};", end=" ")
    on_top = few & (quenched["surface_fraction_first"] >= 0.95)
    print(f"of these, 95 % of silver lies at the surface in {on_top.sum()}")
    share = pd.cut(table["fraction_first"], [0, 0.2, 0.3, 0.4, 0.5, 1])
    print(pd.crosstab(share, [table["protocol"], table["order_enclosure"]]).to_string())
    print(table.groupby("protocol")[["seen_first", "sidedness", "warren_cowley_bond_ends"]].describe().T.to_string())
    for name, values in LIMITS.items():
        kept = getattr(enclosure, name)
        for value in values:
            setattr(enclosure, name, value)
            print(f"{name} {value} (not {kept}): {counts(table.assign(label=labels_of(table)), 'label')}")
        setattr(enclosure, name, kept)
    again = labels_of(described(displaced([structures[place] for place in whole])))
    print(f"labels that change when atoms move by {NOISE_A} Å along each axis: ", end="")
    print(percent(statistics.Share(int((again != table["order_enclosure"]).sum()), len(table))))


if __name__ == "__main__":
    main(sys.argv[1:])
