"""Whether this process computes on a GPU, and why it cannot.

A job that was given a GPU and cannot use it would otherwise compute on a core, for days instead of minutes, and be
billed for the GPU. With `device: auto` it fails instead, with the reason.
"""

import ctypes
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal

from alloyscope.errors import ConfigError

DRIVER = "libcuda.so.1"
HIDDEN = ("", "-1", "NoDevFiles")  # of CUDA_VISIBLE_DEVICES: no GPU; the last is SLURM's, in jobs without one
OF_OTHERS = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def given(environment: Mapping[str, str]) -> str | None:
    """The variable that says that this job was given a GPU, as NAME=value; None when none says so.

    In a job of SLURM, its own variables decide: CUDA_VISIBLE_DEVICES may come from the shell that submitted the job.
    Elsewhere CUDA_VISIBLE_DEVICES decides, which other schedulers set. Where it hides all GPUs, the job has none,
    whatever the scheduler says: a user may want that.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in HIDDEN:
        return None
    names: tuple[str, ...] = OF_OTHERS
    if "SLURM_JOB_ID" in environment:
        # A step without GPUs in a job with GPUs keeps SLURM_JOB_GPUS, but neither the first two nor what CUDA sees.
        names = ("SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE", *("SLURM_JOB_GPUS",) * (visible is not None))
    none = {"SLURM_GPUS_ON_NODE": "0"}  # a number; the others hold ids, of which 0 is one
    said = ((name, environment[name].strip()) for name in names if name in environment)
    return next((f"{name}={value}" for name, value in said if value not in (*HIDDEN, none.get(name))), None)


def chosen(device: Literal["auto", "cpu", "gpu"], usable: bool, why_not: Callable[[], str]) -> bool:
    """Decide for the value of `execution.device` whether to compute on a GPU.

    Args:
        device: What the config asks for.
        usable: Whether a GPU can be used.
        why_not: Gives the reason, when it cannot.

    Raises:
        ConfigError: no GPU can be used, but the config asks for one, or this job was given one.
    """
    if device == "cpu" or usable:
        return device != "cpu"
    if device == "gpu":
        raise ConfigError(f"execution.device: gpu is asked for, but {why_not()}; mend that, or use auto or cpu")
    if sign := given(os.environ):
        raise ConfigError(
            f"execution.device: auto, in a job that was given a GPU ({sign}), but {why_not()}; mend that (`alloyscope "
            f"doctor` in such a job shows it, too), ask for a job without a GPU, or set execution.device to cpu"
        )
    return False


@cache
def driver_fault() -> str | None:
    """Why the CUDA driver finds no GPU; None when it finds one."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        return f"there is no CUDA driver here ({error})"
    if code := driver.cuInit(0):
        name = ctypes.c_char_p()
        known = driver.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value is not None
        return f"the CUDA driver does not start (cuInit: {name.value.decode() if known and name.value else code})"
    return None


def cupy_fault() -> str | None:
    """Why CuPy cannot use a GPU; None when it can."""
    if fault := driver_fault():
        return fault
    try:
        import cupy

        devices = cupy.cuda.runtime.getDeviceCount()
    except ModuleNotFoundError as error:
        return f"CuPy is not installed ({first_line(error)}; envs/gpu.txt, envs/gpu-cuda13.txt)"
    except Exception as error:  # noqa: BLE001 - CuPy's errors have no common class; each is a reason and is told
        return f"CuPy does not start ({type(error).__name__}: {first_line(error)})"
    return None if devices else "CuPy finds no device"


def torch_fault() -> str | None:
    """Why torch cannot use a GPU; None when it can."""
    if fault := driver_fault():
        return fault
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return f"torch {torch.__version__} (CUDA {torch.version.cuda}) does not start ({first_line(error)})"
    return f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no device"


def first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def images_fault() -> str:
    """Why neither CuPy nor torch can use a GPU, for images."""
    return driver_fault() or f"{cupy_fault()}, and {torch_fault()}"


def account(environment: Mapping[str, str] = os.environ) -> str:
    """What a job's GPU is good for, in words, for the doctor.

    Raises:
        ConfigError: the job was given a GPU that images or training cannot use.
    """
    sign = given(environment)
    if sign is None:
        return "none was given to this environment"
    if fault := driver_fault():
        raise ConfigError(f"given ({sign}), but {fault}")
    if fault := torch_fault():
        usable = "only images can use it" if cupy_fault() is None else f"nothing can use it: {cupy_fault()}"
        raise ConfigError(f"given ({sign}), but {usable}, and {fault}")
    return f"given ({sign}); images and training can use it"
