"""From a request to a decided command that the views have reached.

The order is: keep the private part beside the ledger, submit the command, wait for the decision, wait for the views. So
an answer is true of what a client reads next, and a refusal leaves nothing behind.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard import commitment
from tensorguard.ledger.envelope import OWN_ID_BYTES, own_command_id
from tensorguard.ledger.errors import LedgerError

from api.errors import ApiError
from api.idempotency import Memory, Remembered, command_id_for
from api.quotas import Quotas, TurnedAway
from processors.batches.errors import InputDamagedError
from processors.exchange.port import pack_input
from producers.deciders.engine import Presented, present
from producers.deciders.registry import stream_of
from producers.engines.port import ACCEPTED, REFUSED, REJECTED, Reply
from producers.identities import make_envelope
from schemas.codec import encode_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.auth import Caller
    from api.inputs import Inputs
    from api.vault import Vault
    from producers.engines.port import LogReader
    from producers.identities import Producer
    from producers.installation import Installation
    from producers.submitter import Submitter
    from producers.telemetry.traces import Tracing
    from projections.models import Operation, Run
    from projections.projector import Projector
    from projections.queries import Views
    from schemas.base import Command

DECISION_SECONDS = 30.0
VIEWS_SECONDS = 10.0
INTERVAL_OVER = "interval_over"
SEALINGS = 16
"""How often an input is sealed anew because a durable state came in between; each needs a checkpoint of its own."""
_PASSING = frozenset({"quota_exceeded", INTERVAL_OVER})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that changes something: who asks, and what makes a repeat of it the same request."""

    caller: Caller
    command_id: bytes
    repeatable: bool
    body_digest: bytes
    body_size: int
    correlation: bytes
    trace: bytes | None

    @classmethod
    def of(
        cls, caller: Caller, route: str, key: str | None, body: bytes, correlation: bytes, trace: bytes | None
    ) -> Asked:
        """From the parts of an HTTP request; ``key`` is its Idempotency-Key."""
        command_id = command_id_for(caller, route, key)
        return cls(caller, command_id, key is not None, sha256(body).digest(), len(body), correlation, trace)


