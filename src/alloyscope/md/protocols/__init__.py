"""The protocols of molecular dynamics by name; each module of this folder holds one."""

import sys

from alloyscope.md.protocol import Protocol
from alloyscope.records import records

PROTOCOLS = records(sys.modules[__name__], Protocol)  # type: ignore[type-abstract]
