"""What this key may not do or cannot see."""

from __future__ import annotations

from tg_tinker.errors.base import TGTinkerError


class AuthenticationError(TGTinkerError):
    """The key is missing, unknown or revoked."""

    code = "unauthenticated"
    exit_code = 3
    next_step = "Set TG_TINKER_API_KEY to a key of `tensorguard keys issue`."


class PermissionDeniedError(AuthenticationError):
    """The key is good, and may not do this."""

    code = "forbidden"
    next_step = "Use a key of the tenant that owns this."


class NotFoundError(TGTinkerError):
    """Nothing of this name is visible to this key."""

    code = "not_found"
    exit_code = 4
    next_step = "Check the id; things of other tenants look as if they did not exist."


class UnknownModelError(NotFoundError):
    """The catalogue has no such model."""

    code = "unknown_model"
    next_step = "Use a name of the catalogue; an operator adds one with `tensorguard models add NAME PATH`."


class UnknownFutureError(NotFoundError):
    """There is no such operation."""

    code = "unknown_future"


class UnknownSamplerError(NotFoundError):
    """The tenant has no such sampler."""

    code = "unknown_sampler"
    next_step = "List yours with ServiceClient.list_samplers()."


class UnknownTrainingClientError(NotFoundError):
    """There is no such training run."""

    code = "unknown_training_client"


class UnknownArtifactError(NotFoundError):
    """There is no such checkpoint."""

    code = "unknown_artifact"


class UnknownPackageError(NotFoundError):
    """There is no such package."""

    code = "unknown_package"


class UnknownExportError(NotFoundError):
    """There is no such export."""

    code = "unknown_export"


class HttpsRequiredError(PermissionDeniedError):
    """The key came in the clear to a server that takes keys by HTTPS only."""

    code = "https_required"
    next_step = "Use the server's https:// address; make a new key, for this one was sent in the clear."
