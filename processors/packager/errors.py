"""Why a package could not be made; the codes are what ``FailPackage`` carries."""

from __future__ import annotations

from processors.errors import ProcessorError


class PackagingError(ProcessorError):
    """Base of the packager's errors."""

    code = "internal_error"
    next_step = "Ask again; if it stays so, look at the server's log."


class RecipientUnknownError(PackagingError):
    """A recipient has no key on the tenant's chain, or has been revoked since."""

    code = "recipient_unknown"
    next_step = "Enrol the device, then ask again."


class NothingToPackageError(PackagingError):
    """The checkpoint holds no adapter."""

    code = "nothing_to_package"
    next_step = "Save a checkpoint of a LoRA run, then ask for a package of that."


class ModelUnknownError(PackagingError):
    """The checkpoint's base model is not in the catalogue."""

    code = "model_unknown"
    next_step = "Register the base model again, then ask again."
