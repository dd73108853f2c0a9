"""What is accepted and what is refused: pure functions over the folded ledger, one file per aggregate."""
