"""A campaign that has begun, as `alloyscope status` finds it: its folder, Snakemake's records, a squeue."""

import base64
import os
import time
from pathlib import Path
from typing import Any

import pytest

from alloyscope.config.read import parse
from alloyscope.store.atomic import write_json
from alloyscope.store.ledger import Entry, Ledger
from alloyscope.store.manifests import Manifest, Slot

CAMPAIGN: dict[str, Any] = {
    "campaign": {"name": "small", "n_particles": 10},
    "md": {"particles_per_chunk": 4},
    "imaging": {"md_chunks_per_chunk": 1, "views": 3},
}
NOW_s = 1_800_000_000.0


def cost(minutes_ago: float = 10.0, **other: Any) -> dict[str, Any]:
    """Provenance of a job that took 10 s on two cores."""
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(NOW_s - 60 * minutes_ago))
    return {"wall_s": 10.0, "core_s": 20.0, "finished": finished, **other}


def begun_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten particles in three chunks: one finished with a failure, one begun; nothing imaged."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results") / "small"
    write_json(folder / "plan" / "campaign.json", {"config": parse(CAMPAIGN).model_dump(mode="json")})
    (folder / "plan" / "particles.parquet").touch()
    write_json(folder / "potential" / "validation.json", {"provenance": cost() | {"core_s": 0.0}})
    slots = (*(Slot(n, True, seconds=10.0) for n in range(3)), Slot(3, False, "hang: no result after 30 s", 3, 30.0))
    Manifest("md", 0, "d", slots, {}, {"particles": 4}, cost()).write(folder / "structures" / "chunk-000000.json")
    ledger = Ledger(folder / "structures" / "chunk-000001.ledger.jsonl", "d")
    ledger.append(Entry(Slot(4, True, seconds=15.0), "xyz"))
    with ledger.path.open("a") as handle:
        handle.write('0123 {"digest": "d", "slot": {"partic')
    return folder


def begin(folder: Path, name: str, content: str = '{"external_jobid": null}') -> None:
    """Snakemake's mark of a job that has started: an md chunk, or what makes a file."""
    log = folder / "logs" / "md" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    output = (folder / (name if "/" in name else f"structures/{name}.json")).as_posix()
    mark = Path(".snakemake") / "incomplete" / base64.urlsafe_b64encode(output.encode()).decode()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(content)


def row(text: str, stage: str, table: int = 0) -> list[str]:
    """Cells of a stage in the first table, of jobs, or the second, of costs."""
    lines = [line for line in text.splitlines() if line.split()[:1] == [stage]]
    return [cell.strip() for cell in lines[table].split("  ") if cell.strip()]


def submit(folder: Path, **slurm: str) -> None:
    """Snakemake's log of a run that gave md chunks to SLURM."""
    log = Path(".snakemake") / "log" / "2026-01-01T000000.000000.snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    blocks = []
    for number, (chunk, job) in enumerate(slurm.items()):
        name = chunk.replace("_", "-")
        blocks.append(
            f"[Thu Jan  1 00:00:00 2026]\nrule md:\n    output: {folder}/structures/{name}.json\n"
            f"    log: {folder}/logs/md/{name}.log\n    jobid: {number}\n    wildcards: chunk=0\n"
            f"Job {number} has been submitted with SLURM jobid {job} (log: slurm_logs/{job}.log).\n"
        )
    log.write_text("".join(blocks))


def stub_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A squeue that leaves its arguments in a file, and then does as told."""
    program, asked = tmp_path / "bin" / "squeue", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return asked
