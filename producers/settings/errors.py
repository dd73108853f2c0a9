"""A setting that cannot be used."""

from __future__ import annotations

from tensorguard.errors import UsageError


class SettingsError(UsageError):
    """A setting holds what it cannot, or the settings' file cannot be read; the message names it, never its value."""

    code = "settings"
    next_step = "`tensorguard config show` lists every setting, and where its value comes from."
