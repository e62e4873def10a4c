"""The tasks by name: one module of this folder each."""

import sys

from alloyscope.learn.task import Task
from alloyscope.records import records

TASKS = records(sys.modules[__name__], Task)  # type: ignore[type-abstract]
