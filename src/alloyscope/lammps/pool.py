"""Worker processes that run simulations; errors, aborts and hangs are returned as values.

LAMMPS can abort its process. It then ends only a worker, and the chunk goes on.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Literal, Self

from alloyscope.errors import SimulationError
from alloyscope.lammps.commands import Simulation, Trajectory, simulate
from alloyscope.lammps.start import open_lammps, start_fault

FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGHUP")  # LAMMPS itself ends with other signals: SIGABRT, SIGSEGV, SIGFPE
STARTED = "LAMMPS has started"  # a worker's first message


@dataclass(frozen=True)
class RunFailure:
    """A run without a result: LAMMPS reported an error, its process died or was killed from outside, or it hung."""

    kind: Literal["error", "died", "killed", "hang"]
    reason: str


def _worker(connection: Connection, parent: int) -> None:
    if sys.platform == "linux":
        # When the stage's process is killed with SIGKILL, the kernel kills its workers, too.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            return
    lmp = open_lammps()
    connection.send(STARTED)
    while True:
        try:
            run: Simulation = connection.recv()
        except EOFError:
            return
        try:
            outcome: Trajectory | RunFailure = simulate(lmp, run)
        except Exception as error:  # noqa: BLE001 - the lammps module raises bare Exception
            connection.send(RunFailure("error", " ".join(str(error).split())))
            return  # the state of LAMMPS is now unknown, so the next run gets a new process
        connection.send(outcome)


@dataclass
class _Seat:
    process: SpawnProcess
    connection: Connection
    key: int = -1
    deadline: float = float("inf")
    started: bool = False


@dataclass
class WorkerPool:
    """Worker processes, each running one simulation at a time.

    Attributes:
        size: Number of workers.
        wall_limit_s: Time limit of a run; a run that takes longer counts as hung, and its worker is killed.
    """

    size: int
    wall_limit_s: float
    _seats: list[_Seat] = field(default_factory=list)
    _spare: list[_Seat] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat in self._seats + self._spare:
            seat.process.kill()
            seat.process.join()
            seat.connection.close()

    @property
    def busy(self) -> int:
        return len(self._seats)

    def submit(self, key: int, run: Simulation) -> None:
        """Start a run; at most `size` runs may be active at a time."""
        seat = self._spare.pop() if self._spare else self._start()
        seat.key, seat.deadline = key, time.monotonic() + self.wall_limit_s
        try:
            seat.connection.send(run)
        except (BrokenPipeError, ConnectionResetError):  # an idle worker was killed
            self._stop(seat)
            seat = self._start()
            seat.key, seat.deadline = key, time.monotonic() + self.wall_limit_s
            seat.connection.send(run)
        self._seats.append(seat)

    def next_outcome(self) -> tuple[int, Trajectory | RunFailure]:
        """Wait until any run ends.

        Raises:
            SimulationError: LAMMPS does not start here.
        """
        while True:
            limit = max(0.0, min(seat.deadline for seat in self._seats) - time.monotonic())
            if ready := wait([seat.connection for seat in self._seats], timeout=limit):
                seat = next(seat for seat in self._seats if seat.connection is ready[0])
                outcome = self._receive(seat)
            else:
                seat = min(self._seats, key=lambda seat: seat.deadline)
                self._stop(seat)
                outcome = RunFailure("hang", f"no result after {self.wall_limit_s:g} s")
            if outcome is not None:
                self._seats.remove(seat)
                return seat.key, outcome

    def _start(self) -> _Seat:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_worker, args=(there, os.getpid()), daemon=True)
        process.start()
        there.close()
        return _Seat(process, here)

    def _receive(self, seat: _Seat) -> Trajectory | RunFailure | None:
        """Receive the outcome that a worker has sent; None when it has sent only that it started."""
        try:
            message: Trajectory | RunFailure | str = seat.connection.recv()
        except (EOFError, OSError):  # also when the worker dies while it sends
            self._stop(seat)
            code = seat.process.exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            if how in FROM_OUTSIDE:
                return RunFailure("killed", f"worker process ended: {how}")
            if not seat.started and (complaint := start_fault(tuple(sorted(os.environ.items())))):
                raise SimulationError(complaint) from None
            return RunFailure("died", f"worker process ended: {how}")
        if isinstance(message, str):
            seat.started = True
            return None
        if isinstance(message, RunFailure):
            self._stop(seat)
        else:
            self._spare.append(seat)
        return message

    @staticmethod
    def _stop(seat: _Seat) -> None:
        seat.connection.close()
        seat.process.join(timeout=1)
        seat.process.kill()
        seat.process.join()
