"""The types of settings that are more than numbers and names; every refusal says what would be taken."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr

SQLITE = "sqlite:///"
FILE = "file://"
MIN_PASSPHRASE = 12
MIN_SECRET_BYTES = 32
_HTTP = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def path_of(url: str) -> Path:
    """The path that a ``sqlite:///`` or ``file://`` URL names: ``sqlite:////abs/ledger.db``, ``file:///abs/folder``."""
    return Path(url.removeprefix(SQLITE).removeprefix(FILE))


def _sqlite(url: str) -> str:
    if not url.startswith(SQLITE) or len(url) == len(SQLITE):
        raise ValueError("only sqlite:////absolute/path works with this version: no other database is spoken to")
    return _absolute(url)


def _file(url: str) -> str:
    if not url.startswith(FILE) or len(url) == len(FILE):
        raise ValueError("only file:///absolute/folder works with this version: no other blob store is spoken to")
    return _absolute(url)


def _http(url: str) -> str:
    if not _HTTP.fullmatch(url):
        raise ValueError("it is the address of an HTTP server: http://host:port")
    return url


def _absolute(url: str) -> str:
    if not path_of(url).is_absolute() or set(url) & set("?#"):
        raise ValueError(
            "the path in it must be absolute and plain: sqlite:////path has four slashes, file:///path three"
        )
    return url


def _device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise ValueError("it is auto, cpu, cuda or cuda:N")
    return name


def _networks(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        try:
            ip_network(name)
        except ValueError:
            raise ValueError("it lists addresses or networks of proxies: 10.0.0.5 or 10.0.0.0/24, by commas") from None
    return ",".join(names)


def _passphrase(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < MIN_PASSPHRASE:
        raise ValueError(f"a passphrase has at least {MIN_PASSPHRASE} characters; `openssl rand -hex 32` makes a key")
    return secret


def _secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"it has at least {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes one")
    return secret


SqliteUrl = Annotated[str, AfterValidator(_sqlite)]
FileUrl = Annotated[str, AfterValidator(_file)]
HttpUrl = Annotated[str, AfterValidator(_http)]
Device = Annotated[str, AfterValidator(_device)]
Networks = Annotated[str, AfterValidator(_networks)]
Passphrase = Annotated[SecretStr, AfterValidator(_passphrase)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
