"""Images on a device, for the steps of benchmarks/device.py: lens alone, whole images, and against abTEM's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from device_plan import Figures, Plan, backends, times_s
from harness import Figure


def drawn_jobs(plan: Plan, count: int) -> list[Any]:
    """Particles of the reference set, each in a view of its own under drawn optics."""
    from hrtem_engine import drawn
    from imaging_cases import particles

    kept = particles(plan.particles)
    return [([kept[number % len(kept)]], drawn(number, "corrected")) for number in range(count)]


def coherent_images(waves: Any, views: Sequence[Any], lens: Any) -> int:
    """Number of coherent images whose intensities add up to the partially coherent ones, on the CPU."""
    from alloyscope.microscope.arrays import CPU
    from alloyscope.microscope.coherence import Band, coherent_transfers
    from alloyscope.microscope.optics import intensity_grid

    band = Band.of(views, lens, intensity_grid(views, lens))
    power = abs(band.spectrum(waves, CPU)) ** 2
    return sum(1 for _ in coherent_transfers(power, views, band, lens, CPU))


def images(plan: Plan) -> Figures:
    """The partially coherent lens for given waves, and whole images in squares of their own, on each backend."""
    from alloyscope.imaging.box import slabs
    from alloyscope.imaging.hrtem import Imager
    from alloyscope.imaging.multislice import Multislice
    from alloyscope.microscope.arrays import CPU
    from alloyscope.microscope.coherence import image_intensity
    from alloyscope.microscope.settings import ImagingSection

    imaging, jobs, few = ImagingSection(), drawn_jobs(plan, 4 * plan.batch), 2
    on_cpu = Imager(imaging, Multislice(imaging, CPU))
    views = [view for _, view in jobs]
    boxes = [slabs(*job, imaging)[0] for job in jobs[: plan.batch]]
    waves = np.concatenate([on_cpu.engine.exit_waves([box]) for box in boxes])
    counted = [coherent_images(wave[None], [view], on_cpu.lens) for wave, view in zip(waves, views, strict=False)]
    lens_of_cpu = image_intensity(waves[:few], views[:few], on_cpu.lens, CPU)
    whole_of_cpu = np.stack(list(on_cpu.images(jobs[:few])))
    figures = {
        "device_coherent_images": Figure.median(
            [float(n) for n in counted], "", "of one image, drawn optics, corrected"
        )
    }
    for place, (name, backend) in enumerate(backends(plan)):
        imager, batch = Imager(imaging, Multislice(imaging, backend)), backend.asarray(waves)
        suffix = "" if place == 0 else f"_{name}"
        against = f"{waves.shape[-1]}², drawn optics, corrected, batches of {backend.batch}, {name}"
        if backend is not CPU:
            lens = backend.to_numpy(image_intensity(batch[:few], views[:few], imager.lens, backend))
            whole = np.stack(list(imager.images(jobs[:few])))
            for what, found, expected in (("lens", lens, lens_of_cpu), ("images", whole, whole_of_cpu)):
                differs = float(np.sqrt(((found - expected) ** 2).mean()))
                if not differs < 1e-4:  # float32: 1e-5 between NumPy and torch on a CPU
                    raise SystemExit(f"{name}: {what} differ from NumPy's by {differs:.2g} of the beam")
                figures[f"device_{what}_difference_{name}"] = Figure(
                    differs, "", f"of the beam (rms), {few} images, against NumPy"
                )

        def all_lenses(backend: Any = backend, batch: Any = batch, lens: Any = imager.lens) -> None:
            for first in range(0, len(batch), backend.batch):
                last = first + backend.batch
                seen = image_intensity(batch[first:last], views[: len(batch)][first:last], lens, backend)
                backend.to_numpy(seen.reshape(-1)[:1])  # one number, to wait for the rest

        rates = [len(waves) / s for s in times_s(all_lenses, plan.device, plan.repeats)]
        figures[f"device_lens_images_per_s{suffix}"] = Figure.median(rates, "1/s", f"lens alone; {against}")
        rates = [
            len(jobs) / s for s in times_s(lambda imager=imager: list(imager.images(jobs)), plan.device, plan.repeats)
        ]
        figures[f"device_whole_images_per_s{suffix}"] = Figure.median(
            rates, "1/s", f"box, exit wave, lens, camera; {len(jobs)} images of 60 to 1000 atoms; {against}"
        )
    return figures


def images_against_abtem(plan: Plan, backend: Any) -> Figures:
    """Whole images against abTEM's behind its lens, one structure at a time, on the field of view with 20 slices."""
    from hrtem_engine import USUAL_SLICES, BestAbtem

    from alloyscope.imaging.box import slabs
    from alloyscope.imaging.hrtem import Imager
    from alloyscope.imaging.multislice import Multislice
    from alloyscope.microscope.settings import ImagingSection

    imaging, usual = ImagingSection(), ImagingSection(n_slices=USUAL_SLICES)
    jobs = drawn_jobs(plan, max(backend.batch, plan.abtem_waves))
    ours, theirs = (
        Imager(imaging, Multislice(imaging, backend)),
        BestAbtem(usual, "gpu" if plan.device == "cuda" else "cpu"),
    )
    few = [(slabs(*job, usual)[0], job[1]) for job in jobs[: plan.abtem_waves]]
    ours_s = min(times_s(lambda: list(ours.images(jobs)), "cpu", plan.repeats)) / len(jobs)
    theirs_s = times_s(lambda: [theirs.image(*one) for one in few], "cpu", plan.repeats)
    against = (
        f"abTEM on the same device, one structure at a time, {imaging.grid}², {USUAL_SLICES} slices, without camera"
    )
    ratios = [s / len(few) / ours_s for s in theirs_s]
    return {"device_images_speed_over_abtem": Figure.median(ratios, "", against)}
