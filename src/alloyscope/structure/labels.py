"""The chemical order of particles by every criterion."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from alloyscope.structure import enclosure, order
from alloyscope.structure.settings import LabelsSection

if TYPE_CHECKING:
    import pandas as pd


def orders(
    table: "pd.DataFrame", protocols: Iterable[str], labels: LabelsSection, aims: order.Aims
) -> dict[str, order.Labels]:
    """`order_<criterion>` for every criterion, shape (n,) each.

    Args:
        table: Columns `eta`, `d_com_over_Rg` and those of `enclosure.NUMBERS`, one row per particle.
        protocols: Protocol of each particle.
        labels: Limit of the criterion `d_com`.
        aims: Order that each protocol aims at.
    """
    numbers = {name: table[name].to_numpy(np.float64) for name in ("eta", "d_com_over_Rg", *enclosure.NUMBERS)}
    return {
        "order_protocol": order.label_by_protocol(protocols, aims),
        "order_eta": order.label_by_eta(numbers["eta"]),
        "order_d_com": order.label_by_centres(numbers["d_com_over_Rg"], labels.d_com_over_Rg_limit),
        "order_enclosure": enclosure.label_by_enclosure(numbers),
    }
