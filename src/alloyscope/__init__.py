"""alloyscope: simulated electron-microscope images of nanoalloys, and the networks that read them."""

from importlib.metadata import version

__version__ = version("alloyscope")
