"""What a verification says: findings, and per chain what was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``code`` is stable; ``seq`` is the record it was seen at, if at one."""

    code: str
    chain: str
    seq: int | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"code": self.code, "chain": self.chain, "seq": self.seq, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class ChainReport:
    """One chain: its records, the root over all of them, and how many of them a checkpoint covers."""

    chain: str
    records: int
    root: bytes
    signed: int
    last_leaf: bytes | None
    findings: tuple[Finding, ...] = ()

    @property
    def unsigned(self) -> int:
        """Records behind the last checkpoint: committed, but not yet signed."""
        return max(0, self.records - self.signed)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "chain": self.chain,
            "records": self.records,
            "root": self.root.hex(),
            "signed": self.signed,
            "unsigned": self.unsigned,
            "last_leaf": self.last_leaf.hex() if self.last_leaf else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole export; ``findings`` are those that belong to no chain's content."""

    installation_id: str
    authority_key: bytes
    pinned: bool
    chains: tuple[ChainReport, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, the export first."""
        return (*self.findings, *(finding for chain in self.chains for finding in chain.findings))

    @property
    def verified(self) -> bool:
        """Whether nothing is wrong."""
        return not self.all_findings

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "verified": self.verified,
            "installation_id": self.installation_id,
            "authority_key": self.authority_key.hex(),
            "trust_root_pinned": self.pinned,
            "records": sum(chain.records for chain in self.chains),
            "chains": [chain.to_dict() for chain in self.chains],
            "findings": [finding.to_dict() for finding in self.all_findings],
        }
