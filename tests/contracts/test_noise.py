"""The noise gate: right counts pass at the stated rate, counts of another camera or dose are stopped."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alloyscope.contracts import View
from alloyscope.errors import GateError
from alloyscope.ids import rng_for
from alloyscope.imaging import gates, noise
from alloyscope.microscope.detector import expose
from alloyscope.microscope.settings import DetectorSection, ImagingSection, OpticsSection
from alloyscope.microscope.views import drawn_view

PIXELS, PIXEL_A = 64, 0.4


def view(**changed: float) -> View:
    drawn = drawn_view(0, 0, ImagingSection(), OpticsSection(), DetectorSection(), seed=3)
    camera = {"dose_e_per_A2": 1000.0, "readout_e": 0.0, "mtf_c1": 0.0, "mtf_c2": 0.35, "mtf_c3": 2.5}
    return replace(drawn, **{**camera, **changed})


def clean() -> np.ndarray:
    """Fringes inside a dark disc: intensities from 0.2 to 1."""
    y, x = np.mgrid[:PIXELS, :PIXELS] - PIXELS / 2
    return (1 - np.exp(-(x**2 + y**2) / 200) * (0.5 + 0.3 * np.cos(1.5 * x))).astype(np.float32)


def exposed(seen: View, detector: DetectorSection, stream: int = 0) -> np.ndarray:
    return expose(
        clean(),
        dose_e_per_A2=seen.dose_e_per_A2,
        readout_e=seen.readout_e,
        gain_map_rms=seen.gain_map_rms,
        mtf_parameters=(seen.mtf_c1, seen.mtf_c2, seen.mtf_c3),
        pixel_size_A=PIXEL_A,
        detector=detector,
        rng=rng_for("test-noise", stream),
    )


def electrons(seen: View) -> np.ndarray:
    return clean().astype(float) * seen.dose_e_per_A2 * PIXEL_A**2


@pytest.mark.parametrize("camera", ["counting", "scintillator"])
@pytest.mark.parametrize(
    ("gain", "offset", "readout_e", "dose", "gains"),
    [
        (1.0, 0, 0.0, 1e4, 0.0),
        (1.0, 100, 2.0, 1e3, 0.0),
        (0.7, 100, 0.0, 200.0, 0.0),
        (1.02, 100, 0.0, 200.0, 0.0),
        (5.0, 100, 0.5, 200.0, 0.0),
        (1.0, 100, 0.0, 1e3, 0.05),
    ],
)
def test_p_values_of_right_counts_are_uniform(
    camera: Any, gain: float, offset: int, readout_e: float, dose: float, gains: float
) -> None:
    detector = DetectorSection(camera=camera, gain=gain, offset=offset)
    seen = view(readout_e=readout_e, dose_e_per_A2=dose, gain_map_rms=gains)
    assert noise.untestable(electrons(seen), seen, detector) == ""
    found = [noise.p_values(exposed(seen, detector, n), electrons(seen), seen, detector) for n in range(60)]
    values = np.array([list(each.values()) for each in found])
    assert values.shape == (60, 3 + noise.RINGS)
    # the mean of 60 uniform numbers is 0.5 ± 0.037
    np.testing.assert_allclose(values.mean(axis=0), 0.5, atol=5 * 0.037)
    assert values.min() > 1e-6  # of 540 values
    assert gates.noise_is_the_cameras(found[0]).low == gates.FALSE_ALARM_OF_NOISE


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"gain": 1.05}, {}, "mean"),
    ({"offset": 103}, {}, "mean"),
    ({}, {"dose_e_per_A2": 1050.0}, "mean"),
    ({"camera": "counting"}, {}, r"variance .*spectrum, ring 6 of 6"),
    ({}, {"mtf_c2": 0.45}, r"spectrum, ring \d of 6"),
    ({}, {"mtf_c1": 0.3}, r"spectrum, ring 6 of 6"),
    ({}, {"gain_map_rms": 0.05}, r"variance .*spectrum, ring 6 of 6"),
    ({}, {"readout_e": 6.0}, r"variance .*spectrum, ring 6 of 6"),
]


@pytest.mark.parametrize(("camera", "optics", "message"), WRONG)
def test_counts_of_another_camera_are_stopped(camera: dict[str, Any], optics: dict[str, Any], message: str) -> None:
    right, seen = DetectorSection(camera="scintillator", offset=100), view()
    counts = exposed(replace(seen, **optics), right.model_copy(update=camera))
    with pytest.raises(GateError, match=f"they differ in .*{message}"):
        gates.noise_is_the_cameras(noise.p_values(counts, electrons(seen), seen, right))


def test_noise_of_the_same_variance_and_mean_everywhere_is_stopped() -> None:
    """Noise that does not depend on the image, but has the mean and the total variance of the right one."""
    seen, detector = view(dose_e_per_A2=3e4), DetectorSection()
    mean = electrons(seen)
    flat = mean + np.sqrt(mean.mean()) * rng_for("test-flat").standard_normal(mean.shape)
    with pytest.raises(GateError, match="variance of the darkest tenth"):
        gates.noise_is_the_cameras(noise.p_values(np.rint(flat).astype(np.uint16), mean, seen, detector))


def test_what_cannot_be_tested_says_why() -> None:
    seen = view(dose_e_per_A2=50.0, readout_e=5.0)
    assert "pixels are clipped to 0 or 65535 counts" in noise.untestable(electrons(seen), seen, DetectorSection())
    assert noise.untestable(electrons(seen), seen, DetectorSection(offset=100)) == ""
    bright = view(dose_e_per_A2=1e6)
    assert "are clipped" in noise.untestable(electrons(bright), bright, DetectorSection())
    weak = DetectorSection(camera="scintillator", gain=0.01, offset=100)
    assert "the noise is below 0.5 counts" in noise.untestable(electrons(view()), view(), weak)
