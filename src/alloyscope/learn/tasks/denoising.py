"""Denoising: the expected image from a noisy one."""

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alloyscope.learn.task import Batch, Block, Evaluated, Picture, Scale, Shown, Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from alloyscope.learn.data import Released
    from alloyscope.microscope.settings import DetectorSection

PLAIN = ("noisy", "empty", "")  # the noisy image, one without a particle, and the network's
METHODS = ("gaussian", "wiener", "nlm", "tv", "bm3d")  # of `learn.classical`, which takes seconds to import
SCORES = ("psnr", "psnr_inside", "ssim", "ssim_inside")


def column(score: str, of: str = "") -> str:
    """Name of a column: the score of the network, or of another of PLAIN and METHODS."""
    return "_".join(filter(None, (score, of, "dB" if score.startswith("psnr") else "")))


THINNED = ("mse_compared", "mse_thinned")  # the network's squared error of compared images: true, and without truth


class Denoising(Task):
    """The network's output is the image. As most of an image is vacuum, the baseline is the score of an empty image."""

    reads = ("clean",)
    columns = dict.fromkeys([*(column(*which) for which in product(SCORES, (*PLAIN, *METHODS))), *THINNED], "float64")
    shown = (
        Shown(
            *("psnr_dB", "PSNR of the denoised image", "dB", "psnr_empty_dB", "an image without a particle"),
            axis="PSNR (dB)",
        ),
        Shown(
            *("ssim", "SSIM of the denoised image", "", "ssim_empty", "an image without a particle"),
            axis="SSIM",
        ),
    )
    examples = 4
    symmetries = 1
    heading = "Denoising"
    does = "removes the noise"
    spelled = True

    def network(self) -> "nn.Module":
        from alloyscope.learn.networks import DenoisingNetwork

        return DenoisingNetwork(self.width)

    def loss(self, output: "Tensor", batch: Batch, scale: Scale) -> "Tensor":
        """Mean over images of ln(mean squared error).

        The squared error falls as 1/dose, over two decades. With its logarithm all doses count equally; the logarithm
        is the PSNR except for sign and unit.
        """
        return (output - batch["clean"]).square().mean(dim=(1, 2, 3)).clamp_min(1e-12).log().mean()

    def metrics(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        from alloyscope.learn.metrics import psnr_dB, ssim

        return {"psnr_dB": psnr_dB(output, batch["clean"]), "ssim": ssim(output, batch["clean"])}

    def read(self, output: "Tensor", batch: Batch, scale: Scale) -> dict[str, "Tensor"]:
        """PSNR and SSIM of the noisy, the empty and the denoised image, over the image and in the particle."""
        import torch

        from alloyscope.learn.comparison import particle_mask, quality

        truths = batch["clean"][:, 0].cpu().numpy()
        inside = output.new_tensor(np.stack([particle_mask(truth) for truth in truths])[:, None])
        found: dict[str, Tensor] = {}
        for of, image in zip(PLAIN, (batch["image"], torch.ones_like(output), output)):
            scores = quality(image, batch["clean"], inside)
            found |= {column(score, of): scores[score] for score in SCORES}
        return found

    def beside(
        self,
        released: "Released",
        tested: "pd.DataFrame",
        detector: "DetectorSection",
        apply: Callable[[NDArray[Any], float], NDArray[Any]],
    ) -> dict[str, Any]:
        """Scores of classical methods, and the network's without truth, of the images that are compared."""
        from alloyscope.learn.comparison import classical_columns, images_of, network_errors

        compared = classical_columns(released.rows("validation"), tested, images_of(released, detector))
        rows = np.flatnonzero(~np.isnan(compared[column("psnr", METHODS[0])]))
        return compared | dict(zip(THINNED, network_errors(released, tested, detector, apply, rows)))

    def score(self, predictions: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
        """Scores over all images; `doses`, those of the compared images of each dose bin; and the smallest gain."""
        from alloyscope.learn.comparison import by_dose, smallest_gain, without_truth
        from alloyscope.learn.metrics import DATA_RANGE, mean_score, samples

        found: dict[str, Any] = {"data_range": DATA_RANGE}
        for name in (column(*which) for which in product(SCORES, PLAIN)):
            found |= mean_score(predictions[name], samples(predictions)).entries(name)
        doses = by_dose(predictions)
        found |= smallest_gain(doses).entries("gain_over_classical_dB")
        found |= smallest_gain(doses, "gain_inside_dB").entries("gain_over_classical_inside_dB")
        return found | without_truth(predictions) | {"doses": doses}

    def section(self, found: Evaluated) -> list[Block]:
        from alloyscope.figures.images import image_row
        from alloyscope.figures.learning import quality_against_dose
        from alloyscope.ids import particle_id

        scores, triplets = found.predictions.set_index("image"), []
        for row, *panels in zip(*(found.examples[name] for name in ("image", "noisy", "truth", "denoised"))):
            score = scores.loc[row]
            title = (
                f"{particle_id(int(score['particle']))} · {score['dose_e_per_A2']:.0f} e/Å² · "
                f"PSNR {score['psnr_noisy_dB']:.1f} → {score['psnr_dB']:.1f} dB, "
                f"SSIM {score['ssim_noisy']:.2f} → {score['ssim']:.2f}"
            )
            figure = image_row(panels, ("noisy", "truth", "denoised"), title, found.pixel_size_A, shared_grey=(1, 2))
            triplets.append(Picture(figure, f"Noisy, truth, denoised: {title}", pixels=True))
        doses = Picture(
            quality_against_dose(found.predictions),
            "Image quality against dose",
            "Peak signal-to-noise ratio (peak: the background) and structural similarity of every test image to "
            "the truth.",
        )
        seen = (
            "Test particles only. Truth and denoised share one grey scale; the noisy image has its own. Most of an "
            "image is vacuum, so the score to beat is that of an image without a particle, not that of the noisy one."
        )
        blocks = [Block(seen, triplets), Block(pictures=[doses])]
        return blocks + self.comparison(found) if found.metrics[0].get("doses") else blocks

    def comparison(self, found: Evaluated) -> list[Block]:
        """The network beside classical methods: a table and a figure by dose, and the score without truth."""
        from alloyscope.figures.denoising import comparison_by_dose
        from alloyscope.learn.classical import METHODS
        from alloyscope.wording import number

        scores, doses = found.metrics[0], found.metrics[0]["doses"]
        words = {"noisy": "noisy", "empty": "empty", "network": "network"} | {
            name: method.words for name, method in METHODS.items()
        }
        head = ["PSNR (dB), dose in e/Å²", *words.values(), "gain"]
        table = [
            [f"{row['dose_low']:g}–{row['dose_high']:g}{where}"]
            + [f"{row[score][name]:.1f}" for name in words]
            + [f"{row[f'gain{suffix}_dB']:+.1f}"]
            for row in doses
            for score, suffix, where in (("psnr", "", ""), ("psnr_inside", "_inside", ", in the particle"))
        ]
        text = (
            f"The network and classical methods on the same {sum(row['images'] for row in doses)} test images. The "
            "strength of each method is the best of several on images of the validation split, for each dose range and "
            "score. The gain is that over the best classical method; the smallest one is "
            f"{number(scores['gain_over_classical_dB'], 'dB')} over the image and "
            f"{number(scores['gain_over_classical_inside_dB'], 'dB')} in the particle."
        )
        if scores["psnr_without_truth_dB"] is not None:
            text += (
                f" Without the truth, from electrons shared out by chance, the PSNR of the network's mean squared "
                f"error on {scores['images_without_truth']} of these images is estimated to be "
                f"{number(scores['psnr_without_truth_dB'], 'dB')}; it is {number(scores['psnr_compared_dB'], 'dB')}."
            )
        picture = Picture(
            comparison_by_dose(doses, words),
            "Denoisers against dose",
            "Mean peak signal-to-noise ratio in each dose range, over the image and in the particle.",
        )
        return [Block(text, [picture], [head, *table])]
