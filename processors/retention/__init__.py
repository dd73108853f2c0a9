"""Retention: what lies sealed beside the ledger is destroyed once nothing can need it, and then the ledger says so.

``known.py`` is what follows from the ledger (pure), ``processor.py`` does it and reports it.
"""

from processors.retention.processor import Retention

__all__ = ["Retention"]
