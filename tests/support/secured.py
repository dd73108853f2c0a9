"""A broker that takes clients by TLS and a password alone, and lets each do what it was given the right to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support.certificates import Authority
from tests.support.kafka import Broker, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.engines.kafka import KafkaConfig

SECONDS = 30.0
OPERATOR = "operator"


class SecuredBroker(Broker):
    """Its ``servers`` speak SASL_SSL; an inner listener in plain text is the operator's, to whom nothing is denied."""

    def __init__(self) -> None:
        super().__init__()
        self._outside = free_port()
        self.servers = f"127.0.0.1:{self._outside}"
        self._authority = Authority(self.folder / "tls")
        self.settings = tuple(self._secured())

    def open_to(self, user: str, rights: Iterable[AclBinding]) -> None:
        """Let a user in, with so many rights."""
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        for done in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, how, password_of(user).encode())]
        ).values():
            done.result(SECONDS)
        bindings = list(rights)
        for done in admin.create_acls(bindings).values() if bindings else ():
            done.result(SECONDS)

    def config_of(self, user: str, prefix: str, **changed: str) -> KafkaConfig:
        """How a user connects."""
        options = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self._authority.path),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password_of(user),
        }
        given = {name.replace("_", "."): value for name, value in changed.items()}
        return replace(self.config(prefix), options={**options, **given})

    def operators(self, prefix: str) -> KafkaConfig:
        """How its operator connects."""
        return replace(self.config(prefix), servers=f"127.0.0.1:{self.port}")

    def _secured(self) -> Iterable[str]:
        certified = self._authority.certify("broker")
        both = self.folder / "tls" / "broker-with-key.pem"
        both.write_bytes(certified.key.read_bytes() + certified.cert.read_bytes())
        yield (
            f"listeners=INSIDE://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller},"
            f"OUTSIDE://127.0.0.1:{self._outside}"
        )
        yield f"advertised.listeners=INSIDE://127.0.0.1:{self.port},OUTSIDE://127.0.0.1:{self._outside}"
        yield "listener.security.protocol.map=INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:SASL_SSL"
        yield "inter.broker.listener.name=INSIDE"
        yield "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        yield "super.users=User:ANONYMOUS"
        yield "sasl.enabled.mechanisms=SCRAM-SHA-512"
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        yield f"listener.name.outside.scram-sha-512.sasl.jaas.config={login}"
        yield "ssl.keystore.type=PEM"
        yield f"ssl.keystore.location={both}"


def password_of(user: str) -> str:
    """A user's password."""
    return f"the password of {user}"


def right(user: str, operation: str, kind: str, name: str) -> AclBinding:
    """A right on a resource, or on all whose names begin so if the name ends with ``*``."""
    pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    operations: dict[str, Any] = {each.name.replace("_", "").lower(): each for each in AclOperation}
    return AclBinding(
        ResourceType[kind],
        name.removesuffix("*"),
        pattern,
        f"User:{user}",
        "*",
        operations[operation.lower()],
        AclPermissionType.ALLOW,
    )
