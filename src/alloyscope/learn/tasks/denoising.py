"""Denoising: the expected image from a noisy one."""

from typing import TYPE_CHECKING, Any

from alloyscope.learn.task import Batch, Block, Evaluated, Picture, Scale, Shown, Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn


class Denoising(Task):
    """The network's output is the image. As most of an image is vacuum, the baseline is the score of an empty image."""

    reads = ("clean",)
    columns = dict.fromkeys(
        ("psnr_noisy_dB", "psnr_empty_dB", "psnr_dB", "ssim_noisy", "ssim_empty", "ssim"), "float64"
    )
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
        """PSNR and SSIM of the noisy, the empty and the denoised image."""
        import torch

        from alloyscope.learn.metrics import psnr_dB, ssim

        images = (batch["image"], torch.ones_like(output), output)
        of_images = zip(self.columns, [(score, image) for score in (psnr_dB, ssim) for image in images], strict=True)
        return {name: score(image, batch["clean"]) for name, (score, image) in of_images}

    def score(self, predictions: "pd.DataFrame", training: "pd.DataFrame") -> dict[str, Any]:
        from alloyscope.learn.metrics import DATA_RANGE, mean_score

        found: dict[str, Any] = {"data_range": DATA_RANGE}
        for name in ("psnr_dB", "psnr_noisy_dB", "psnr_empty_dB", "ssim", "ssim_noisy", "ssim_empty"):
            found |= mean_score(predictions[name], predictions["particle"]).entries(name)
        return found

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
        return [Block(seen, triplets), Block(pictures=[doses])]
