"""The verifier of an exported ledger."""

from __future__ import annotations

from tensorguard.ledger.report import ChainReport, Finding, Report

__all__ = ["ChainReport", "Finding", "Report"]
