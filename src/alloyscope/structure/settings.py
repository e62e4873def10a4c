"""Section of the config that chooses the criterion for the chemical order of a particle."""

from typing import Literal

from alloyscope.sections import Positive, Section

OrderLabel = Literal["enclosure", "d_com", "eta", "protocol"]


class LabelsSection(Section):
    ordering: OrderLabel = "enclosure"  # docs/decisions/0012: the only one that knows particles of neither order
    d_com_over_Rg_limit: Positive = 0.5
