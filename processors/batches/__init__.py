"""What is private and must outlive a process: inputs of operations and results, sealed, beside the ledger."""
