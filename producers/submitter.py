"""Submitting commands: into the durable intake, and waiting for what was decided.

On an embedded ledger somebody decides at any time: the server's sequencer while a server runs, else the submitter
itself, under the same lock. So a command line tool works on a data dir with or without a server, and never beside the
sequencer. A ledger that other machines share is decided by its sequencer alone: taking the writer's role there would
fence it.
"""

from __future__ import annotations

import threading
import time
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import uuid4

from tensorguard.errors import UsageError
from tensorguard.ledger import trust

from producers.deciders.engine import is_chain_name
from producers.deciders.registry import PLATFORM, stream_of
from producers.engines.port import REJECTED, LogEngine, Reply
from producers.errors import NoDecisionError
from producers.identities import Producer, make_envelope
from producers.sequencer import Sequencer, SequencerLock
from producers.trustroot import artifact_public_key, signer_keys
from schemas.commands import EnrolProducer, PublishArtifactKey, PublishSignerKey, RotateSignerKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tensorguard.ledger.envelope import Envelope

    from producers.installation import Installation
    from schemas.base import Command

ENROLLED = ("gateway", "dispatcher", "worker", "packager", "retention")
"""The roles whose keys :meth:`Submitter.ensure_chain` lets speak on a chain."""
_LIVENESS_SECONDS = 1.0
_DONE_BEFORE = "already_exists"
_START_ONE = (
    "It is kept for an hour. Start `tensorguard server` with this ledger's TG_LOG_URL, or see why the one that runs is "
    "not ready; then run this again."
)


