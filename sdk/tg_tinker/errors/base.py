"""The root of the tree, and what is wrong on the client's own side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorguard.errors import TensorGuardError


class TGTinkerError(TensorGuardError):
    """Base of every error of the training client.

    Attributes: ``code``, ``detail``, ``next_step``; ``status`` is the HTTP status, None when the error is local or a
    future's; ``problem`` is the server's whole document.
    """

    code = "tg_tinker_error"

    def __init__(
        self,
        detail: str,
        *,
        next_step: str | None = None,
        code: str | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, next_step=next_step)
        self.code = code or type(self).code
        self.status = status
        self.problem = dict(problem or {})


class ConfigurationError(TGTinkerError):
    """The client does not know where the server is, or has no key."""

    code = "configuration"
    exit_code = 2


class UntrustedServerError(ConfigurationError):
    """The server's certificate is not signed by an authority that this client trusts, or is another server's."""

    code = "untrusted_server"
    next_step = "Give ca= (--ca) or set SSL_CERT_FILE to the PEM file of the authority, if this is the right server."


class ClientClosedError(TGTinkerError):
    """The client was closed while, or before, it was used."""

    code = "client_closed"
    next_step = "Open a new ServiceClient."


class ProtocolError(TGTinkerError):
    """The answer is none that this client understands."""

    code = "protocol_error"
    next_step = "Check that the base URL is that of a TensorGuardFlow server of this client's version."


class CommitmentMismatchError(TGTinkerError):
    """The server's ledger refers to other data than was sent."""

    code = "commitment_mismatch"
    next_step = "Do not trust this server with data; keep the future id and ask its operator."


class TargetExistsError(TGTinkerError):
    """Something stands where files are to go."""

    code = "target_exists"
    exit_code = 2
    next_step = "Name a folder that does not exist."


class DownloadDamagedError(TGTinkerError):
    """What was fetched is not what the server's ledger names."""

    code = "download_damaged"
    next_step = "Fetch it again; if it stays so, do not trust the way to this server."


class FutureTimeoutError(TGTinkerError, TimeoutError):
    """The time given to wait is over; the operation goes on."""

    code = "future_timeout"
    exit_code = 8
    next_step = "Call result() again, with more time."
