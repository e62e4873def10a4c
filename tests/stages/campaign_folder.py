"""A finished campaign's folder, made of numbers thrown by hand: every file that the report reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alloyscope.campaign.particles import planned_particle, split_of
from alloyscope.campaign.provenance import Stopwatch
from alloyscope.campaign.tables import structure_columns
from alloyscope.config.model import Config
from alloyscope.config.read import parse
from alloyscope.ids import image_id, particle_id
from alloyscope.microscope.views import drawn_view
from alloyscope.store.atomic import write_json, write_text, writing
from alloyscope.store.images import ShardShape, views_table, write_metadata, write_shard
from alloyscope.store.manifests import Manifest, Slot, manifest_name
from alloyscope.store.tables import write_table
from alloyscope.structure.descriptors import DESCRIPTORS
from alloyscope.structure.neighbours import CLASSES

FAILED = 5


def configuration() -> Config:
    return parse(
        {
            "campaign": {"name": "demo", "n_particles": 40},
            "particles": {"n_atoms": [60, 300]},
            "md": {"particles_per_chunk": 40},
            "splits": {"train": 0.5, "validation": 0.1, "calibration": 0.1, "test": 0.3},
        }
    )


def structures_table(config: Config, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for number in range(config.campaign.n_particles):
        planned = planned_particle(number, config.particles, config.campaign.seed)
        core = planned.protocol == "gas_quench"
        valid = number != FAILED
        row = {
            "particle": number,
            "particle_id": particle_id(number),
            "chunk": 0,
            "valid": valid,
            "reason": None if valid else "2 clusters <after> 3 attempts",
            "attempts": 1 if valid else 3,
            "seconds": 4.0,
            "protocol": planned.protocol,
            "split": split_of(number, config.splits, config.campaign.seed),
            "group": number,
            "species_first": "Ag",
            "species_second": "Co",
            "n_atoms": planned.n_atoms,
            "n_first": planned.counts[0],
            "n_second": planned.counts[1],
            "fraction_first": planned.counts[0] / planned.n_atoms,
            **config.md.protocol(planned.protocol).drawn_ps(planned, config.campaign.seed),
        }
        if valid:
            row |= dict.fromkeys(DESCRIPTORS, 0.5) | {f"cna_{name}": 1 / len(CLASSES) for name in CLASSES}
            row |= {
                "eta": rng.normal(0.7 if core else 0.1, 0.3),
                "d_com_over_Rg": abs(rng.normal(0.15 if core else 1.0, 0.1)),
                "R_g_A": 2.2 * planned.n_atoms ** (1 / 3) / 2,
                "order_protocol": "core_shell" if core else "janus",
                "order_eta": "core_shell",
                "order_d_com": "core_shell" if core else "janus",
                "order_enclosure": "core_shell" if core else "janus",
                "ordering": "core_shell" if core else "janus",
                "inherent_energy_eV": -3.34 * planned.n_atoms,
                "potential_energy_eV": -3.3 * planned.n_atoms,
                "temperature_K": 300.0,
            }
        rows.append(row)
    columns = structure_columns(config.particles)
    return pd.DataFrame(rows).reindex(columns=list(columns)).astype(columns)


def fringes(n_atoms: int, pixels: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices((pixels, pixels)) - pixels / 2
    inside = np.hypot(x, y) < 0.05 * pixels * n_atoms ** (1 / 3)
    angle = rng.uniform(0, np.pi)
    wave = sum(np.cos(1.4 * (x * np.cos(angle + k) + y * np.sin(angle + k))) for k in (0, np.pi / 3))
    return (1 + 0.12 * inside * wave).astype(np.float32)


def images(
    folder: Path, config: Config, structures: pd.DataFrame, pixels: int, rng: np.random.Generator
) -> pd.DataFrame:
    views = config.imaging.views
    shard = ShardShape(config.campaign.n_particles, views, pixels)
    clean, rows = np.ones(shard.shape, np.float16), []
    for number in range(config.campaign.n_particles):
        for view in range(views):
            drawn = drawn_view(number, view, config.imaging, config.optics, config.detector, config.campaign.seed)
            rows.append(replace(drawn, engine="batched"))
            clean[number * views + view] = fringes(structures["n_atoms"][number], pixels, rng)
    table = views_table(rows)
    dose = table["dose_e_per_A2"].to_numpy()[:, None, None] * config.imaging.pixel_size_A**2
    counts = rng.poisson(clean.astype(np.float32) * dose).astype(np.uint16)
    write_shard(folder / "hrtem", 0, shard, {"clean": clean, "counts": counts})
    write_metadata(folder / "hrtem", 1, shard, {})
    table["image"] = np.arange(len(table))
    table["image_id"] = [image_id(row.particle, row.view) for row in rows]
    joined = table.merge(
        structures[["particle", "group", "chunk", "valid", "reason", "split", "ordering", "n_atoms", "fraction_first"]]
    )
    with writing(folder / "hrtem" / "images.parquet") as aside:
        joined.to_parquet(aside)
    account = {"digest": "d" * 16, "n_images": len(joined), "capacity": shard.capacity, "views": views}
    write_json(folder / "hrtem" / "dataset.json", account | {"provenance": Stopwatch("dataset").record()})
    return joined


def training(folder: Path, task: str, metrics: dict[str, float]) -> None:
    epochs = np.arange(12)
    fall = np.exp(-epochs / 4)
    table = pd.DataFrame({"epoch": epochs, "train_loss": 0.2 + fall, "validation_loss": 0.3 + fall})
    for name, value in metrics.items():
        table[f"validation_{name}"] = value * (1 - 0.4 * fall)
    run = folder / "training" / task / "seed-0"
    write_text(run / "metrics.csv", table.to_csv(index=False))
    write_json(run / "run.json", {"best_epoch": 10, "provenance": Stopwatch("train").record()})


READING = {
    "accuracy": 0.9,
    "accuracy_low": 0.7,
    "accuracy_high": 0.97,
    "accuracy_baseline": 0.55,
    "size_mae_atoms": 14.25,
    "size_mae_atoms_low": 11.0,
    "size_mae_atoms_high": 18.0,
    "size_mae_baseline_atoms": 61.5,
    "composition_mae": 0.0625,
    "composition_mae_low": 0.05,
    "composition_mae_high": 0.08,
    "composition_mae_baseline": 0.21,
    "per_particle": {"accuracy": 0.95, "size_mae_atoms": 9.5, "composition_mae": 0.03125},
}
DENOISING = {
    "psnr_dB": 27.25,
    "psnr_dB_low": 26.0,
    "psnr_dB_high": 28.5,
    "psnr_noisy_dB": 9.75,
    "psnr_empty_dB": 21.5,
    "ssim": 0.875,
    "ssim_low": 0.8,
    "ssim_high": 0.9,
    "ssim_noisy": 0.12,
    "ssim_empty": 0.75,
}


def reading(folder: Path, tested: pd.DataFrame, rng: np.random.Generator) -> None:
    training(folder, "reading", {"accuracy": 0.9, "size_mae_atoms": 14.0, "composition_mae": 0.06})
    flipped = rng.random(len(tested)) < 0.1
    other = tested["ordering"].map({"core_shell": "janus", "janus": "core_shell"})
    table = tested[["image", "particle", "view", "ordering", "n_atoms", "fraction_first"]].assign(
        ordering_predicted=tested["ordering"].where(~flipped, other),
        p_core_shell=0.5,
        n_atoms_predicted=tested["n_atoms"] * rng.normal(1, 0.1, len(tested)),
        fraction_first_predicted=tested["fraction_first"] + rng.normal(0, 0.07, len(tested)),
    )
    finish_evaluation(folder / "evaluation" / "reading" / "seed-0", table, READING)


def denoising(folder: Path, tested: pd.DataFrame, pixels: int, rng: np.random.Generator) -> None:
    training(folder, "denoising", {"psnr_dB": 27.0, "ssim": 0.87})
    level = 10 * np.log10(tested["dose_e_per_A2"].to_numpy())
    table = tested[["image", "particle", "view", "dose_e_per_A2"]].assign(
        psnr_noisy_dB=level - 7, psnr_dB=15 + level / 3, ssim_noisy=level / 100, ssim=0.8 + level / 400
    )
    run = folder / "evaluation" / "denoising" / "seed-0"
    truth = np.stack([fringes(200, pixels, rng) for _ in range(4)])
    noisy = rng.poisson(truth * 30) / np.float32(30)
    with writing(run / "examples.npz") as aside, aside.open("wb") as handle:
        np.savez(handle, noisy=noisy, truth=truth, denoised=0.98 * truth + 0.02, image=table["image"][:4])
    finish_evaluation(run, table, DENOISING)


def finish_evaluation(run: Path, table: pd.DataFrame, scores: dict[str, Any]) -> None:
    with writing(run / "predictions.parquet") as aside:
        table.to_parquet(aside)
    content = {"n_test_images": len(table), "n_test_particles": int(table["particle"].nunique())}
    write_json(run / "metrics.json", scores | content | {"provenance": Stopwatch("evaluate").record()})


EXTENDED = ("jobid", "rule_name", "wildcards", "params", "threads", "cpu_usage", "resources", "input_size_mb")


def benchmark(
    folder: Path, rule: str, seconds: float, name: str = "", extra: str = "", extended: bool = True, threads: int = 1
) -> None:
    """As Snakemake writes it: 512.5 MiB; 0.9 cores; 2000 MB and four hours were asked for. Quotes are not escaped."""
    header = ["s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time"]
    row = [seconds, "0:00:01", 512.5, "-", "-", "-", 0.0, 0.0, 99.0, 0.9 * seconds]
    if extended:
        header += EXTENDED
        asked = f"{{'tmpdir': '/tmp', 'runtime': 240, 'mem_mb': 2000, 'mem_mib': 1908{extra}}}"
        row += [3, rule, "{}", """{'md': '{"final_K":300.0}', 'own': "it's"}""", threads, 99.0, asked, "{}"]
    text = "\n".join("\t".join(map(str, line)) for line in (header, row))
    write_text(folder / "benchmarks" / rule / f"{name or rule}.tsv", text + "\n")


def build(folder: Path, pixels: int = 32) -> Config:
    """Write every file; returns the configuration."""
    config, rng = configuration(), np.random.default_rng(3)
    structures = structures_table(config, rng)
    write_table(folder / "structures" / "structures.parquet", structures, structure_columns(config.particles))
    slots = tuple(Slot(number, True) for number in range(config.campaign.n_particles))
    for stage, place in (("md", "structures"), ("describe", "descriptors")):
        manifest = Manifest(stage, 0, "d" * 16, slots, {}, {}, Stopwatch(stage).record())
        manifest.write(folder / place / manifest_name(0))
    index = images(folder, config, structures, pixels, rng)
    tested = index[index["valid"] & (index["split"] == "test")].reset_index(drop=True)
    reading(folder, tested, rng)
    denoising(folder, tested, pixels, rng)
    checks = [
        {
            "name": "table energy",
            "value": 1.5e-5,
            "reference": 0.0,
            "tolerance": 4e-4,
            "unit": "eV/atom",
            "passed": True,
            "kind": "formula",
            "source": "formula",
            "reason": "far below kT",
        },
        {
            "name": "Ag dimer energy",
            "value": -2.8,
            "reference": -1.65,
            "tolerance": 0.165,
            "unit": "eV",
            "passed": False,
            "kind": "experiment",
            "source": "spectroscopy",
            "reason": "10 %",
        },
    ]
    r_A = np.linspace(2, 5, 4).tolist()
    curves = [{"pair": "Ag-Co", "r_A": r_A, "energy_eV": [1e-9] * 4, "force_eV_per_A": [1e-8] * 4}]
    write_json(
        folder / "potential" / "validation.json",
        {
            "set": {"name": "AgCo", "description": "second-moment potential"},
            "checks": checks,
            "curves": curves,
            "provenance": Stopwatch("potential").record(),
        },
    )
    for rule, seconds in (("potential", 12.0), ("md", 190.0), ("hrtem", 80.0), ("train", 120.0)):
        benchmark(folder, rule, seconds)
    return config
