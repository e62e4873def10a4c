"""The protocols of molecular dynamics by name: one module of this folder each."""

import sys

from alloyscope.md.protocol import Protocol
from alloyscope.records import records

PROTOCOLS = records(sys.modules[__name__], Protocol)  # type: ignore[type-abstract]
