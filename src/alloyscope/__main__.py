"""Entry point of `alloyscope` and `python -m alloyscope`."""

import os
import sys

from alloyscope.cli import main
from alloyscope.lammps.start import leave_preloaded_mpi


def start() -> None:
    """Run the command line and end the process with its exit code."""
    leave_preloaded_mpi()
    code = main()
    if code:  # silence libraries that print while the process ends, so that the error stays the last line
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(code)


if __name__ == "__main__":
    start()
