"""The step `train`: what it writes, how it goes on after a kill, what it refuses."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from alloyscope.cli import main
from alloyscope.errors import ConfigError, ContractError, StoreError
from alloyscope.learn.data import Images
from alloyscope.learn.model import Learner
from alloyscope.learn.task import Task
from alloyscope.learn.tasks import TASKS
from alloyscope.learn.visits import Visit
from alloyscope.microscope.settings import DetectorSection
from alloyscope.stages import train
from alloyscope.store.checkpoints import load_checkpoint, save_checkpoint
from tests.stages.synthetic_images import alter, beside, build
from tests.waiting import wait_until

DETECTOR = DetectorSection(dose_e_per_A2=(800.0, 1250.0))
SPECIES = ("Ag", "Co")
SETTINGS = TASKS["reading"](epochs=2, batch_size=16, width=4, learning_rate=3e-3)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return build(tmp_path / "hrtem", n_particles=15)


@pytest.fixture(autouse=True)
def _login_node(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's srun is on the path: Lightning shall not speak of it."""
    srun = tmp_path_factory.mktemp("bin") / "srun"
    srun.touch(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums over several threads may round differently from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(dataset: Path, out: Path, settings: Task = SETTINGS, task="reading", **options: int) -> Path:
    options = {"seed": 0, "loader_workers": 0, "structures": beside(dataset.parent), "species": SPECIES, **options}
    train.run(task=task, dataset=dataset, settings=settings.model_dump(), detector=DETECTOR, out=out, **options)
    return out


def command(dataset: Path, out: Path, settings: Task) -> list[str]:
    options = {"task": "reading", "seed": 0, "dataset": dataset, "out": out}
    options |= {"settings": settings.as_json(), "detector": DETECTOR.as_json(), "structures": beside(dataset.parent)}
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))] + ["--species", *SPECIES]
    return [sys.executable, "-m", "alloyscope", "train", *flags]


def run_until_killed(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int, settings: Task = SETTINGS, **options: int
) -> None:
    """Kill a training after so many steps; where an epoch ends, after its validation and checkpoint."""

    def killing(whole):
        def end(self, trainer, *arguments):
            whole(self, trainer, *arguments)
            last = trainer.global_step % trainer.num_training_batches == 0
            if trainer.global_step == steps and (not last or len(arguments) == 1):
                raise InterruptedError("killed")

        return end

    with monkeypatch.context() as patch:
        for hook in ("on_train_batch_end", "on_train_epoch_end"):
            patch.setattr(train.Keeper, hook, killing(getattr(train.Keeper, hook)))
        with pytest.raises(InterruptedError):
            run(dataset, out, settings, **options)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "metrics.csv").drop(columns=["seconds", "images_per_s", "wait_share"])


def test_killed_after_one_epoch_equals_two_in_one_go(dataset, tmp_path, monkeypatch):
    straight = run(dataset, tmp_path / "straight")
    killed = tmp_path / "killed"
    run_until_killed(dataset, killed, monkeypatch, steps=2)
    assert not (killed / "run.json").exists()
    run(dataset, killed)
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(straight / name, killed / name)
    pd.testing.assert_frame_equal(history(straight), history(killed))
    assert history(killed)["epoch"].tolist() == [0, 1]


@pytest.mark.parametrize(("killed_at", "lost"), [(3, 1), (7, 0), (8, 1)], ids=["first epoch", "second", "later"])
def test_killed_in_the_middle_of_an_epoch_equals_one_go(dataset, tmp_path, monkeypatch, killed_at, lost):
    """18 images in batches of 4 are 5 steps an epoch; checkpoints come after 2 and 4 of them, and at its end."""
    settings = SETTINGS.model_copy(update={"batch_size": 4})
    straight, killed = run(dataset, tmp_path / "straight", settings), tmp_path / "killed"
    run_until_killed(dataset, killed, monkeypatch, killed_at, settings, checkpoint_steps=2)
    assert load_checkpoint(killed / "last.ckpt")["global_step"] == killed_at - lost
    run(dataset, killed, settings)
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(straight / name, killed / name)
    pd.testing.assert_frame_equal(history(straight), history(killed))
    images = pd.read_csv(killed / "metrics.csv").eval("images_per_s * seconds")
    assert (images >= 5 * 4).all()  # the seconds of validation come on top


