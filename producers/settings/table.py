"""The settings as rows: for ``docs/operations.md`` and for ``tensorguard config show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.settings.about import ELSEWHERE
from producers.settings.fields import ABOUT, Settings, variable
from producers.settings.reading import masked

if TYPE_CHECKING:
    from producers.settings.reading import Setup


def documented() -> list[str]:
    """The rows of the page's table: setting, default, secret, who reads it, what it does."""
    return [
        f"| `{variable(name)}` | {_default(name)} | {'yes' if about.secret else ''} | {', '.join(about.readers)} "
        f"| {about.meaning} |"
        for name, about in ABOUT.items()
    ]


def documented_elsewhere() -> list[str]:
    """The rows of the page's second table: what no process of a server reads."""
    return [f"| `{name}` | {meaning} |" for name, meaning in ELSEWHERE.items()]


def shown(setup: Setup) -> list[dict[str, Any]]:
    """Each setting with its value, secrets masked, and where that came from."""
    return [
        {
            "setting": variable(name),
            "value": masked(name, getattr(setup.settings, name)),
            "source": setup.sources[name],
            "secret": about.secret,
            "readers": list(about.readers),
            "meaning": about.meaning,
        }
        for name, about in ABOUT.items()
    ]


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    return "none" if value is None else f"`{int(value) if isinstance(value, bool) else value}`"