@dataclass(frozen=True, slots=True)
class Private:
    """What travels beside the ledger: canonical bytes, and the salt of their commitment if the client chose one."""

    canonical: bytes = field(repr=False)
    salt: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is kept in the vault: metadata, and its name there (None: the command's id)."""

    metadata: dict[str, Any] = field(repr=False)
    name: str | None = None


class Submission:
    """The one way from the doors to the ledger. Every method blocks; any thread may call."""

    def __init__(
        self,
        installation: Installation,
        reader: LogReader,
        submitter: Submitter,
        projector: Projector,
        views: Views,
        inputs: Inputs,
        vault: Vault,
        quotas: Quotas,
        tracing: Tracing,
    ) -> None:
        self._clock = installation.clock
        self._gateway: Producer = installation.producer("gateway")
        self._reader = reader
        self._submitter = submitter
        self._projector = projector
        self._views = views
        self._inputs = inputs
        self._vault = vault
        self._quotas = quotas
        self._tracing = tracing
        self._memory = Memory(installation.data_dir / "run" / "turns.lock")

    def send(self, asked: Asked, command: Command) -> Reply:
        """Submit a command that says everything itself.

        Raises:
            ApiError: the command was rejected, the idempotency key is taken, or nobody decided in time.
        """
        return self.send_sealed(asked, Sealed({}), lambda _: command)

    def send_sealed(self, asked: Asked, sealed: Sealed, command_for: Callable[[bytes | None], Command]) -> Reply:
        """Submit a command with metadata; ``command_for`` makes it from the commitment, which is None without any.

        Raises:
            ApiError: the command was rejected, the idempotency key is taken, or nobody decided in time.
        """
        with self._attempt(asked) as (attempt, known, earlier):
            tenant, name = asked.caller.tenant, sealed.name or attempt.command_id.hex()
            reply = earlier
            if reply is None:
                kept = self._vault.get(tenant, name) if attempt.repeatable else {}
                if kept and kept != sealed.metadata:
                    raise _key_reused()
                seal = self._vault.commitment_to if kept else self._vault.put
                command = command_for(seal(tenant, name, sealed.metadata))
                self._memory.put(attempt.command_id, Remembered(asked.body_digest))
                reply = self._submit(attempt, command)
                # An id that was used longer ago than replies are kept is told what was decided then.
                sent = not isinstance(reply, TurnedAway)
                other = known is None and sent and reply.body_digest != _digest(command)
                if sealed.metadata and not kept and (other or reply.outcome == REJECTED):
                    self._vault.drop(tenant, name)
                if other:
                    raise _key_reused()
            else:
                command = command_for(self._vault.commitment_to(tenant, name, sealed.metadata))
                other = reply.outcome == ACCEPTED and self._vault.get(tenant, name) != sealed.metadata
                if known is None and (other or reply.body_digest != _digest(command)):
                    raise _key_reused()
            return self._settled(attempt, reply, command)

    def send_private(
        self, asked: Asked, run_id: str, private: Private, command_for: Callable[[bytes, int | None], Command]
    ) -> Reply:
        """Submit a command with a commitment, once what it commits to is kept.

        ``command_for`` makes it from the 32 bytes of the commitment and the interval that the input is sealed in.

        Raises:
            ApiError: the command was rejected, the idempotency key is taken, or nobody decided in time.
            StorageFullError: there is no space left for the input.
        """
        with self._attempt(asked) as (attempt, known, earlier):
            if earlier is None:
                return self._keep_and_send(attempt, known, run_id, private, command_for)
            command = self._as_decided(attempt, known, earlier, run_id, private, command_for)
            return self._settled(attempt, earlier, command)

    def _keep_and_send(
        self,
        attempt: Asked,
        known: Remembered | None,
        run_id: str,
        private: Private,
        command_for: Callable[[bytes, int | None], Command],
    ) -> Reply:
        """Seal and submit, and again under the next key whenever a durable state has ended the interval meanwhile."""
        tenant, salt = attempt.caller.tenant, private.salt or (known.salt if known else None)
        for _ in range(SEALINGS):
            interval = self._inputs.interval(tenant, run_id)
            salt = salt or self._salt(attempt, run_id, interval, private)
            self._memory.put(attempt.command_id, Remembered(attempt.body_digest, salt))
            command = command_for(commitment.commit(salt, private.canonical), interval)
            keep = partial(self._inputs.keep, tenant, run_id, interval, attempt.command_id)
            try:
                reply = self._submit(attempt, command, partial(keep, pack_input(salt, private.canonical)))
            except InputDamagedError:
                # Whoever destroys a key has read the ledger, which the views may not have reached yet.
                self._projector.wait_for_all(VIEWS_SECONDS)
                if self._inputs.interval(tenant, run_id) == interval:
                    raise
                continue
            if reply.outcome != ACCEPTED:
                self._inputs.drop(tenant, run_id, interval, attempt.command_id)
            if reply.code != INTERVAL_OVER:
                return self._settled(attempt, reply, command)
            self._await_views(reply)
            attempt = _next_attempt(attempt)
        raise ApiError(INTERVAL_OVER, "Durable states come faster than the input can be sealed.")

    def _salt(self, attempt: Asked, run_id: str, interval: int | None, private: Private) -> bytes:
        """A fresh salt, or that of the same request whose input was kept before a restart and is not decided yet."""
        if attempt.repeatable:
            salt, canonical = self._inputs.kept(attempt.caller.tenant, run_id, interval, attempt.command_id)
            if salt is not None:
                if canonical != private.canonical:
                    raise _key_reused()
                return salt
        return secrets.token_bytes(commitment.SALT_BYTES)

    def _as_decided(
        self,
        attempt: Asked,
        known: Remembered | None,
        reply: Reply,
        run_id: str,
        private: Private,
        command_for: Callable[[bytes, int | None], Command],
    ) -> Command:
        """The command of a repeated request, which must be the one that was decided as far as that can be told."""
        tenant, operation_id = attempt.caller.tenant, attempt.command_id
        self._await_views(reply)
        accepted = reply.outcome == ACCEPTED
        interval = self._inputs.interval_of(tenant, operation_id) if accepted else None
        salt = private.salt or (known.salt if known else None)
        if salt is None and accepted:
            salt = self._inputs.salt(tenant, run_id, interval, operation_id)
        command = command_for(commitment.commit(salt or bytes(commitment.SALT_BYTES), private.canonical), interval)
        if known is None and salt is not None and accepted and reply.body_digest != _digest(command):
            raise _key_reused()
        return command

    def forward(self, data: bytes) -> Reply:
        """Submit a command that another producer signed; its decision, once the views have reached it.

        Raises:
            ApiError: unauthenticated, no key that is enrolled on its chain signed it; forbidden, its id is not one of
                the key's own.
            MalformedRecordError: the bytes are no signed command.
        """
        presented = present(data)
        if not self._signed_by_enrolled(presented):
            raise ApiError("unauthenticated", "No key that is enrolled on this chain signed the command.")
        command_id = presented.envelope.command_id
        if command_id != own_command_id(presented.signed.key_id, command_id[OWN_ID_BYTES:]):
            raise ApiError("forbidden", "A command's id begins with the first 8 bytes of its producer's key id.")
        with self._quotas.rejections(presented.envelope.chain) as told:
            reply = self._submitter.submit_signed(data, presented.envelope, DECISION_SECONDS)
            told(reply)
        if reply.outcome == REFUSED:
            raise ApiError("unauthenticated", reply.detail)
        self._await_views(reply)
        return reply

    def salt_of(self, operation: Operation) -> bytes | None:
        """The salt of an operation's commitment, as long as it is remembered or its sealed input is kept."""
        known = self._memory.get(bytes.fromhex(operation.operation_id))
        return known.salt if known and known.salt else self._inputs.salt_of(operation)

    @contextmanager
    def _attempt(self, asked: Asked) -> Iterator[tuple[Asked, Remembered | None, Reply | None]]:
        """The attempt that a request stands for, what is remembered of it, and its decision if there is one yet.

        A repeat of a request that was turned away for want of room, or was sealed under a key of the past, is a new
        attempt, under an id that follows from the first one; every other decision is final.
        """
        with self._memory.turn(asked.command_id, repeatable=asked.repeatable):
            attempt, reply = asked, self._earlier(asked)
            self._same_request(asked)
            while reply is not None and reply.code in _PASSING:
                attempt = _next_attempt(attempt)
                reply = self._earlier(attempt)
            yield attempt, self._memory.get(attempt.command_id), reply

    def _same_request(self, asked: Asked) -> None:
        known = self._memory.get(asked.command_id)
        if known is not None and known.body_digest != asked.body_digest:
            raise _key_reused()

    def _earlier(self, asked: Asked) -> Reply | None:
        """The decision on a request that is sent again."""
        return self._reader.reply(asked.command_id, asked.caller.tenant) if asked.repeatable else None

    def _signed_by_enrolled(self, presented: Presented) -> bool:
        chain, signed = presented.envelope.chain, presented.signed
        key = self._views.producer(chain, signed.key_id.hex())
        if key is None and self._projector.wait_for_all(VIEWS_SECONDS):
            key = self._views.producer(chain, signed.key_id.hex())
        try:
            signed.verify(bytes.fromhex(key.public_key) if key else b"")
        except LedgerError:
            return False
        return True

    def _submit(self, asked: Asked, command: Command, prepare: Callable[[], None] = lambda: None) -> Reply:
        """Have a command decided, if the tenant has room for it; ``prepare`` is called once there is."""
        envelope = make_envelope(
            command,
            chain=asked.caller.tenant,
            stream=stream_of(command),
            command_id=asked.command_id,
            now=self._clock(),
            on_behalf_of=asked.caller.key_id,
            correlation=asked.correlation,
            trace=asked.trace,
        )

        def decide() -> Reply:
            prepare()
            with self._tracing.span(f"submit {envelope.command_type}", command_id=envelope.command_id):
                return self._submitter.submit_and_wait(self._gateway, envelope, DECISION_SECONDS)

        return self._quotas.admit(envelope.chain, asked.command_id, command, asked.body_size, decide)

    def _settled(self, asked: Asked, reply: Reply, command: Command) -> Reply:
        """The reply of an accepted command, once the views show it."""
        if reply.outcome == REFUSED:
            raise ApiError("ledger_unavailable", "The server's own key is not accepted on this chain.")
        self._await_views(reply)
        if reply.outcome == REJECTED:
            raise self._rejection(asked, reply, command)
        return reply

    def _await_views(self, reply: Reply) -> None:
        if reply.last_seq is not None and not self._projector.wait_for(reply.chain, reply.last_seq, VIEWS_SECONDS):
            raise ApiError("views_behind", "The command is decided; the read models have not reached it yet.")

    def _rejection(self, asked: Asked, reply: Reply, command: Command) -> ApiError:
        run_id = getattr(command, "run_id", None)
        run = self._views.run(asked.caller.tenant, run_id) if run_id and reply.code == "run_rolled_back" else None
        wait: dict[str, Any] = {"retry_after": reply.retry_after} if isinstance(reply, TurnedAway) else {}
        return ApiError(reply.code, reply.detail, **(standing(run) if run else {}), **wait)


def standing(run: Run) -> dict[str, Any]:
    """Where a run stands, for problems about what it lost."""
    return {
        "last_durable_step": run.durable_step,
        "artifact_id": run.durable_artifact_id,
        "generation": run.generation,
    }


def _next_attempt(asked: Asked) -> Asked:
    return replace(asked, command_id=sha256(b"attempt\0" + asked.command_id).digest()[:16])


def _digest(command: Command) -> bytes:
    return sha256(encode_command(command)).digest()


def _key_reused() -> ApiError:
    return ApiError("idempotency_key_reused", "This Idempotency-Key came with another request before.")
