"""Who a supervisor on Kafka keeps running: the processes of each role, and in which order they end."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from tensorguard.errors import UsageError

from api.children import Child, spawn
from api.seats import TrainerSeats
from processors.placement.opening import kafka_roster
from producers.settings import SettingsError
from producers.settings.about import SEQUENCER, SERVER, SIGNER, TRAINER, WORKER
from producers.settings.fields import variable

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from producers.installation import Installation
    from producers.settings import Settings

EXCHANGE, API = "exchange", "api"
ROLES = (EXCHANGE, SIGNER, SEQUENCER, TRAINER, WORKER, API)
# Who is ended first: what the last operations led to is decided still, and what was decided is signed.
_SIGNED, _DECIDED, _DONE, _ANSWERED = range(4)


class Roles:
    """The children of some roles on a data directory; doors share a socket that listens."""

    def __init__(self, installation: Installation, roles: frozenset[str], listener: socket.socket | None) -> None:
        self._installation = installation
        self._settings = installation.settings
        self._roles = roles
        self._listener = listener
        self._roster = kafka_roster(installation.settings) if TRAINER in roles else None
        self._seats = None if self._roster is None else TrainerSeats(installation, self._roster)
        self._where = ("--data-dir", str(installation.data_dir))

    def children(self) -> list[Child]:
        """All of them."""
        kinds = {
            SIGNER: self._signers,
            SEQUENCER: self._sequencers,
            TRAINER: self._trainers,
            WORKER: self._workers,
            API: self._doors,
        }
        return [child for role, kind in kinds.items() if role in self._roles for child in kind()]

    def close(self) -> None:
        """Give back the trainers' seats and the connection to the roster."""
        for part in (self._seats, self._roster):
            if part is not None:
                part.close()

    def _signers(self) -> Iterator[Child]:
        yield Child("signer", partial(spawn, SIGNER, "producers.signer", *self._where), stage=_SIGNED)

    def _sequencers(self) -> Iterator[Child]:
        for partition in range(self._settings.intake_partitions):
            name, words = f"sequencer-{partition}", (*self._where, "--partition", str(partition))
            start = partial(spawn, SEQUENCER, "producers.sequencer", *words, name=name)
            yield Child(name, start, _accept_no_clock_again, _DECIDED)

    def _trainers(self) -> Iterator[Child]:
        if self._seats is not None:
            yield from self._seats.children(_DONE)

    def _workers(self) -> Iterator[Child]:
        for name in _names("worker", self._settings.workers):
            yield Child(name, partial(spawn, WORKER, "processors.worker", *self._where, name=name), stage=_DONE)

    def _doors(self) -> Iterator[Child]:
        if self._listener is not None:
            fd = self._listener.fileno()
            for name in _names("api", self._settings.api_processes):
                start = partial(spawn, SERVER, "api.door", *self._where, "--listen-fd", str(fd), pass_fds=(fd,))
                yield Child(name, partial(start, name=name), stage=_ANSWERED)


def _accept_no_clock_again() -> None:
    """What an operator has said for one start holds for none that follows by itself."""
    os.environ.pop(variable("accept_clock"), None)


def check_embedded(settings: Settings, only: str | None) -> None:
    """Refuse what makes no sense where the ledger is in a file: one process decides and answers there.

    Raises:
        SettingsError: a setting asks for several processes of a kind that there is once.
        UsageError: one role alone was asked for.
    """
    asked = {"api_processes": settings.api_processes, "workers": settings.workers}
    for name, count in asked.items():
        if count > 1:
            raise SettingsError(
                f"{variable(name)} is {count}, and a ledger in a file has one of that kind.",
                next_step=f"Unset {variable(name)}, or keep the ledger on Kafka: TG_LOG_URL=kafka://host:port.",
            )
    if only is not None:
        raise UsageError(
            "A ledger in a file is served by all roles in one place.",
            next_step="Leave --only out, or keep the ledger on Kafka: TG_LOG_URL=kafka://host:port.",
        )


def _names(kind: str, count: int) -> list[str]:
    return [kind] if count == 1 else [f"{kind}-{number}" for number in range(count)]
