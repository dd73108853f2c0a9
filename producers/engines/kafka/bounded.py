"""A time limit for calls of librdkafka that outstay their own.

Seen of a call that belongs to a transaction when its broker was killed and came back: it never returned, whatever limit
it was given, and with it hung the writer, whoever waited for a decision, and the end of the process. A writer that has
failed gives its transaction up by such a call, and must not hang in it.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from producers.engines.kafka.errors import CommitLostError

if TYPE_CHECKING:
    from collections.abc import Callable

_GRACE_SECONDS = 2.0


def within(seconds: float, call: Callable[[], object]) -> None:
    """Make a call that belongs to a transaction and has so many seconds.

    Raises:
        CommitLostError: it has not returned by then; the transaction is not committed.
    """
    done: Future[None] = Future()
    threading.Thread(target=_run, args=(call, done), name="kafka-bounded", daemon=True).start()
    try:
        done.result(seconds + _GRACE_SECONDS)
    except TimeoutError:
        raise CommitLostError("Kafka did not end a transaction in time.") from None


def _run(call: Callable[[], object], done: Future[None]) -> None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
        done.set_exception(error)
    else:
        done.set_result(None)
