"""The ledger's format: records, chains, trees, checkpoints, receipts, and their verification."""
