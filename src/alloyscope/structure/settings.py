"""Section of the config that says what orders a particle."""

from typing import Literal

from alloyscope.sections import Positive, Section

OrderLabel = Literal["d_com", "eta", "protocol"]


class LabelsSection(Section):
    ordering: OrderLabel = "d_com"  # docs/decisions: η > 0 alone does not separate the two orders
    d_com_over_Rg_limit: Positive = 0.5
