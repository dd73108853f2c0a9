"""What is known: read models folded from the ledger, and the projector that keeps them."""
