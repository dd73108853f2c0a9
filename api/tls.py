"""The certificate and key that the server speaks HTTPS with, checked before anything listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from api.errors import TlsError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from producers.settings import Settings

_CERT, _KEY = "TG_TLS_CERT", "TG_TLS_KEY"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its key that belong together, and when the certificate ends."""

    cert: Path
    key: Path
    ends: datetime


def tls_files(settings: Settings, now: datetime) -> TlsFiles | None:
    """What the settings name; None if the server is to speak plain HTTP.

    Raises:
        TlsError: only one of the two is set, one cannot be read, they do not belong together, or the certificate is
            not valid now.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise TlsError(f"{_CERT if key is None else _KEY} is set alone: HTTPS needs both {_CERT} and {_KEY}.")
    certificate = _certificate(cert)
    if _spki(certificate) != _spki(_private_key(key)):
        raise TlsError(f"The key that {_KEY} names ({key}) is not that of the first certificate in {cert}.")
    _check_time(certificate, cert, now)
    return TlsFiles(cert, key, certificate.not_valid_after_utc)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(_CERT, path))[0]
    except (ValueError, IndexError) as error:
        raise TlsError(f"{_CERT} names {path}, which holds no PEM certificate.") from error


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(_KEY, path), password=None)
    except TypeError as error:
        raise TlsError(f"{_KEY} names {path}, which is encrypted: the server cannot ask for its password.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{_KEY} names {path}, which holds no PEM private key.") from error


def _read(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{variable} names {path}, which cannot be read ({error.strerror}).") from error


def _spki(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_time(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise TlsError(f"The certificate in {path} ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
    if now < certificate.not_valid_before_utc:
        raise TlsError(f"The certificate in {path} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC.")
