"""What is told of every setting, and the processes that read them."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "TG_"
SERVER, SEQUENCER, SIGNER, TRAINER, PACKAGER = "server", "sequencer", "signer", "trainer", "packager"
WORKER, COMMANDS = "worker", "commands"
KEY_READERS = (SERVER, TRAINER, PACKAGER, WORKER, COMMANDS)
LEDGER_READERS = (SERVER, SEQUENCER, SIGNER, TRAINER, PACKAGER, WORKER, COMMANDS)


@dataclass(frozen=True, slots=True)
class About:
    """What an operator must know of a setting. ``in_file``: whether the settings' file may hold it."""

    readers: tuple[str, ...]
    meaning: str
    secret: bool = False
    in_file: bool = True


ELSEWHERE: dict[str, str] = {
    "TG_TINKER_BASE_URL": "where the `tg_tinker` SDK and `tg-tinker` find the server",
    "TG_TINKER_API_KEY": "their API key; a secret",
    "TG_PROCESS": "how a process is called in its log lines: a server sets it for each of its children",
    "TG_CACHE": "where `deploy/` keeps the servers that it fetches; `~/.cache/tensorguard` without it",
    "TG_KAFKA_HEAP": "for `deploy/kafka/start`: the broker's memory; `384m` without it",
    "TG_REGISTRY_HEAP": "for `deploy/registry/start`: the registry's memory; `256m` without it",
    "TG_WHEELS": "for `make setup`: a folder with a CPU build of PyTorch",
    "TG_SOAK_SECONDS": "for `make soak`: how long many clients load a server; 600 without it",
    "TG_SOAK_SEEDS": "for `make soak`: how many moments to kill at; the Makefile sets it from `SEEDS`",
    "TG_VECTORS": "for the suite: a folder with the Wycheproof tables; without it those tests are skipped, and say so",
    "TG_TEST_CONTAINERS": (
        "for the suite: `1` runs Kafka's brokers in containers, of the image that `deploy/compose.yaml` names, as is "
        "done anyhow where Docker is and Java with Maven is not. "
        "Brokers with TLS and rights, and three of them, need Java"
    ),
    "TG_TEST_REQUIRE": "for the suite: servers that must really be there, by commas; a missing one is then a failure",
}
"""Variables that no process of a server reads."""
SECRETS_ELSEWHERE = frozenset({"TG_TINKER_API_KEY"})
"""Those of them that nobody may see."""
