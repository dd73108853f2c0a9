"""Dead letters as an operator sees them: what an undecidable command claims to be, and what a retry of it led to.

Nothing of its body is shown, and nobody has checked the rest: the claims are a stranger's words until a sequencer has
verified the signature, so they are cut to what a terminal can safely print.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard.ledger.envelope import Envelope, SignedCommand

from api.present import iso
from producers.engines.port import REFUSED
from schemas.codec import COMMANDS

if TYPE_CHECKING:
    from producers.engines.port import LogEngine, Quarantined, Reply
    from producers.submitter import Submitter

DEAD_LETTER = "dead_letter"
"""The outcome of a retry of what still cannot be decided."""
UNKNOWN = "unknown"
RETRY_SECONDS = 30.0
_MOST_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry led to: the outcome of the command's reply, or ``dead_letter`` with its new position."""

    position: int
    outcome: str
    code: str
    detail: str
    new_position: int | None

    @property
    def decided(self) -> bool:
        """Whether there is a decision, be it a rejection."""
        return self.outcome not in (DEAD_LETTER, REFUSED)


def describe(engine: LogEngine, letter: Quarantined, now: int) -> dict[str, Any] | None:
    """A dead letter without its body; None if it is none any more. ``now``: microseconds since the epoch."""
    data = engine.dead_letter(letter.position)
    if data is None:
        return None
    envelope = _envelope(data)
    return {
        "position": letter.position,
        "reason": letter.reason,
        "set_aside_at": iso(letter.at) if letter.at else None,
        "size_bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "claims": _claims(data, envelope),
        "expired": envelope.expires_at < now if envelope else None,
        "answer": _answer(engine, envelope),
    }


def retry(engine: LogEngine, submitter: Submitter, position: int, timeout: float = RETRY_SECONDS) -> Retried:
    """Put a dead letter back into the intake and wait for what becomes of it, at most so many seconds.

    Raises:
        NoDeadLetterError: none has this position.
        NoDecisionError: it waits in the intake; nobody has decided it yet.
        StorageFullError: there is no space to decide it; it is a dead letter, or waits in the intake.
    """
    data = engine.dead_letter(position)
    again = engine.retry(position)
    submitter.wait_decided(again, timeout)
    for letter in engine.quarantined():
        if letter.position == again:
            return Retried(position, DEAD_LETTER, letter.reason, "", again)
    reply = _reply(engine, _envelope(data or b""))
    if reply is None:
        return Retried(position, REFUSED, "malformed", "", None)
    return Retried(position, reply.outcome, reply.code, reply.detail, None)


def _envelope(data: bytes) -> Envelope | None:
    try:
        return SignedCommand.from_bytes(data).envelope()
    except Exception:  # noqa: BLE001 -- what could not be decided may well be what no decoder foresaw
        return None


def _claims(data: bytes, envelope: Envelope | None) -> dict[str, Any] | None:
    if envelope is None:
        return None
    known = envelope.command_type in COMMANDS
    return {
        "command": envelope.command_type if known else UNKNOWN,
        "command_id": envelope.command_id.hex(),
        "chain": printable(envelope.chain),
        "stream": printable(envelope.stream),
        "signed_by": SignedCommand.from_bytes(data).key_id.hex(),
        "issued_at": _time(envelope.issued_at),
        "expires_at": _time(envelope.expires_at),
        "body_bytes": len(envelope.body),
    }


def printable(text: str) -> str:
    """A stranger's text for a terminal: no control characters, and not too many of the others."""
    return text if text.isprintable() and len(text) <= _MOST_CHARACTERS else ascii(text[:_MOST_CHARACTERS])[1:-1]


def _time(microseconds: int) -> str | None:
    try:
        return iso(microseconds)
    except OverflowError:
        return None


def _reply(engine: LogEngine, envelope: Envelope | None) -> Reply | None:
    return engine.reply(envelope.command_id, envelope.chain) if envelope else None


def _answer(engine: LogEngine, envelope: Envelope | None) -> dict[str, str] | None:
    """What its submitter was told; a decision if it has sent the command again since."""
    reply = _reply(engine, envelope)
    return {"outcome": reply.outcome, "code": reply.code} if reply else None
