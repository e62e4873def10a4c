"""The whole-image gate lets a sound lens and camera through and stops each sign, angle and blur that is wrong."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from alloyscope.contracts import ABERRATIONS, Film, Structure, View
from alloyscope.errors import ContractError, GateError
from alloyscope.ids import rng_for
from alloyscope.imaging import gates
from alloyscope.imaging.examination import lens_images, strong_optics
from alloyscope.imaging.hrtem import Imager, imager_for, plain_optics
from alloyscope.imaging.reference import Reference
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view
from tests.stages.synthetic_md import icosahedron

IMAGING = ImagingSection(pixels=32, grid=96, n_slices=6, max_shift_A=1.0, device="cpu")
SNAPSHOTS = [*icosahedron(0), *icosahedron(1)]
BLOCK_A = (14.0, 14.0, 10.0)
FILM = Film(rng_for("test-film").uniform(0, BLOCK_A, (60, 3)), BLOCK_A)

Image = NDArray[np.floating]


@pytest.fixture(scope="module")
def imager() -> Imager:
    return imager_for(IMAGING, film=FILM)


def the_view(imager: Imager, **changed: float) -> View:
    drawn = drawn_view(0, 0, IMAGING, OpticsSection(), DetectorSection(), seed=3)
    return replace(strong_optics(drawn, imager.lens.wavelength_A), **changed)


FILMED = {"film_thickness_A": 8.0, "film_angle_rad": 0.3}


@pytest.fixture(scope="module")
def reference(imager: Imager) -> Image:
    return Reference(IMAGING, FILM).image(SNAPSHOTS, the_view(imager, **FILMED))


@pytest.fixture(scope="module")
def contrast(imager: Imager) -> float:
    view = replace(plain_optics(the_view(imager)), snapshots=())
    return float(next(imager.images([(SNAPSHOTS[:1], view)])).std())


def imaged(imager: Imager, view: View, snapshots: Sequence[Structure] = SNAPSHOTS) -> Image:
    return next(imager.images([(snapshots, view)]))


def test_sound_images_pass(imager: Imager, reference: Image, contrast: float) -> None:
    of_beam, of_contrast = gates.whole_image_agrees(imaged(imager, the_view(imager, **FILMED)), reference, contrast)
    assert of_beam.value < gates.MOST_OF_BEAM / 2
    assert of_contrast.value < gates.MOST_OF_CONTRAST / 2


FLIPPED = ["defocus_A", *(f"C{n}{m}_A" for n, m in ABERRATIONS)]
TURNED = [f"phi{n}{m}_rad" for n, m in ABERRATIONS if m]


@pytest.mark.parametrize("name", [*FLIPPED, *TURNED])
def test_another_sign_is_stopped(imager: Imager, reference: Image, contrast: float, name: str) -> None:
    """The sign of a coefficient, or of an angle: the image of a lens that is mirrored."""
    view = the_view(imager, **FILMED)
    wrong = replace(view, **{name: -getattr(view, name)})
    with pytest.raises(GateError, match=r"the whole image must agree .* got .*; the lens or the camera is wrong"):
        gates.whole_image_agrees(imaged(imager, wrong), reference, contrast)
    with pytest.raises(GateError, match="lens and camera must make the reference's image"):
        gates.lens_agrees(lens_images(imager, wrong)[0], lens_images(imager, view)[1])


@pytest.mark.parametrize(
    "changed",
    [
        {"phi12_rad": np.pi / 2 - 0.4},  # x and y exchanged
        {"mtf_c1": 1.0},  # no MTF
        {"vibration_angle_rad": np.pi / 2 - 0.5},
        {"vibration_angle_rad": -0.5},
        {"film_thickness_A": 0.0},
        {"film_angle_rad": -0.3},
    ],
)
def test_another_angle_blur_or_film_is_stopped(
    imager: Imager, reference: Image, contrast: float, changed: dict[str, float]
) -> None:
    wrong = the_view(imager, **{**FILMED, **changed})
    with pytest.raises(GateError, match="the whole image must agree"):
        gates.whole_image_agrees(imaged(imager, wrong), reference, contrast)


def test_a_snapshot_left_out_is_stopped(imager: Imager, reference: Image, contrast: float) -> None:
    image = imaged(imager, the_view(imager, **FILMED), SNAPSHOTS[:1])
    with pytest.raises(GateError, match="the whole image must agree"):
        gates.whole_image_agrees(image, reference, contrast)


def test_lens_gate_compares_the_same_wave(imager: Imager) -> None:
    assert gates.lens_agrees(*lens_images(imager, the_view(imager))).value < 1e-3


def test_bounds_are_of_the_beam_and_of_the_contrast() -> None:
    flat = np.ones((4, 4))
    assert [passed.value for passed in gates.whole_image_agrees(flat, flat + 0.001, 0.1)] == pytest.approx(
        [0.001, 0.01]
    )
    for contrast, difference in ((0.01, 0.002), (1.0, 0.02), (0.0, 0.0)):
        with pytest.raises(GateError, match="the whole image must agree"):
            gates.whole_image_agrees(flat, flat + difference, contrast)


def test_film_needs_its_block(imager: Imager) -> None:
    with pytest.raises(ContractError, match="a view with a film needs its block"):
        Reference(IMAGING).image(SNAPSHOTS, the_view(imager, **FILMED))
