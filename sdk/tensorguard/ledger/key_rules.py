"""Rules of the platform chain: the keys that sign the ledger and its artifacts are published there too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger.errors import RuleBrokenError
from tensorguard.ledger.export import PLATFORM

if TYPE_CHECKING:
    from tensorguard.ledger.record import Record
    from tensorguard.ledger.trust import TrustRoot

PUBLISHED, ROTATED, ARTIFACT = "SignerKeyPublished", "SignerKeyRotated", "ArtifactKeyPublished"


class PublishedKeys:
    """Signers in the order of their rotation, and artifact keys by id."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._signers: list[tuple[bytes, bytes]] = []
        self._artifacts: dict[bytes, bytes] = {}

    def check(self, record: Record) -> None:
        """Take in a published key.

        Raises:
            RuleBrokenError: misplaced_key, wrong_rotation.
        """
        if record.event not in {PUBLISHED, ROTATED, ARTIFACT}:
            return
        if self._chain != PLATFORM:
            raise RuleBrokenError("misplaced_key", f"{record.event} stands on another chain than {PLATFORM!r}.")
        if record.event == ARTIFACT:
            self._artifacts[record.field("key_id", bytes)] = record.field("public_key", bytes)
            return
        last = self._signers[-1][0] if self._signers else None
        self._signers.append((record.field("ed25519_key", bytes), record.field("mldsa44_key", bytes)))
        if record.body.get("previous_ed25519_key") != last:
            raise RuleBrokenError("wrong_rotation", "A signer's key does not follow the one that was published before.")

    def check_against(self, root: TrustRoot) -> None:
        """Compare with the trust root, which the chain may be ahead of.

        Raises:
            RuleBrokenError: trust_root_disagrees.
        """
        if self._chain != PLATFORM:
            return
        trusted = [(keys.ed25519, keys.mldsa44) for keys in root.signer_keys]
        artifacts = {key.key_id: key.public_key for key in root.artifact_keys}
        if self._signers[: len(trusted)] != trusted:
            raise RuleBrokenError("trust_root_disagrees", "The trust root has signers that are not published here.")
        if not artifacts.items() <= self._artifacts.items():
            raise RuleBrokenError(
                "trust_root_disagrees", "The trust root has artifact keys that are not published here."
            )
