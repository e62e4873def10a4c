"""Snakemake's command line with the SLURM executor looking after its jobs every second.

The plugin waits ten seconds longer after each look that found no job ended, which no option of it changes; the test
cluster's jobs take seconds.
"""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)

if __name__ == "__main__":
    sys.exit(main())
