"""What can stop the demo."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class DemoError(TensorGuardError):
    """Base of every error of the demo."""

    code = "demo_failed"


class TextTooShortError(DemoError):
    """There is not enough text to train on."""

    code = "text_too_short"
    next_step = "Give a file or folder with at least a megabyte of UTF-8 text: tensorguard demo --text PATH."


class ModelTooWeakError(DemoError):
    """The base model is no better than a unigram model on unseen text."""

    code = "model_too_weak"
    next_step = "Give more text, or train for more steps: python -m api.demo.base_model --out DIR --steps N."


class PartFailedError(DemoError):
    """A part of the demo did not do what it claims."""

    code = "demo_part_failed"
    next_step = "Read the log named above; the data directory is kept for inspection."
