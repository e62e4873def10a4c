"""The network of the closest earlier code, as a baseline of the task reading."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from alloyscope.learn.networks import CONTRAST_SCALE

EDGE, CHANNELS, DENSE = 64, 32, (1024, 768)


def double(channels_in: int) -> nn.Sequential:
    """Two 3 × 3 convolutions, and the halving of the grid by maxima."""
    return nn.Sequential(
        *(nn.Conv2d(channels_in, CHANNELS, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
        nn.MaxPool2d(2),
    )


class TalkNetwork(nn.Module):
    """Image of 64 × 64 → two double convolutions of 32 channels → dense layers of 1024 and 768 → outputs.

    Larger images are averaged to 64 × 64 pixels, as there. The network does not see the number of electrons.

    Args:
        outputs: Number of outputs.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(double(1), double(CHANNELS), nn.Flatten())
        widths = (CHANNELS * (EDGE // 4) ** 2, *DENSE)
        dense = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.head = nn.Sequential(*dense, nn.Linear(DENSE[-1], outputs))

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) and (n,) → (n, outputs)."""
        small = F.adaptive_avg_pool2d(CONTRAST_SCALE * (image - 1), EDGE)
        out: torch.Tensor = self.head(self.body(small))
        return out
