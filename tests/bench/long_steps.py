"""Training with steps as long as larger models have them: what a step costs beside its gradient weighs less."""

from __future__ import annotations

from tests.bench.training import run

__all__ = ["run"]