def test_preempted_with_sigterm_goes_on_and_equals_undisturbed(dataset, tmp_path):
    """Preemption as SLURM does it; the step must not end with exit code 0, which Lightning would give it."""
    settings = SETTINGS.model_copy(update={"visits": 12 * 32})  # one epoch of 24 steps
    straight, preempted = run(dataset, tmp_path / "straight", settings), tmp_path / "preempted"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    words = command(dataset, preempted, settings)
    process = subprocess.Popen([*words, "--checkpoint-steps", "3"], stderr=subprocess.PIPE, text=True, env=one_thread)
    wait_until((preempted / "last.ckpt").exists, process, "checkpoint", pause_s=0.01)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == 128 + signal.SIGTERM, errors
    ended = re.search(r"reading: ended by SIGTERM in epoch (\d+); run snakemake again to resume there\n$", errors)
    assert ended, errors
    assert not (preempted / "run.json").exists()
    assert 3 <= load_checkpoint(preempted / "last.ckpt")["global_step"] < 24
    again = subprocess.run(words, check=True, capture_output=True, text=True, env=one_thread)
    assert "epoch 1 of 1" in again.stderr
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(straight / name, preempted / name)
    pd.testing.assert_frame_equal(history(straight), history(preempted))


def test_a_training_says_how_long_it_waits_for_images(dataset, tmp_path, monkeypatch, capsys):
    slow_s, get = 0.02, Images.__getitem__

    def slowly(self: Images, visit: Visit) -> Any:
        time.sleep(slow_s * len(visit.places))
        return get(self, visit)

    monkeypatch.setattr(Images, "__getitem__", slowly)
    out = run(dataset, tmp_path / "out")
    rows = pd.read_csv(out / "metrics.csv")
    waited_per_image_s = rows["wait_share"] / rows["images_per_s"]
    assert (waited_per_image_s >= slow_s).all()
    assert (rows["wait_share"] < 1).all()
    assert json.loads((out / "run.json").read_text())["wait_share_per_epoch"] == rows["wait_share"].tolist()
    assert re.search(r"epoch 1 of 2, .* images/s, .*% of it waiting for images, .* left, ", capsys.readouterr().err)


def test_two_trainings_of_one_seed_agree_and_of_two_seeds_differ(dataset, tmp_path):
    one, same = run(dataset, tmp_path / "one"), run(dataset, tmp_path / "same")
    assert_same_weights(one / "last.ckpt", same / "last.ckpt")
    other = weights(run(dataset, tmp_path / "other", seed=1) / "last.ckpt")
    assert any(not torch.equal(tensor, other[name]) for name, tensor in weights(one / "last.ckpt").items())


def test_finished_training_is_not_repeated_and_its_files_come_back(dataset, tmp_path, monkeypatch):
    out = run(dataset, tmp_path / "out")
    before = weights(out / "best.ckpt")
    for name in ("best.ckpt", "metrics.csv", "run.json"):
        (out / name).unlink()
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("trained again"))
    run(dataset, out)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(out / "best.ckpt").items())
    assert history(out)["epoch"].tolist() == [0, 1]
    assert (out / "run.json").exists()


def test_gpu_of_a_finished_training_is_not_forgotten(dataset, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train, "gpu", lambda: "H100")
        out = run(dataset, tmp_path / "out", SETTINGS.model_copy(update={"epochs": 1}))
    run(dataset, out, SETTINGS.model_copy(update={"epochs": 1}))
    assert json.loads((out / "run.json").read_text())["provenance"]["gpu"] == "H100"


def test_other_settings_start_afresh(dataset, tmp_path, capsys):
    out = run(dataset, tmp_path / "out")
    run(dataset, out, SETTINGS.model_copy(update={"epochs": 1}))
    assert "belongs to other settings or another image set" in capsys.readouterr().err
    assert history(out)["epoch"].tolist() == [0]


def test_damaged_checkpoint_starts_afresh(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "last.ckpt").write_bytes(b"PK\x03\x04 half a file")
    run(dataset, out)
    assert "damaged or not a checkpoint" in capsys.readouterr().err
    assert history(out)["epoch"].tolist() == [0, 1]


def test_best_checkpoint_is_of_the_best_epoch_and_loads_in_lightning(dataset, tmp_path):
    out = run(dataset, tmp_path / "out")
    account = json.loads((out / "run.json").read_text())
    losses = pd.read_csv(out / "metrics.csv").set_index("epoch")["validation_loss"]
    assert account["best_epoch"] == losses.idxmin()
    module = Learner.load_from_checkpoint(out / "best.ckpt", weights_only=True)
    stored = weights(out / "best.ckpt")
    assert all(torch.equal(stored[name], tensor) for name, tensor in module.state_dict().items())
    assert module.card.seen == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12]  # 14 is not valid; 3, 8, 13 are test


def test_account_counts_valid_images_by_split(dataset, tmp_path):
    out = run(dataset, tmp_path / "out")
    account = json.loads((out / "run.json").read_text())
    assert account["splits"] == {
        "train": {"particles": 9, "images": 18},
        "validation": {"particles": 2, "images": 4},
        "test": {"particles": 3, "images": 6},
    }
    assert account["provenance"]["stage"] == "train"


