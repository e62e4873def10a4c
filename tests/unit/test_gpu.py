"""A job that was given a GPU uses it or fails with the reason; without one, `auto` takes the CPU in silence."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from alloyscope.errors import ConfigError
from alloyscope.imaging import abtem_engine
from alloyscope.learn.model import make_trainer
from alloyscope.microscope import arrays, gpu
from alloyscope.microscope.arrays import CPU, backend_for

# What SLURM 22.05 sets: a batch script, a step of it, a step with --gres=none, each in a job with --gres=gpu:1
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"}
STEP = {**BATCH, "SLURM_STEP_GPUS": "0", "GPU_DEVICE_ORDINAL": "0"}
STEP_WITHOUT = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}
OLDER = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        (BATCH, "SLURM_GPUS_ON_NODE=1"),
        (STEP, "SLURM_STEP_GPUS=0"),
        (STEP_WITHOUT, None),
        (OLDER, "SLURM_JOB_GPUS=2,3"),
        ({"SLURM_JOB_ID": "7"}, None),  # a job without GPUs, on a node that has some
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "0"}, None),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, None),  # of the shell that submitted the job
        ({**STEP, "CUDA_VISIBLE_DEVICES": ""}, None),  # the user hides it
        ({**STEP, "CUDA_VISIBLE_DEVICES": "-1"}, None),
        ({**STEP, "CUDA_VISIBLE_DEVICES": "GPU-5c1a"}, "SLURM_STEP_GPUS=0"),
        ({}, None),  # a workstation, a login node
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
        ({"CUDA_VISIBLE_DEVICES": "-1,0"}, None),  # CUDA stops at the first that is none
        ({"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES=1"),  # LSF, HTCondor, PBS
        ({"GPU_DEVICE_ORDINAL": "0"}, "GPU_DEVICE_ORDINAL=0"),
        ({"SLURM_JOB_GPUS": "0", "PBS_JOBID": "3"}, None),
    ],
)
def test_who_was_given_a_gpu(environment: dict[str, str], sign: str | None) -> None:
    assert gpu.given(environment) == sign


class Driver:
    """A CUDA driver that answers cuInit with a code."""

    def __init__(self, code: int) -> None:
        self.code = code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuGetErrorName(self, code: int, name: Any) -> int:
        if code != 100:
            return 1
        name._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends a driver (None: absent; else what cuInit answers), CuPy (an error on import, or a count) and torch."""

    def forget() -> None:
        gpu.driver_fault.cache_clear()
        arrays.gpu_backend.cache_clear()

    def pretend(driver: int | None = None, cupy: Any = None, cuda: str | None = None, torch: bool = False) -> None:
        forget()

        def load(name: str) -> Driver:
            assert name == "libcuda.so.1"
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return Driver(driver)

        def count() -> int:
            if isinstance(cupy, Exception):
                raise cupy
            return int(cupy)

        runtime = SimpleNamespace(getDeviceCount=count)
        answer = None if cupy is None else SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
        monkeypatch.setattr(gpu.ctypes, "CDLL", load)
        monkeypatch.setitem(sys.modules, "cupy", answer)  # None: import fails
        monkeypatch.setattr(abtem_engine.abtem_backend, "cp", answer)
        monkeypatch.setattr("torch.version.cuda", cuda)
        monkeypatch.setattr("torch.cuda.is_available", lambda: torch)

        def start() -> None:
            raise RuntimeError("The NVIDIA driver on your system is too old\nmore")

        monkeypatch.setattr("torch.cuda.init", start)

    for name in {*BATCH, *STEP}:
        monkeypatch.delenv(name, raising=False)
    yield pretend
    monkeypatch.undo()
    forget()


FAULTS = [
    ({}, "there is no CUDA driver here \\(libcuda.so.1: cannot open"),
    ({"driver": 100}, "the CUDA driver does not start \\(cuInit: CUDA_ERROR_NO_DEVICE\\)"),
    ({"driver": 999}, "the CUDA driver does not start \\(cuInit: 999\\)"),
    ({"driver": 0}, "CuPy is not installed .*envs/gpu.txt.*, and torch \\S+ is built without CUDA"),
    (
        {"driver": 0, "cupy": RuntimeError("cudaErrorInsufficientDriver: old")},
        "CuPy does not start \\(RuntimeError: cuda",
    ),
    (
        {"driver": 0, "cupy": 0, "cuda": "12.8"},
        "CuPy finds no device, and torch .*CUDA 12.8.*driver on your system is too",
    ),
]


@pytest.mark.parametrize(("found", "reason"), FAULTS)
def test_images_of_a_job_with_a_gpu_fail_with_the_reason(
    machine: Any, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], reason: str
) -> None:
    machine(**found)
    assert backend_for("auto") is CPU  # no GPU was given: as ever
    for name, value in BATCH.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match=rf"auto, in a job that was given a GPU \(SLURM_GPUS_ON_NODE=1\), but {reason}"
    ):
        backend_for("auto")
    with pytest.raises(ConfigError, match=f"gpu is asked for, but {reason}"):
        backend_for("gpu")
    assert backend_for("cpu") is CPU


@pytest.mark.parametrize(("found", "reason"), FAULTS[:5])
def test_abtem_and_training_follow_the_same_rule(
    machine: Any, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], reason: str
) -> None:
    machine(**found)
    assert abtem_engine.device_for("auto") == "cpu"
    assert type(make_trainer().accelerator).__name__ == "CPUAccelerator"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigError, match=r"given a GPU \(CUDA_VISIBLE_DEVICES=0\), but abTEM needs CuPy: "):
        abtem_engine.device_for("auto")
    with pytest.raises(
        ConfigError, match=r"given a GPU \(CUDA_VISIBLE_DEVICES=0\), but (there is|the CUDA|torch \S+ is)"
    ):
        make_trainer()
    assert abtem_engine.device_for("cpu") == "cpu"
    assert type(make_trainer("cpu").accelerator).__name__ == "CPUAccelerator"
    assert abtem_engine.reference_device("auto") == "cpu"  # a few waves, whatever makes the images


def test_a_gpu_that_torch_alone_can_use_is_enough_for_our_engine(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(driver=0, cuda="12.8", torch=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert backend_for("auto").device == "cuda"  # type: ignore[attr-defined]
    assert gpu.torch_fault() is None
    assert abtem_engine.reference_device("gpu") == "cpu"
    with pytest.raises(ConfigError, match="abTEM needs CuPy: CuPy is not installed"):
        abtem_engine.device_for("auto")


def test_the_doctor_says_what_the_gpu_of_a_job_is_good_for(machine: Any) -> None:
    machine(driver=0, cupy=1, cuda="12.8", torch=True)
    assert gpu.account({}) == "none was given to this environment"
    assert gpu.account(STEP) == "given (SLURM_STEP_GPUS=0); images and training can use it"
    machine(driver=0, cupy=1)
    with pytest.raises(ConfigError, match=r"only images can use it, and torch \S+ is built without CUDA"):
        gpu.account(STEP)
    machine(driver=0)
    with pytest.raises(
        ConfigError, match=r"nothing can use it: CuPy is not installed .*, and torch \S+ is built without"
    ):
        gpu.account(STEP)
    machine()
    with pytest.raises(ConfigError, match=r"given \(SLURM_STEP_GPUS=0\), but there is no CUDA driver here"):
        gpu.account(STEP)
