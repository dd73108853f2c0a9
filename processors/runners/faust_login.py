"""The connection's options of the ledger's own client, as Faust takes them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from faust.auth import GSSAPICredentials, SASLCredentials, SSLCredentials

from producers.settings.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.auth import Credentials

_PASSWORDS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_CHECKS_NAMES, _CHECKS_AT_ALL = "ssl.endpoint.identification.algorithm", "enable.ssl.certificate.verification"
_KNOWN = frozenset(
    {
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "sasl.kerberos.service.name",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        _CHECKS_NAMES,
        _CHECKS_AT_ALL,
    }
)
_MATTERS = ("ssl.", "sasl.", "enable.ssl.", "enable.sasl.", "security.")


def credentials(options: Mapping[str, str]) -> Credentials | None:
    """How a worker proves itself to the brokers, and they to it; None where neither is asked for.

    ``options``: those of librdkafka. What only concerns how connections are kept is left to Faust.

    Raises:
        SettingsError: a worker cannot connect in this way.
    """
    if foreign := sorted(name for name in options if name.startswith(_MATTERS) and name not in _KNOWN):
        raise SettingsError(f"Workers cannot connect with {', '.join(foreign)} of TG_KAFKA_OPTIONS.")
    protocol = options.get("security.protocol", "plaintext").lower()
    context = _context(options) if protocol.endswith("ssl") else None
    if protocol.startswith("sasl_"):
        return _login(options, context)
    return SSLCredentials(context) if context else None


def _login(options: Mapping[str, str], context: ssl.SSLContext | None) -> Credentials:
    mechanism = options["sasl.mechanism"]
    if mechanism in _PASSWORDS:
        return SASLCredentials(
            username=options["sasl.username"],
            password=options["sasl.password"],
            mechanism=mechanism,
            ssl_context=context,
        )
    if mechanism == "GSSAPI" and _has_gssapi():
        service = options.get("sasl.kerberos.service.name", "kafka")
        return GSSAPICredentials(kerberos_service_name=service, mechanism=mechanism, ssl_context=context)
    raise SettingsError(f"Workers cannot log in with {mechanism}: it is one of {', '.join(sorted(_PASSWORDS))}.")


def _has_gssapi() -> bool:
    try:
        import gssapi  # type: ignore[import-not-found]  # noqa: F401, PLC0415 -- there where Kerberos is
    except ImportError:
        return False
    return True


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if certificate := options.get("ssl.certificate.location"):
            password = options.get("ssl.key.password", "")  # never asked for on a terminal
            context.load_cert_chain(certificate, options.get("ssl.key.location"), lambda: password)
    except (OSError, ValueError) as error:
        raise SettingsError("A file of TG_KAFKA_SSL_… cannot be read, or its key does not open.") from error
    if options.get(_CHECKS_NAMES) == "none":
        context.check_hostname = False
    if options.get(_CHECKS_AT_ALL) == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
