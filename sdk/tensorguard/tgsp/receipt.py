"""The ledger's receipt of a package: proof, offline, that its signing is on the tenant's signed chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger.proof import Receipt, verify_receipt
from tensorguard.tgsp.errors import PackageReceiptError

if TYPE_CHECKING:
    from tensorguard.ledger.trust import TrustRoot
    from tensorguard.tgsp.package import Package

EVENT = "PackageSigned"
SUFFIX = ".tlog-proof"


def check_receipt(data: bytes, root: TrustRoot, package: Package, record: bytes | None = None) -> Receipt:
    """Check that a receipt proves the signing of exactly this file; ``record`` only if the receipt carries none.

    Raises:
        LedgerError: the receipt itself does not hold.
        PackageReceiptError: it proves another record.
    """
    receipt = verify_receipt(data, root, record)
    if receipt.decoded is None:
        raise PackageReceiptError("The receipt does not carry its record with the schema.")
    manifest, found = package.manifest, receipt.decoded
    if found.event != EVENT or receipt.chain != manifest.tenant:
        raise PackageReceiptError("The receipt is not of a package's signing on its tenant's chain.")
    expected = {
        "package_id": bytes.fromhex(manifest.request_id),
        "package_digest": package.package_id,
        "file_digest": package.container.file_digest(),
        "size_bytes": package.container.size,
        "signing_key_id": bytes.fromhex(manifest.signing_key_id),
    }
    if found.body != expected or found.meta.stream != f"package/{manifest.request_id}":
        raise PackageReceiptError("The receipt is of another package than this one.")
    return receipt
