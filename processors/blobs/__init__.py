"""Blob stores: bytes too large for the ledger, found again by name."""