class Submitter:
    """The way in for producers of this installation; any thread may use it."""

    def __init__(self, installation: Installation, engine: LogEngine) -> None:
        self._installation = installation
        self._engine = engine
        self._may_decide = installation.settings.embedded
        self._lock = SequencerLock(installation.data_dir)
        self._deciding = threading.Lock()
        self._sequencer: Sequencer | None = None

    def submit(self, producer: Producer, envelopes: Sequence[Envelope]) -> list[bytes]:
        """Sign commands under one signature and put them into the intake; their ids.

        Raises:
            StorageFullError: nothing was taken.
        """
        signed = producer.sign([envelope.to_bytes() for envelope in envelopes])
        self._engine.submit([command.to_bytes() for command in signed])
        return [envelope.command_id for envelope in envelopes]

    def submit_and_wait(self, producer: Producer, envelope: Envelope, timeout: float = 30) -> Reply:
        """Submit one command and wait for its decision, at most so many seconds.

        Raises:
            NoDecisionError: there is none yet; the command stays in the intake.
            StorageFullError: there is no space for the command, or for its decision.
        """
        self.submit(producer, [envelope])
        return self.wait(envelope.command_id, envelope.chain, timeout)

    def submit_signed(self, signed: bytes, envelope: Envelope, timeout: float = 30) -> Reply:
        """Submit a command that was signed elsewhere (``signed`` is its Avro encoding) and wait for its decision.

        Raises:
            NoDecisionError: there is none yet; the command stays in the intake.
            StorageFullError: there is no space for the command, or for its decision.
        """
        self._engine.submit([signed])
        return self.wait(envelope.command_id, envelope.chain, timeout)

    def wait(self, command_id: bytes, chain: str, timeout: float = 30) -> Reply:
        """The decision on a command that is in the intake.

        The holder of the lock may die at any time without a word, so the lock is tried again now and then.

        Raises:
            NoDecisionError: there is none after so many seconds.
            StorageFullError: there is no space for it.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._decide_inline()
            left = deadline - time.monotonic()
            reply = self._engine.wait_reply(command_id, max(0.0, min(left, _LIVENESS_SECONDS)), chain)
            if reply is not None:
                return reply
            if left <= 0:
                raise self._undecided()

    def wait_decided(self, position: int, timeout: float = 30) -> None:
        """Wait until the entry at a position of the intake is decided or set aside, at most so many seconds.

        Raises:
            NoDecisionError: it waits in the intake still.
            StorageFullError: there is no space for its decision.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._decide_inline()
            left = deadline - time.monotonic()
            if self._engine.wait_decided(position, max(0.0, min(left, _LIVENESS_SECONDS))):
                return
            if left <= 0:
                raise self._undecided()

    def ensure_chain(self, chain: str) -> None:
        """Open a chain and enrol this installation's producers on it; on ``platform`` also publish all public keys.

        Raises:
            UsageError: no chain may be called so.
            RejectedError: the authority's own commands were rejected.
        """
        if not is_chain_name(chain):
            raise UsageError(f"{chain!r} is no name for a tenant.", next_step="Use lower-case letters, digits, dashes.")
        commands: list[Command] = [self._enrolment(role) for role in ENROLLED]
        if chain == PLATFORM:
            commands += self._public_keys()
        self._ensure(chain, commands)
        if chain == PLATFORM:
            self._refresh_trust_root()

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def _enrolment(self, role: str) -> Command:
        producer = self._installation.producer(role)
        return EnrolProducer(producer.key_id, producer.public_key, role, role, None)

    def _public_keys(self) -> Iterable[Command]:
        keys = signer_keys(self._installation.data_dir)
        yield PublishSignerKey(keys[0].ed25519, keys[0].mldsa44)
        for before, after in pairwise(keys):
            yield RotateSignerKey(before.ed25519, after.ed25519, after.mldsa44)
        artifact = artifact_public_key(self._installation.artifact_signing_key)
        yield PublishArtifactKey(artifact.key_id, artifact.public_key)

    def _ensure(self, chain: str, commands: Sequence[Command]) -> None:
        """Have the authority's commands decided once; a command id follows from what it asks for."""
        authority = self._installation.producer("authority")
        asked = {_settled_id(chain, command): command for command in commands}
        unanswered = {each for each in asked if self._engine.reply(each, chain) is None}
        envelopes = [self._authoritys(chain, command, each) for each, command in asked.items()]
        if missing := [envelope for envelope in envelopes if envelope.command_id in unanswered]:
            self.submit(authority, missing)
        for envelope in envelopes:
            command = asked[envelope.command_id]
            reply = self.wait(envelope.command_id, chain)
            if reply.outcome == REJECTED and reply.code != _DONE_BEFORE:
                # An old rejection (of an expired command, say) must not stand in the way for ever.
                reply = self.submit_and_wait(authority, self._authoritys(chain, command, uuid4().bytes))
            if reply.code != _DONE_BEFORE:
                reply.raise_for_outcome()

    def _authoritys(self, chain: str, command: Command, command_id: bytes) -> Envelope:
        now = self._installation.clock()
        return make_envelope(command, chain=chain, stream=stream_of(command), command_id=command_id, now=now)

    def _refresh_trust_root(self) -> None:
        """Write the trust root anew if the signer's keys have changed since."""
        written = trust.parse(self._installation.trust_root_path.read_bytes())
        if list(written.signer_keys) != signer_keys(self._installation.data_dir):
            self._installation.write_trust_root()

    def _undecided(self) -> NoDecisionError:
        next_step = None if self._may_decide else _START_ONE
        return NoDecisionError("The command waits in the intake; nobody has decided it yet.", next_step=next_step)

    def _decide_inline(self) -> None:
        """Decide all that waits, if nobody else does."""
        if not self._may_decide:
            return
        with self._deciding:
            # Looked at again after the release: what came in just before it is ours to decide as well.
            while self._anything_waits() and self._lock.try_acquire():
                try:
                    sequencer = self._opened_sequencer()
                    while sequencer.step():
                        pass
                finally:
                    self._lock.release()

    def _anything_waits(self) -> bool:
        return bool(self._engine.intake(self._engine.intake_position(), 1))

    def _opened_sequencer(self) -> Sequencer:
        if self._sequencer is None:
            self._sequencer = Sequencer.of(self._installation, self._engine)
        self._sequencer.reopen()
        return self._sequencer


def _settled_id(chain: str, command: Command) -> bytes:
    envelope = make_envelope(command, chain=chain, stream=stream_of(command), command_id=bytes(16), now=0)
    material = f"tensorguard/ensure/v1\0{chain}\0{envelope.command_type}\0".encode() + envelope.body
    return sha256(material).digest()[:16]
