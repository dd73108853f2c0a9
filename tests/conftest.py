"""What holds for every test: how fast this machine is today is no claim of a property."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
