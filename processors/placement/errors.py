"""What can go wrong on the roster."""

from __future__ import annotations

from processors.errors import ProcessorError


class StandingError(ProcessorError):
    """What poses as a trainer's standing is none."""

    code = "malformed_standing"
    next_step = "Let nobody but trainers and their server write to the roster, and run one build of them."
