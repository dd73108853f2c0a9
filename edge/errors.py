"""What keeps a device from opening a package, beside what is wrong with the package itself."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class EdgeError(TensorGuardError):
    """Base of the errors of the edge agent."""

    code = "edge_error"


class IdentityError(EdgeError):
    """The identity folder is missing, damaged or open to others."""

    code = "identity"
    next_step = "Name the folder that `tensorguard device keygen` made, with its files at mode 0600."


class IdentityExistsError(IdentityError):
    """There is an identity already; it is never overwritten."""

    code = "identity_exists"
    exit_code = 2
    next_step = "Use it, or name another folder: a lost identity cannot open the packages sealed to it."


class MemoryNotLockedError(EdgeError):
    """Plaintext weights could reach the swap area."""

    code = "memory_not_locked"
    next_step = "Raise the limit (`ulimit -l`, or LimitMEMLOCK= of the service), or switch swap off."


class FetchError(EdgeError):
    """A file could not be fetched."""

    code = "fetch_failed"
    next_step = "Check the address, the API key and the network, then try again; nothing was opened."


class ModelUnusableError(EdgeError):
    """The base model here cannot take the adapter, or cannot be loaded."""

    code = "model_unusable"
    next_step = "Use the base model that `tensorguard pkg inspect` names, with its configuration and tokenizer."


class PromptError(EdgeError):
    """The prompt leaves no room for a token."""

    code = "prompt_too_long"
    exit_code = 2
    next_step = "Use a shorter prompt."


class ReportError(EdgeError):
    """The opening could not be reported; the package was opened all the same."""

    code = "report_failed"
    next_step = "Check the address and that this device is enrolled, then run the agent again."