@pytest.mark.slow  # workers import torch anew
def test_resumed_with_worker_processes_equals_two_epochs_in_one_go_without(dataset, tmp_path, monkeypatch):
    straight = run(dataset, tmp_path / "straight")
    killed = tmp_path / "killed"
    run_until_killed(dataset, killed, monkeypatch, steps=2)
    run(dataset, killed, loader_workers=1)
    assert_same_weights(straight / "last.ckpt", killed / "last.ckpt")


def test_command_line(dataset, tmp_path):
    words = ["train", "--task", "denoising", "--seed", "1", "--dataset", str(dataset), "--out", str(tmp_path / "out")]
    words += ["--settings", '{"epochs": 1, "width": 4, "batch_size": 16}', "--detector", DETECTOR.as_json()]
    assert main([*words, "--loader-workers", "0"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seed"] == 1


def test_refuses_a_set_without_validation_images(dataset, tmp_path):
    alter(dataset, split="train")
    with pytest.raises(ContractError, match="split validation must hold at least one valid image"):
        run(dataset, tmp_path / "out")


def test_refuses_pixels_that_do_not_fold(tmp_path):
    dataset = build(tmp_path / "hrtem", n_particles=5, pixels=40)
    with pytest.raises(ConfigError, match=r"imaging.pixels must be a multiple of 16 to train on; got \(40, 40\)"):
        run(dataset, tmp_path / "out")


def test_says_when_the_rate_is_too_high(dataset, tmp_path):
    settings = TASKS["denoising"](epochs=2, batch_size=16, width=4, learning_rate=1e30)
    with pytest.raises(ConfigError, match=r"training.denoising.learning_rate: must be lower; at 1e\+30 the loss"):
        run(dataset, tmp_path / "out", settings, task="denoising")


def test_refuses_a_missing_or_foreign_account(dataset, tmp_path):
    with pytest.raises(StoreError, match=r"nowhere\.json: cannot be read"):
        run(tmp_path / "nowhere.json", tmp_path / "out")
    dataset.write_text("{}")
    with pytest.raises(StoreError, match="not the account of an image set, it lacks"):
        run(dataset, tmp_path / "out")


def test_refuses_an_index_that_does_not_fit(dataset, tmp_path):
    alter(dataset, image=1000)
    with pytest.raises(ContractError, match=r"images\.parquet lists image 1000; clean has the shape"):
        run(dataset, tmp_path / "out")
    path = dataset.parent / "images.parquet"
    pd.read_parquet(path).drop(columns="ordering").to_parquet(path)
    with pytest.raises(ContractError, match=r"it lacks \['ordering'\]"):
        run(dataset, tmp_path / "out")


def test_refuses_a_folder_that_cannot_be_written(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        run(dataset, tmp_path / "file" / "out")


def test_checkpoint_without_space_is_one_error(tmp_path):
    save_checkpoint(tmp_path / "last.ckpt", {"epoch": 0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
        with pytest.raises(StoreError, match=r"last\.ckpt: cannot be written \(File too large\); nothing was replaced"):
            save_checkpoint(tmp_path / "last.ckpt", {"weights": torch.zeros(65_536)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def unlabelled(dataset: Path) -> None:
    """Every second particle loses its label, as a pure one has none; every fourth is neither."""
    table = pd.read_parquet(dataset.parent / "images.parquet")
    ordering = table["ordering"].astype("string").mask(table["particle"] % 4 == 1, "other")
    alter(dataset, ordering=ordering.mask(table["particle"] % 2 == 0))


@pytest.mark.parametrize("task", list(TASKS))
def test_particles_without_an_order_stop_no_training(dataset, tmp_path, task, capsys):
    unlabelled(dataset)
    out = run(dataset, tmp_path / "out", TASKS[task](epochs=1, batch_size=4, width=4), task)
    account = json.loads((out / "run.json").read_text())
    images = pd.read_parquet(dataset.parent / "images.parquet").query("valid and split == 'train'")
    assert account["splits"]["train"]["images"] == len(images)  # none is left out
    without = (~images["ordering"].isin(["core_shell", "janus"])).sum()
    sentence = f"reading: in the split train, {without} of {len(images)} images are of particles"
    assert (sentence in capsys.readouterr().err) == (task == "reading")


def test_a_validation_split_without_any_order_has_no_accuracy(dataset, tmp_path):
    table = pd.read_parquet(dataset.parent / "images.parquet")
    alter(dataset, ordering=table["ordering"].astype("string").mask(table["split"] == "validation"))
    rows = history(run(dataset, tmp_path / "out"))
    assert "validation_accuracy" not in rows
    assert rows["validation_loss"].notna().all()
