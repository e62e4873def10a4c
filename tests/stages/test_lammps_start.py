"""LAMMPS starts alone, whatever launchers, schedulers and modules leave in the environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alloyscope.errors import SimulationError
from alloyscope.lammps.commands import Segment, Simulation, System
from alloyscope.lammps.pool import WorkerPool
from alloyscope.lammps.start import OWN, alone, load_lammps, spoken_of_mpi

LOAD = """
import os
from alloyscope.lammps.start import load_lammps
load_lammps().command("units metal")
print(len(os.sched_getaffinity(0)))
"""

LEAVE = """
from alloyscope.lammps.start import leave_preloaded_mpi
leave_preloaded_mpi()
print(open("/proc/self/maps").read())
"""

# Says PMI_FD to MPI, but not to Python, when a site's variable is set: no list of names can know of it.
SITE = """
import ctypes, os
if os.environ.get("SITE_MPI") == "on":
    ctypes.CDLL(None).setenv(b"PMI_FD", b"33", 1)
"""


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "variables",
    [
        # srun --mpi=pmi2, as a process of a job inherits it without its file descriptor
        {"PMI_RANK": "0", "PMI_SIZE": "1", "PMI_FD": "33"},
        # srun --mpi=pmix
        {
            "PMIX_RANK": "0",
            "PMIX_NAMESPACE": "slurm.pmix.1.0",
            "PMIX_SERVER_URI2": "pmix-server.1;tcp4://127.0.0.1:1",
        },
        {"PMI_PORT": "127.0.0.1:1", "PMI_ID": "0"},  # mpiexec of MPICH
        {"MPIR_CVAR_PMI_VERSION": "2"},
        {"MPICH_CH4_NETMOD": "verbs", "MPIR_CVAR_CH4_NETMOD": "verbs"},
        {"UCX_TLS": "rc", "UCX_NET_DEVICES": "mlx5_0:1"},
        {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"},
        {"GOMP_CPU_AFFINITY": "0"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_lammps_starts_and_keeps_its_cores(variables: dict[str, str]) -> None:
    done = python(LOAD, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(os.sched_getaffinity(0))


def test_libraries_and_files_of_a_site_do_not_come_first(tmp_path: Path) -> None:
    """Broken ones of the same names stand where LD_LIBRARY_PATH points, and UCX's file in HOME asks for InfiniBand."""
    for name in ("libmpi.so.12", "libucp.so.0", "libucs.so.0", "libucm.so.0", "libuct.so.0", "libfabric.so.1"):
        (tmp_path / name).write_text("of another build")
    (tmp_path / "ucx.conf").write_text("UCX_TLS=rc\n")
    done = python(LOAD, LD_LIBRARY_PATH=str(tmp_path), HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_preloaded_mpi_is_left_behind(tmp_path: Path) -> None:
    """The program starts anew without it; another library stays."""
    (mathematics,) = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm.so" in line
    }
    mpi, other = tmp_path / "libmpi.so.40", tmp_path / "libcompiler.so"
    for path in (mpi, other):
        shutil.copy(mathematics, path)
    done = python(LEAVE, LD_PRELOAD=f"{mpi}:{other}")
    assert done.returncode == 0, done.stderr
    assert str(mpi) not in done.stdout
    assert str(other) in done.stdout


def test_what_nobody_foresaw_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process and in a worker: one line with the variable, and MPI's own last words."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    for name, value in {"PYTHONPATH": str(tmp_path), "SITE_MPI": "on", "AAA": "1", "ZZZ": "1"}.items():
        monkeypatch.setenv(name, value)
    expected = r"^LAMMPS does not start while the environment variable SITE_MPI is set \(SITE_MPI='on': .*PMI.*\); .*$"
    with pytest.raises(SimulationError, match=expected):
        load_lammps()
    segment = Segment(300, 300, 0.01, 1, 15)
    run = Simulation(System(("Ag",), np.zeros(1, int), np.zeros((1, 3)), Path("t")), (segment,), segment, 1, 1, 1, 1)
    with WorkerPool(1, 60) as pool:
        pool.submit(0, run)
        with pytest.raises(SimulationError, match=expected):
            pool.next_outcome()


def test_a_lammps_that_starts_nowhere_blames_no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lammps.py").write_text("raise ImportError('half installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SimulationError, match=r"LAMMPS does not start \(LAMMPS cannot be loaded \(half installed\)"):
        load_lammps()


def test_only_words_for_mpi_are_kept_back() -> None:
    given = {
        "PATH": "/bin",
        "SLURM_JOB_ID": "1",
        "PMI_FD": "3",
        "OMPI_COMM_WORLD_RANK": "0",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert spoken_of_mpi(given) == ["OMPI_COMM_WORLD_RANK", "PMI_FD"]
    assert alone(given) == {"PATH": "/bin", "SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "0"} | OWN
