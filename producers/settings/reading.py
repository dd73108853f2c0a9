"""Reading the settings: from flags, the environment and a file, in this order, with where each value came from."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from producers.settings.about import ELSEWHERE, PREFIX, SECRETS_ELSEWHERE
from producers.settings.errors import SettingsError
from producers.settings.fields import ABOUT, Settings, variable

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "settings.toml"
FLAG, ENVIRONMENT, FILE, DEFAULT = "flag", "environment", "file", "default"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Setup:
    """Checked values, and where each came from: flag, environment, file or default."""

    settings: Settings
    sources: Mapping[str, str]


def read(data_dir: Path | None = None, flags: Mapping[str, Any] | None = None) -> Setup:
    """The settings of a process that works on a data directory; flags that are None were not given.

    Raises:
        SettingsError: a value cannot be used, or the settings' file cannot be read.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = _environment()
    path = _file(environment, data_dir)
    layers = ((FILE, _from_file(path)), (ENVIRONMENT, environment), (FLAG, given))
    values: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.model_fields, DEFAULT)
    for source, layer in layers:
        values |= layer
        sources |= dict.fromkeys(layer, source)
    try:
        return Setup(Settings.model_validate(values), sources)
    except ValidationError as error:
        raise _refusal(error, sources) from None


def child_environment(process: str) -> dict[str, str]:
    """This process's environment for a child, without the secrets that the child does not read."""
    withheld = {variable(name) for name, about in ABOUT.items() if about.secret and process not in about.readers}
    withheld |= SECRETS_ELSEWHERE
    return {name: value for name, value in os.environ.items() if name.upper() not in withheld}


def unknown() -> list[str]:
    """Names in the environment that look like settings, and are none: most likely misspelt."""
    known = {variable(name) for name in ABOUT} | ELSEWHERE.keys()
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def masked(name: str, value: object) -> object:
    """A value as it may be shown."""
    if value is not None and (ABOUT[name].secret or isinstance(value, SecretStr)):
        return "********"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = EnvSettingsSource(Settings)()
    # Names that are not ours alone may be set to nothing, which everywhere else means that they are not set.
    return {name: value for name, value in found.items() if value or variable(name).startswith(PREFIX)}


def _file(environment: Mapping[str, Any], data_dir: Path | None) -> Path | None:
    if named := environment.get("config"):
        if not Path(named).is_file():
            raise SettingsError(f"TG_CONFIG names {named}, which is no file.")
        return Path(named)
    folder = data_dir or environment.get("data_dir")
    path = Path(folder) / FILE_NAME if folder else None
    return path if path and path.is_file() else None


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values: dict[str, Any] = TomlConfigSettingsSource(Settings, path)()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as TOML.") from error
    for name in values:
        if name not in ABOUT or not ABOUT[name].in_file:
            raise SettingsError(f"{path} holds {name!r}, which is no setting of the file.")
        if ABOUT[name].secret and path.stat().st_mode & _OTHERS:
            raise SettingsError(
                f"{path} holds {name} and is open to other users.", next_step=f"Run `chmod 600 {path}`."
            )
    return values


def _refusal(error: ValidationError, sources: Mapping[str, str]) -> SettingsError:
    said = (_sentence(each["loc"], each["msg"], sources) for each in error.errors(include_input=False))
    return SettingsError("; ".join(said) + ".")


def _sentence(place: tuple[str | int, ...], message: str, sources: Mapping[str, str]) -> str:
    name = str(place[0]).lower()
    what = message.removeprefix("Value error, ").removesuffix(".")
    if name not in ABOUT:
        return f"{name}: no such setting"
    source = "" if sources[name] == ENVIRONMENT else f" ({sources[name]})"
    return f"{variable(name)}{source}: {what[0].lower()}{what[1:]}"
