"""What travels beside the ledger: private inputs of operations, and results of theirs that only the client may read.

A sealed run's lie encrypted in the blob store, where every trainer finds them again; a memory run's are at the hub
of the exchange, and gone with it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tensorguard.commitment import SALT_BYTES, CommitmentError, canonical, check, commit

from processors.exchange.port import unpack_input
from processors.trainer.errors import BatchLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.batches.port import InputStore, ResultStore
    from processors.exchange.trainer import TrainerClient
    from processors.trainer.runs import RunView


class Beside:
    """Inputs and results of one worker's runs. ``random_bytes`` gives the salts of results."""

    def __init__(
        self,
        channel: TrainerClient,
        inputs: InputStore,
        results: ResultStore,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._channel = channel
        self._inputs = inputs
        self._results = results
        self._random_bytes = random_bytes

    def input(self, view: RunView, submitted: Any, commitment: bytes) -> bytes:
        """The canonical bytes of an operation's input, which are those that the ledger commits to.

        Raises:
            BatchLostError: they are gone, or others.
            ExchangeAwayError: the server is gone.
        """
        data = self._kept(view, submitted)
        if data is None:
            raise BatchLostError("The operation's input is gone.")
        salt, value = unpack_input(data)
        try:
            check(commitment, salt, value)
        except CommitmentError as error:
            raise BatchLostError("The operation's input is not the one that was committed to.") from error
        return value

    def _kept(self, view: RunView, submitted: Any) -> bytes | None:
        operation_id: bytes = submitted.operation_id
        if view.sealed and submitted.interval is not None:
            return self._inputs.get(view.chain, view.run_id, submitted.interval, operation_id)
        return self._channel.input(operation_id)

    def done_with(self, view: RunView, operation_id: bytes) -> None:
        """An input is not needed any more. Those of sealed runs stay until a durable state covers them."""
        if not view.sealed:
            self._channel.drop_input(operation_id)

    def hand_over(self, view: RunView, operation_id: bytes, name: str, value: Any) -> bytes:
        """Give a result to the client beside the ledger, under a name; the salted commitment to it.

        Raises:
            StorageFullError: there is no space left for it.
        """
        salt = self._random_bytes(SALT_BYTES)
        data = json.dumps({name: value, "salt": salt.hex()}).encode()
        commitment = commit(salt, canonical(value))
        if view.sealed:
            self._results.put(view.chain, operation_id, commitment, data)
        else:
            self._channel.put_result(operation_id, data)
        return commitment

    def stream(self, operation_id: bytes, frame: bytes) -> None:
        """Let those who listen have a part of a result already."""
        self._channel.stream(operation_id, frame)

    def end_stream(self, operation_id: bytes) -> None:
        """No more parts come."""
        self._channel.end_stream(operation_id)
