"""A kill and a full disk in the middle of writing: nothing half-written stays, the next run gives the same bytes."""

import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alloyscope.microscope.settings import ImagingSection
from alloyscope.store.images import shard_name
from alloyscope.store.manifests import manifest_name
from tests.stages.synthetic_md import DETECTOR, OPTICS, PER_CHUNK, SEED, write_md_chunk
from tests.waiting import LIMIT_s

OWN_MOUNTS = ("unshare", "--map-root-user", "--mount", "bash", "-c")
IMAGING = ImagingSection(grid=256, n_slices=6, views=5, max_shift_A=1.0, checked_waves=0)


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    write_md_chunk(tmp_path / "structures", 0)
    return tmp_path


def hrtem_command(root: Path) -> list[str]:
    arguments = {
        "chunk": 0,
        "md-chunks": 0,
        "structures": root / "structures",
        "capacity": PER_CHUNK,
        "seed": SEED,
        "imaging": IMAGING.as_json(),
        "optics": OPTICS.as_json(),
        "detector": DETECTOR.as_json(),
        "manifest": root / "hrtem" / manifest_name(0),
    }
    flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "alloyscope", "hrtem", *flags]


def hrtem(root: Path, limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(hrtem_command(root), stderr=subprocess.PIPE, text=True, preexec_fn=limit)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    errors = process.communicate(timeout=600)[1]
    return process.returncode, errors


def contents(root: Path, place: str = "hrtem") -> dict[str, bytes]:
    """Every data file under hrtem/; the manifest holds run times."""
    folder = root / place
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != manifest_name(0)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed")
    write_md_chunk(place / "structures", 0)
    assert finish(hrtem(place))[0] == 0
    return place


def test_hrtem_killed_while_it_writes_its_shard(campaign: Path, undisturbed: Path) -> None:
    for _ in range(5):  # a busy machine may oversleep the tenth of a second in which the shard is written
        shutil.rmtree(campaign / "hrtem", ignore_errors=True)
        process = hrtem(campaign)
        end = time.monotonic() + LIMIT_s
        while process.poll() is None and not list((campaign / "hrtem").glob(".*.aside")):
            assert time.monotonic() < end, f"no shard is written within {LIMIT_s:g} s"
            time.sleep(0.0005)
        process.kill()
        finish(process)
        if not (campaign / "hrtem" / manifest_name(0)).exists():
            break
    assert process.returncode == -signal.SIGKILL
    assert list((campaign / "hrtem").glob(".*.aside"))

    assert finish(hrtem(campaign))[0] == 0
    assert contents(campaign) == contents(undisturbed)
    assert set(contents(campaign)) == {shard_name("clean", 0), shard_name("counts", 0), "chunk-000000.parquet"}


def test_hrtem_without_space_is_one_error_and_leaves_nothing(campaign: Path) -> None:
    def small_files() -> None:
        # no file may grow beyond 64 kB: what a full disk does to a shard in its middle
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

    code, errors = finish(hrtem(campaign, small_files))
    assert code == 2
    last = errors.splitlines()[-1]
    assert last.startswith("alloyscope hrtem: ")
    assert "cannot be written (File too large); nothing was replaced" in last
    assert "Traceback" not in errors
    assert contents(campaign) == {}
    assert not (campaign / "hrtem" / manifest_name(0)).exists()


def small_disk_refused() -> str:
    """Why this user cannot mount a file system of its own; empty when it can. Root is not needed where the kernel
    lets users have namespaces."""
    try:
        trial = subprocess.run([*OWN_MOUNTS, "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return trial.stderr.strip()


def test_disk_full_in_the_middle_of_a_shard(campaign: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A real file system too small for the second shard; with room made, the same command ends as if undisturbed."""
    if refused := small_disk_refused():
        pytest.skip(f"needs a mount of its own: {refused}")
    first, second = ((undisturbed / "hrtem" / shard_name(name, 0)).stat().st_size for name in ("clean", "counts"))
    disk = tmp_path / "disk"
    disk.mkdir()
    words = shlex.join(hrtem_command(disk))
    script = f"""
        mount -t tmpfs -o size={(20_480 + first + second // 2) // 1024}k none {disk}
        cp -r {campaign}/structures {disk}
        {words}; echo "code $?"
        find {disk}/hrtem -type f -printf 'left %p\\n'
        mount -o remount,size=16m {disk}
        {words} || exit 1
        cp -r {disk}/hrtem {campaign}/hrtem.disk
    """
    done = subprocess.run([*OWN_MOUNTS, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["code 2"]
    refusal = next(line for line in done.stderr.splitlines() if line.startswith("alloyscope hrtem: chunk 0: "))
    assert re.search(r"No space left on device\); nothing was replaced; the disk is full: make room and run", refusal)
    assert "Traceback" not in done.stderr
    assert contents(campaign, "hrtem.disk") == contents(undisturbed)
