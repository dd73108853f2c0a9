"""The key-provider port: a KEK that never leaves its provider wraps one DEK per tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    from tensorguard.crypto.wrap import Dek


class KeyProviderError(TensorGuardError):
    """Base of the errors of key providers."""

    code = "key_provider_error"
    next_step = "Look at the server's log; artifacts stay sealed until the key provider answers."


class TenantNameError(KeyProviderError):
    """A name that no tenant can have."""

    code = "tenant_name_invalid"
    next_step = "Use 1 to 63 lower-case letters, digits and dashes, a letter or digit first."


class KeyLostError(KeyProviderError):
    """The KEK is missing while keys that it wrapped exist, or it is another one."""

    code = "key_lost"
    next_step = "Restore the data dir's keys folder from a backup; without its KEK nothing sealed can be opened."


class KeyLockedError(KeyProviderError):
    """The KEK is wrapped under a master secret that is not the one that is set."""

    code = "key_locked"
    next_step = "Set TG_KEY_MASTER to the passphrase or key that it was wrapped under; nothing was changed."


class KeyProvider(Protocol):
    """Tenants' data-encryption keys."""

    @property
    def algorithm(self) -> str:
        """How DEKs are wrapped, as it is recorded beside them."""

    def tenant_dek(self, tenant: str) -> Dek:
        """A tenant's key, made on first use; every caller in every process gets the same one.

        Raises:
            TenantNameError: no tenant can have that name.
            KeyLostError: the key exists, and cannot be unwrapped.
            KeyLockedError: the KEK is wrapped under a master secret that this process does not have.
        """
