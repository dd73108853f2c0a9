"""What librdkafka is told of the connection to the brokers.

Only what concerns the connection comes from the settings: how records are written and read (acknowledgements,
transactions, isolation) is the engine's, and no setting weakens it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from producers.settings.errors import SettingsError
from producers.settings.values import options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.settings import Settings

_WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def connection_options(settings: Settings) -> dict[str, str]:
    """The connection's options by librdkafka's names. They are checked; no broker was asked.

    Raises:
        SettingsError: settings contradict each other, or a file is not there.
    """
    if faults := [*_login_faults(settings), *_file_faults(settings), *_copy_faults(settings)]:
        raise SettingsError("; ".join(faults) + ".")
    given = {
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ssl_ca,
        "ssl.certificate.location": settings.kafka_ssl_cert,
        "ssl.key.location": settings.kafka_ssl_key,
        "ssl.key.password": settings.kafka_ssl_key_password,
    }
    free = options_of(settings.kafka_options) if settings.kafka_options else {}
    return free | {name: _text(value) for name, value in given.items() if value is not None}


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _login_faults(settings: Settings) -> Iterator[str]:
    mechanism, login = settings.kafka_sasl_mechanism, settings.kafka_security_protocol.startswith("sasl_")
    given = (mechanism, settings.kafka_sasl_username, settings.kafka_sasl_password)
    if login and mechanism is None:
        yield "TG_KAFKA_SECURITY_PROTOCOL asks for a login: TG_KAFKA_SASL_MECHANISM must say which"
    if not login and any(given):
        yield "a login is set, and TG_KAFKA_SECURITY_PROTOCOL has none: it is sasl_ssl, or sasl_plaintext"
    if login and mechanism in _WITH_PASSWORD and not all(given):
        yield f"{mechanism} needs TG_KAFKA_SASL_USERNAME and TG_KAFKA_SASL_PASSWORD"


def _file_faults(settings: Settings) -> Iterator[str]:
    if (settings.kafka_ssl_cert is None) != (settings.kafka_ssl_key is None):
        yield "TG_KAFKA_SSL_CERT and TG_KAFKA_SSL_KEY go together"
    files = {
        "TG_KAFKA_SSL_CA": settings.kafka_ssl_ca,
        "TG_KAFKA_SSL_CERT": settings.kafka_ssl_cert,
        "TG_KAFKA_SSL_KEY": settings.kafka_ssl_key,
    }
    if any(files.values()) and not settings.kafka_security_protocol.endswith("ssl"):
        yield "TLS files are set, and TG_KAFKA_SECURITY_PROTOCOL has no TLS: it is ssl or sasl_ssl"
    yield from (f"{name} names no file" for name, path in files.items() if path and not path.is_file())


def _copy_faults(settings: Settings) -> Iterator[str]:
    if settings.kafka_min_isr > settings.kafka_replication:
        yield "TG_KAFKA_MIN_ISR asks for more copies than TG_KAFKA_REPLICATION makes"
