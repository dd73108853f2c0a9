"""What an operator may set of the platform: one table of all settings, and the one way to read it."""

from __future__ import annotations

from producers.settings.errors import SettingsError
from producers.settings.fields import Settings
from producers.settings.reading import Setup, child_environment, read, unknown

__all__ = ["Settings", "SettingsError", "Setup", "child_environment", "read", "unknown"]
