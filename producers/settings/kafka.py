"""The settings of a ledger on Kafka: where it is, what its topics are made with, how brokers are spoken to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, SecretStr
from pydantic_settings import BaseSettings

from producers.settings.about import COMMANDS, LEDGER_READERS, SEQUENCER, SERVER, About
from producers.settings.values import ClientOptions, RegistryUrl, TopicPrefix


class KafkaSettings(BaseSettings):
    """What a ``kafka://`` ledger is reached by and made with."""

    kafka_prefix: Annotated[
        TopicPrefix,
        About(LEDGER_READERS, "how the names of the ledger's topics begin; each ledger of a cluster has another one"),
    ] = "tg"
    kafka_partitions: Annotated[
        PositiveInt,
        Field(le=1024),
        About(
            LEDGER_READERS,
            "partitions of the intake when its topic is made, each with a sequencer of its own in a server. A chain "
            "belongs to one of them for good, so their number stays",
        ),
    ] = 1
    kafka_replication: Annotated[
        PositiveInt,
        Field(le=32),
        About(LEDGER_READERS, "copies of each topic when it is made: 3 where nothing may be lost with one broker"),
    ] = 1
    kafka_min_isr: Annotated[
        PositiveInt,
        Field(le=32),
        About(LEDGER_READERS, "how many of those copies must have a record before it counts as written: 2 of 3"),
    ] = 1
    kafka_registry: Annotated[
        RegistryUrl | None,
        About(
            (SERVER, SEQUENCER, COMMANDS),
            "a [schema registry](kafka.md), `http://host:8081` or `https://user:password@host/path`: schemas are "
            "registered there, and records framed by its ids. Without it they are framed by Avro's own fingerprint",
            secret=True,
        ),
    ] = None
    kafka_security_protocol: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        About(LEDGER_READERS, "how brokers are spoken to: `ssl` is TLS, `sasl_…` with a login"),
    ] = "plaintext"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"] | None,
        About(LEDGER_READERS, "how that login is made"),
    ] = None
    kafka_sasl_username: Annotated[str | None, Field(min_length=1), About(LEDGER_READERS, "its name")] = None
    kafka_sasl_password: Annotated[
        SecretStr | None, Field(min_length=1), About(LEDGER_READERS, "its password", secret=True)
    ] = None
    kafka_ssl_ca: Annotated[
        Path | None, About(LEDGER_READERS, "PEM file with the authorities that brokers' certificates are held to")
    ] = None
    kafka_ssl_cert: Annotated[
        Path | None, About(LEDGER_READERS, "PEM file with this client's certificate, where brokers ask for one")
    ] = None
    kafka_ssl_key: Annotated[
        Path | None, About(LEDGER_READERS, "PEM file with the key of that certificate, mode 0600")
    ] = None
    kafka_ssl_key_password: Annotated[
        SecretStr | None, Field(min_length=1), About(LEDGER_READERS, "the password of that key", secret=True)
    ] = None
    kafka_options: Annotated[
        ClientOptions | None,
        About(
            LEDGER_READERS,
            "further options of librdkafka that concern the connection, by its own names: `name=value;name=value`",
            secret=True,
        ),
    ] = None
