"""The tasks by name; each module of this folder holds one."""

import sys

from alloyscope.learn.task import Task
from alloyscope.records import records

TASKS = records(sys.modules[__name__], Task)  # type: ignore[type-abstract]
