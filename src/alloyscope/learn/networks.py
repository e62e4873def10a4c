"""Compact convolutional networks.

Ours first fold blocks of pixels into channels (as FFDNet, Zhang et al. 2018), because a coarse grid is cheap and no
fringe is lost. None normalises its features, because the absolute contrast and its ratio to the noise are the
signal; in a trial, a network with batch normalisation learnt nothing at doses below 1e3 e/Å².
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

PIXEL_MULTIPLE = 16  # the coarsest grid has a point per so many pixels along an edge
CONTRAST_SCALE = 10.0  # turns a particle's contrast, about 3 % of the beam, into an input of order 1
FIELD_PIXELS = 128  # edge of the field over which pooled features are means
MAP_ATOMS = 10.0  # unit of the maps of atoms
TALK_PIXELS = 64  # edge of the images of the earlier code
SUMMED = 6  # numbers beside the pooled features that the head gets


def contrasts(image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
    """Contrast relative to the background, in units of its level and in units of its noise 1/√electrons.

    Args:
        image: Intensity in units of its background, (n, 1, y, x).
        electrons: Electrons per pixel in the background, (n,).

    Returns:
        Two channels, (n, 2, y, x). Their ratio gives the noise to the network.
    """
    contrast = image - 1
    return torch.cat([CONTRAST_SCALE * contrast, contrast * electrons.sqrt()[:, None, None, None]], dim=1)


class Residual(nn.Module):
    """Residual block of two 3 × 3 convolutions (He et al. 2016), initially the identity (Zhang et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def fold(pixels: int, channels: int) -> nn.Sequential:
    """Fold blocks of pixels × pixels into channels and apply the first convolution."""
    return nn.Sequential(nn.PixelUnshuffle(pixels), nn.Conv2d(2 * pixels**2, channels, 3, padding=1), nn.ReLU())


def down(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 2, stride=2)


class Taught(NamedTuple):
    """What a reading network gives in training, for n images.

    Attributes:
        numbers: The logit of Janus, scaled ln n_atoms and fraction of the first species, and the natural logarithms of
            the scales of the latter two's errors, (n, 5).
        maps: Projected atoms of either species in each cell, in units of MAP_ATOMS, (n, 2, y/8, x/8); None from a
            network that makes no maps.
    """

    numbers: torch.Tensor
    maps: torch.Tensor | None


class ReadingNetwork(nn.Module):
    """Residual network that first maps the atoms of either species in projection and then reads the whole particle.

    The maps are taught with the maps of the structure, a number for each cell and not only three for an image, and are
    summed for the head (docs/decisions/0020-reading-network.md).

    Args:
        width: Channels of the first level; they double at each of the two halvings of the grid.
        blocks: Residual blocks of the three levels.
    """

    def __init__(self, width: int, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        middle, top = 2 * width, 4 * width
        first, second, third = ([Residual(c) for _ in range(n)] for c, n in zip((width, middle, top), blocks))
        self.lower = nn.Sequential(fold(4, width), *first, down(width), nn.ReLU(), *second)
        self.upper = nn.Sequential(down(middle), nn.ReLU(), *third)
        self.lateral = nn.Conv2d(top, middle, 1)
        self.to_maps = nn.Sequential(nn.Conv2d(middle, middle, 3, padding=1), nn.ReLU(), nn.Conv2d(middle, 2, 1))
        self.hidden = nn.Sequential(nn.Linear(2 * top + SUMMED, top), nn.ReLU())
        self.head = nn.Linear(top, 5)

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) and (n,) → numbers, (n, 5)."""
        return self.with_maps(image, electrons).numbers

    def with_maps(self, image: torch.Tensor, electrons: torch.Tensor) -> Taught:
        """(n, 1, y, x) and (n,) → numbers and maps."""
        features, maps = self._seen(image, electrons)
        return Taught(self.head(features), maps)

    def features(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """What the head reads from, (n, 4 width), to tell how like the training images an image is."""
        return self._seen(image, electrons)[0]

    def _seen(self, image: torch.Tensor, electrons: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        contrast = contrasts(image, electrons).contiguous(memory_format=torch.channels_last)
        fine = self.lower(contrast)
        coarse = self.upper(fine)
        maps = F.softplus(self.to_maps(fine + F.interpolate(self.lateral(coarse), scale_factor=2.0)) - 3)
        # Sums and not means over a field, so that a field with more vacuum around the particle reads the same.
        field = image.shape[-1] * image.shape[-2] / FIELD_PIXELS**2
        # At low dose, the electrons scattered out of the image are the most stable measure of the particle's size.
        missing = 100 * (image - 1).mean(dim=(1, 2, 3)) * field
        atoms, squares = maps.sum(dim=(2, 3)), maps.square().sum(dim=(2, 3))
        both = atoms.sum(dim=1) + 0.1
        summed = [missing, electrons.log10(), both.log(), atoms[:, 1] / both, *(squares + 0.1).log().unbind(dim=1)]
        pooled = [coarse.mean(dim=(2, 3)) * field, coarse.amax(dim=(2, 3))]
        seen: torch.Tensor = self.hidden(torch.cat([*pooled, torch.stack(summed, dim=1)], dim=1))
        return seen, maps


class TalkNetwork(nn.Module):
    """The network of the closest earlier code, as a baseline for reading.

    Image of 64 × 64 → two double convolutions of 32 channels → dense layers of 1024 and 768 → outputs. Larger images
    are averaged to 64 × 64 pixels, as there. The network does not see the number of electrons.
    """

    def __init__(self) -> None:
        super().__init__()
        channels, dense = 32, (1024, 768)
        widths = (channels * (TALK_PIXELS // 4) ** 2, *dense)
        layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.body = nn.Sequential(_double(1, channels), _double(channels, channels), nn.Flatten(), *layers)
        self.head = nn.Linear(dense[-1], 5)

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) and (n,) → numbers, (n, 5)."""
        out: torch.Tensor = self.head(self.features(image, electrons))
        return out

    def features(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """What the head reads from, (n, 768)."""
        seen: torch.Tensor = self.body(F.adaptive_avg_pool2d(CONTRAST_SCALE * (image - 1), TALK_PIXELS))
        return seen

    def with_maps(self, image: torch.Tensor, electrons: torch.Tensor) -> Taught:
        """(n, 1, y, x) and (n,) → numbers, without maps."""
        return Taught(self(image, electrons), None)


def _double(channels_in: int, channels: int) -> nn.Sequential:
    """Two 3 × 3 convolutions, and the halving of the grid by maxima."""
    return nn.Sequential(
        *(nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()),
        nn.MaxPool2d(2),
    )


class NumbersNetwork(nn.Module):
    """Residual network that reads numbers from an image and its electrons.

    Args:
        width: Channels of the first level; they double at each of the two halvings of the grid.
        outputs: Number of outputs.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            fold(4, width), Residual(width),
            down(width), nn.ReLU(), Residual(2 * width),
            down(2 * width), nn.ReLU(), Residual(4 * width),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(8 * width + 1, 4 * width), nn.ReLU(), nn.Linear(4 * width, outputs))

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) and (n,) → (n, outputs)."""
        features = self.body(contrasts(image, electrons))
        pooled = [features.mean(dim=(2, 3)), features.amax(dim=(2, 3)), electrons.log10()[:, None]]
        out: torch.Tensor = self.head(torch.cat(pooled, dim=1))
        return out


class DenoisingNetwork(nn.Module):
    """U-Net (Ronneberger et al. 2015): noisy image and electrons → expected image, as contrast to the background.

    Args:
        width: Channels of the first level; they double at each of the two halvings of the grid.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        levels = (width, 2 * width)
        self.fold = fold(2, width)
        self.encoders = nn.ModuleList([Residual(channels) for channels in levels])
        self.downs = nn.ModuleList([down(channels) for channels in levels])
        self.bottom = Residual(4 * width)
        self.ups = nn.ModuleList([nn.Conv2d(2 * channels, channels, 1) for channels in reversed(levels)])
        self.decoders = nn.ModuleList([Residual(channels) for channels in reversed(levels)])
        unfold = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(unfold.weight)  # starts from vacuum, which is closer to the truth than the noisy image
        self.unfold = nn.Sequential(unfold, nn.PixelShuffle(2))

    def forward(self, image: torch.Tensor, electrons: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x) and (n,) → denoised (n, 1, y, x)."""
        x = self.fold(contrasts(image, electrons))
        skips = []
        for encoder, shrink in zip(self.encoders, self.downs):
            x = encoder(x)
            skips.append(x)
            x = shrink(x)
        x = self.bottom(x)
        for up, decoder in zip(self.ups, self.decoders):
            x = decoder(F.interpolate(up(x), scale_factor=2.0, mode="nearest") + skips.pop())
        out: torch.Tensor = 1 + self.unfold(x) / CONTRAST_SCALE
        return out
