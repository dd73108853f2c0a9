"""TensorGuardFlow for users: the ledger verifier, secure model packages and the command line."""

__version__ = "0.1.0"
