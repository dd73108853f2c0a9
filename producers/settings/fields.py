"""Every setting of the platform: its type, its default, who reads it, and what it does.

A setting that another room needs is added here, with its sentence; ``docs/operations.md`` shows this table, and a test
compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from producers.settings.about import (
    COMMANDS,
    KEY_READERS,
    LEDGER_READERS,
    PACKAGER,
    PREFIX,
    SEQUENCER,
    SERVER,
    TRAINER,
    WORKER,
    About,
)
from producers.settings.kafka import KafkaSettings
from producers.settings.values import (
    SQLITE,
    Device,
    FileUrl,
    HttpUrl,
    LogUrl,
    Networks,
    Passphrase,
    Secret,
    SqliteUrl,
    path_of,
)


class Settings(KafkaSettings):
    """All values, checked. Flags come before the environment, and that before the settings' file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    environment: Annotated[
        Literal["development", "production"],
        About(
            (SERVER,),
            "`production` switches the gates on: a server then starts only with TLS or a declared proxy, a "
            "`TG_SECRET_KEY`, private key files and no debugging. In `development` these are not asked for",
        ),
    ] = "development"
    data_dir: Annotated[
        Path | None, About(LEDGER_READERS, "the data directory, where `--data-dir` is left out", in_file=False)
    ] = None
    config: Annotated[
        Path | None,
        About(
            LEDGER_READERS,
            "the settings' file, in TOML: `max_body_bytes = 1048576`. Without it `settings.toml` in the data directory "
            "is read, if there is one. A file with a secret in it must have mode 0600",
            in_file=False,
        ),
    ] = None
    host: Annotated[
        str, About((SERVER,), "address that the server listens on. Any other than this needs TLS, here or by a proxy")
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65535),
        About((SERVER,), "its port; 0 takes a free one and writes it to `run/server.json`"),
    ] = 8000
    tls_cert: Annotated[
        Path | None, About((SERVER,), "PEM file with the certificate chain. With `TG_TLS_KEY` the server speaks HTTPS")
    ] = None
    tls_key: Annotated[
        Path | None, About((SERVER,), "PEM file with the key of that certificate, unencrypted, mode 0600")
    ] = None
    trusted_proxy: Annotated[
        Networks | None,
        About(
            (SERVER,),
            "addresses or networks, by commas, of proxies that end TLS: their `X-Forwarded-For` and "
            "`X-Forwarded-Proto` are believed, nobody else's. In production every request must then have come by HTTPS",
        ),
    ] = None
    secret_key: Annotated[
        Secret | None,
        About(
            (SERVER,),
            "signs what the server hands out and takes back (the cursors of lists), at least 32 bytes. Without it a "
            "key of the data directory does; production asks for one that no copy of the directory holds",
            secret=True,
        ),
    ] = None
    key_master: Annotated[
        Passphrase | None,
        About(
            KEY_READERS,
            "a passphrase of at least 12 characters, or 64 hexadecimal digits: `keys/kek` is then kept wrapped under "
            "it, and a copy of the data directory alone opens nothing. Lost, every sealed blob is lost with it",
            secret=True,
        ),
    ] = None
    log_url: Annotated[
        LogUrl | None,
        About(
            LEDGER_READERS,
            "where the ledger is, if not in `ledger.db` of the data directory: `sqlite:////path/ledger.db`, with its "
            "checkpoints and bells beside it, or [on Kafka](#on-kafka): `kafka://host:9092,host:9092`",
        ),
    ] = None
    database_url: Annotated[
        SqliteUrl | None,
        Field(validation_alias=AliasChoices("database_url", "DATABASE_URL")),
        About(
            (SERVER, COMMANDS),
            "where the read models are, if not in `views.db` of the data directory: `sqlite:////path/views.db`",
        ),
    ] = None
    blob_url: Annotated[
        FileUrl | None,
        About(
            (SERVER, TRAINER, PACKAGER, WORKER, COMMANDS),
            "where sealed blobs are, if not in `blobs/` of the data directory: `file:///path/blobs`",
        ),
    ] = None
    max_body_bytes: Annotated[
        PositiveInt,
        About(
            (SERVER,),
            "largest request body, before and after decompression; larger ones are answered with 413. A smaller value "
            "protects a small machine",
        ),
    ] = 32 << 20
    max_batch_rows: Annotated[PositiveInt, About((SERVER,), "most rows of a batch")] = 1024
    max_batch_tokens: Annotated[PositiveInt, About((SERVER,), "most tokens of a batch, padding included")] = 1 << 20
    max_runs_per_tenant: Annotated[
        PositiveInt,
        About((SERVER,), "training clients of a tenant that may be open at once; one more is answered with 429"),
    ] = 256
    max_queued_per_tenant: Annotated[
        PositiveInt,
        About((SERVER,), "operations of a tenant that may wait for their outcome, over all its runs; then 429"),
    ] = 1024
    max_bytes_in_flight_per_tenant: Annotated[
        PositiveInt,
        About((SERVER,), "bytes of requests whose operations wait, per tenant; then 429. A server's memory is theirs"),
    ] = 256 << 20
    max_rejections_per_minute: Annotated[
        PositiveInt,
        About(
            (SERVER,),
            "commands of a tenant that may be rejected in a minute; each is a record of its chain. Then 429 for every "
            "change that it asks for, until the minute is over",
        ),
    ] = 300
    checkpoint_every_steps: Annotated[
        PositiveInt,
        About(
            (TRAINER,),
            "an automatic checkpoint after so many optimizer steps. Larger values write less and lose more after a "
            "crash",
        ),
    ] = 20
    checkpoint_every_seconds: Annotated[
        PositiveFloat,
        Field(allow_inf_nan=False),
        About((TRAINER,), "an automatic checkpoint after so many seconds with a new step"),
    ] = 30.0
    checkpoints_kept: Annotated[
        PositiveInt, About((SERVER, WORKER), "automatic checkpoints kept per run; named ones are all kept")
    ] = 3
    batch_retention: Annotated[
        Literal["sealed", "memory"],
        About(
            (SERVER,),
            "what new runs do with their batches where a client does not say: `sealed` keeps them encrypted until a "
            "checkpoint covers them, so that nothing is lost; `memory` writes none to disk and loses work in a crash",
        ),
    ] = "sealed"
    result_ttl_seconds: Annotated[
        PositiveInt,
        About(
            (SERVER, TRAINER), "how long completions and log-probabilities are kept, sealed, before they are removed"
        ),
    ] = 3600
    export_ttl_seconds: Annotated[
        PositiveInt,
        About(
            (SERVER, PACKAGER, WORKER),
            "how long the files of an export can be downloaded; they lie sealed, and go with their key. A download "
            "that takes longer fails at its end",
        ),
    ] = 3600
    device: Annotated[
        Device, About((TRAINER,), "where models compute: `cpu`, `cuda`, `cuda:N`, or `auto`, a GPU where there is one")
    ] = "auto"
    attention: Annotated[
        Literal["sdpa", "eager", "flash_attention_2"],
        About((TRAINER,), "how attention is computed; `flash_attention_2` needs its package and a GPU"),
    ] = "sdpa"
    gradient_checkpointing: Annotated[
        bool,
        About(
            (TRAINER,), "`1` computes activations again in the backward pass: slower, and much less memory at long rows"
        ),
    ] = False
    deterministic: Annotated[
        bool,
        About(
            (TRAINER,),
            "`1` takes only kernels that give the same bits each time, where a GPU has others that are faster; what "
            "has none is then refused",
        ),
    ] = False
    api_processes: Annotated[
        PositiveInt,
        About(
            (SERVER,),
            "on Kafka: how many processes answer requests, all at the one address. Each folds views of its own from "
            "the ledger; a client may be answered by any of them, now this one and now that",
        ),
    ] = 1
    workers: Annotated[
        PositiveInt,
        About(
            (SERVER,),
            "on Kafka: how many workers a server starts. They share the chains, each chain with one of them at a time, "
            "and do what is to be done beside training: placing runs, retention, packages, exports",
        ),
    ] = 1
    trainers: Annotated[
        PositiveInt,
        About(
            (SERVER, TRAINER, WORKER),
            "how many trainers a server starts. Runs are placed on them by base model and memory",
        ),
    ] = 1
    trainer_memory_bytes: Annotated[
        PositiveInt | None,
        About(
            (SERVER, TRAINER),
            "bytes that a trainer may use for base models and adapters: runs go to others once nine tenths are in use. "
            "Without it its part of the GPU's memory, or of the container's or the machine's",
        ),
    ] = None
    lease_seconds: Annotated[
        PositiveFloat,
        Field(allow_inf_nan=False),
        About(
            (SERVER, WORKER),
            "a trainer that is not heard of for so long loses its runs to others, if there are any. It says every two "
            "seconds that it is there, so much less than 10 takes a busy one for lost",
        ),
    ] = 15.0
    max_adapters_in_memory: Annotated[
        PositiveInt,
        About((TRAINER,), "runs whose adapter stays in memory; the ones idle longest are moved out beyond that"),
    ] = 64
    max_adapter_bytes: Annotated[
        PositiveInt | None,
        About(
            (TRAINER,),
            "bytes that those adapters may have together, with their optimizers and gradients; a run of all weights "
            "has a copy of the model. Without it only their number counts",
        ),
    ] = None
    max_sampling_bytes: Annotated[
        PositiveInt,
        About(
            (TRAINER,),
            "bytes that the keys and values of samples on one base model may have together; the others wait for their "
            "turn. One sample alone may have more",
        ),
    ] = 4 << 30
    accept_clock: Annotated[
        bool,
        About(
            (SERVER, SEQUENCER, COMMANDS),
            "`1` accepts at one start a clock that is over a year ahead of the ledger: see [the clock](#the-clock)",
            in_file=False,
        ),
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning"],
        About(
            LEDGER_READERS,
            "what is logged: `debug` also has a line for each health check, scrape and accepted command, `warning` "
            "none for requests and operations. Where it is not set, commands log as at `warning`",
            in_file=False,
        ),
    ] = "info"
    otlp_endpoint: Annotated[
        HttpUrl | None,
        Field(validation_alias=AliasChoices("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT")),
        About(
            (SERVER, SEQUENCER, TRAINER),
            "where [traces](#traces) are sent by OTLP over HTTP: `http://127.0.0.1:4318`. Without it none are made",
        ),
    ] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- the library calls by these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what it is given: :func:`producers.settings.read` lays the sources over one another."""
        return (init_settings,)

    @property
    def embedded(self) -> bool:
        """Whether the ledger is a file of this machine: whoever waits for a decision may then make it."""
        return self.log_url is None or self.log_url.startswith(SQLITE)

    @property
    def intake_partitions(self) -> int:
        """How many sequencers decide what comes in, each its own chains."""
        return 1 if self.embedded else self.kafka_partitions

    def ledger_path(self, data_dir: Path) -> Path | None:
        """The file of the ledger of a data directory, if it is one."""
        if not self.embedded:
            return None
        return path_of(self.log_url) if self.log_url else data_dir / "ledger.db"

    def views_path(self, data_dir: Path) -> Path:
        """The file of its read models."""
        return path_of(self.database_url) if self.database_url else data_dir / "views.db"

    def blobs_path(self, data_dir: Path) -> Path:
        """The folder of its sealed blobs."""
        return path_of(self.blob_url) if self.blob_url else data_dir / "blobs"


ABOUT: dict[str, About] = {
    name: next(each for each in Settings.model_fields[name].metadata if isinstance(each, About))
    for name in (*Settings.__annotations__, *KafkaSettings.__annotations__)
    if name in Settings.model_fields
}
"""What is to be known of each setting, by the name of its field; Kafka's come last."""


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[-1]) if isinstance(alias, AliasChoices) else PREFIX + name.upper()
