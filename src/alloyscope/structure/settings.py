"""Section of the config that chooses the criterion for the chemical order of a particle."""

from typing import Literal

from alloyscope.sections import Positive, Section

OrderLabel = Literal["d_com", "eta", "protocol"]


class LabelsSection(Section):
    ordering: OrderLabel = "d_com"  # docs/decisions/0001: η > 0 does not separate the two orders
    d_com_over_Rg_limit: Positive = 0.5
