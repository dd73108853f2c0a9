"""The types of settings that are more than numbers and names; every refusal says what would be taken."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr

SQLITE = "sqlite:///"
KAFKA = "kafka://"
FILE = "file://"
MIN_PASSPHRASE = 12
MIN_SECRET_BYTES = 32
_HTTP = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_BROKER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_LAST_PORT = 65535
_OPTIONS = (
    *("ssl.", "sasl.", "enable.ssl.", "enable.sasl.", "socket.", "broker.address.", "client.dns.", "client.rack"),
    *("connections.", "reconnect.", "retry.backoff.", "metadata.max.age."),
)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def path_of(url: str) -> Path:
    """The path that a ``sqlite:///`` or ``file://`` URL names: ``sqlite:////abs/ledger.db``, ``file:///abs/folder``."""
    return Path(url.removeprefix(SQLITE).removeprefix(FILE))


def _sqlite(url: str) -> str:
    if not url.startswith(SQLITE) or len(url) == len(SQLITE):
        raise ValueError("only sqlite:////absolute/path works with this version: no other database is spoken to")
    return _absolute(url)


def servers_of(url: str) -> str:
    """The brokers that a ``kafka://`` URL names, as librdkafka takes them: ``host:port,host:port``."""
    return url.removeprefix(KAFKA)


def _log(url: str) -> str:
    if url.startswith(KAFKA):
        return _kafka(url)
    if not url.startswith(SQLITE) or len(url) == len(SQLITE):
        raise ValueError("it is sqlite:////absolute/path or kafka://host:port[,host:port]")
    return _absolute(url)


def _kafka(url: str) -> str:
    if "@" in url:
        raise ValueError("a login is no part of it: set TG_KAFKA_SASL_USERNAME and TG_KAFKA_SASL_PASSWORD")
    for broker in servers_of(url).split(","):
        found = _BROKER.fullmatch(broker)
        if not found or not 0 < int(found["port"]) <= _LAST_PORT:
            raise ValueError(
                "each broker has a port and nothing behind it: kafka://host:9092,host:9092; topics are named by "
                "TG_KAFKA_PREFIX"
            )
    return url


def _prefix(name: str) -> str:
    if not _PREFIX.fullmatch(name):
        raise ValueError("it has at most 64 letters, digits, dashes and dots, and begins with a letter or a digit")
    return name


def options_of(secret: SecretStr) -> dict[str, str]:
    """The options in ``name=value;name=value``."""
    pairs = (each.partition("=") for each in secret.get_secret_value().split(";") if each.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _options(secret: SecretStr) -> SecretStr:
    for name, value in options_of(secret).items():
        if not value:
            raise ValueError("it is name=value;name=value")
        if not name.startswith(_OPTIONS):
            raise ValueError(f"only options of the connection are taken: those that begin with {', '.join(_OPTIONS)}")
    return secret


def _file(url: str) -> str:
    if not url.startswith(FILE) or len(url) == len(FILE):
        raise ValueError("only file:///absolute/folder works with this version: no other blob store is spoken to")
    return _absolute(url)


def _http(url: str) -> str:
    if not _HTTP.fullmatch(url):
        raise ValueError("it is the address of an HTTP server: http://host:port")
    return url


def _registry(secret: SecretStr) -> SecretStr:
    _http(secret.get_secret_value())
    return secret


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


LogUrl = Annotated[str, AfterValidator(_log)]
TopicPrefix = Annotated[str, AfterValidator(_prefix)]
ClientOptions = Annotated[SecretStr, AfterValidator(_options)]
SqliteUrl = Annotated[str, AfterValidator(_sqlite)]
FileUrl = Annotated[str, AfterValidator(_file)]
HttpUrl = Annotated[str, AfterValidator(_http)]
RegistryUrl = Annotated[SecretStr, AfterValidator(_registry)]
Device = Annotated[str, AfterValidator(_device)]
Networks = Annotated[str, AfterValidator(_networks)]
Passphrase = Annotated[SecretStr, AfterValidator(_passphrase)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
