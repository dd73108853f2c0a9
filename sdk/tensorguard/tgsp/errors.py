"""Why a package is refused. Each reason has its own class and code; none of them is a warning."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class PackageError(TensorGuardError):
    """Base of every error about packages."""

    code = "package_error"


class PackageMalformedError(PackageError):
    """The file is not in the one form that a package has."""

    code = "package_malformed"
    next_step = "Fetch the file again, byte for byte; do not repack it with a ZIP tool."


class PackageSignatureError(PackageError):
    """No trusted key signed this manifest."""

    code = "package_signature_invalid"
    next_step = "Use the trust root of the installation that made the package; if it is the right one, do not use it."


class PackageDamagedError(PackageError):
    """Content is not what the signed manifest says."""

    code = "package_damaged"
    next_step = "Fetch the file again; if that fails too, ask for a new package."


class PackageExpiredError(PackageError):
    """The package may no longer be opened."""

    code = "package_expired"
    next_step = "Ask for a new package, or set this machine's clock right."


class PackageRolledBackError(PackageError):
    """A newer release of the same line was opened here before."""

    code = "package_rolled_back"
    next_step = "Use the newest release; to go back on purpose, have the old adapter packaged under a new counter."


class PackageReceiptError(PackageError):
    """The ledger's receipt does not prove that this package was signed there."""

    code = "package_receipt_invalid"
    next_step = "Fetch the receipt of this very package from the server that signed it."


class PackagePolicyError(PackageError):
    """The package carries a policy that this build cannot evaluate, so it denies."""

    code = "package_policy_unsupported"
    next_step = "Use a build that evaluates policies, or ask for a package without one."


class PackageModelError(PackageError):
    """The base model here is not the one that the package was made for."""

    code = "package_model_mismatch"
    next_step = "Use the base model whose files have the manifest digest that `tensorguard pkg inspect` shows."


class PackageRecipientError(PackageError):
    """The package holds no key for this device."""

    code = "package_not_for_device"
    next_step = "Have this device enrolled, then ask for a package that names it as a recipient."


class PackageReleaseModeError(PackageError):
    """The package's key is released by a broker, which this build does not ask."""

    code = "package_release_mode"
    next_step = "Ask for a package in offline mode, sealed to this device."
