"""Which server certificates are trusted, and how a connection says that this one is not."""

from __future__ import annotations

import ssl
from pathlib import Path

from tg_tinker.errors import ConfigurationError, UntrustedServerError


def context_for(ca: Path | str) -> ssl.SSLContext:
    """A TLS context that trusts the certificates of one PEM file, and those alone.

    Raises:
        ConfigurationError: the file cannot be read, or holds none.
    """
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{ca} holds no certificates that can be read.", next_step="Name a PEM file with the server's authority."
        ) from error


def check_trust(error: BaseException) -> None:
    """Tell a certificate that is not trusted from a server that cannot be reached: no later attempt would differ.

    Raises:
        UntrustedServerError: that is what the connection failed for.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UntrustedServerError(f"The server's certificate is not trusted ({cause.verify_message}).")
        cause = cause.__cause__ or cause.__context__
