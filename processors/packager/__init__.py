"""The packager: turns a checkpoint into a signed, sealed package for devices."""

from processors.packager.packager import Packager

__all__ = ["Packager"]
