"""Which trainer works on which run: the roster of those that are there, the choice between them, the leases."""
