"""A worker connects as the ledger's own client does, or says that it cannot."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

from processors.runners.faust_login import credentials
from producers.settings import SettingsError
from tests.support.certificates import Authority

LOGIN = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "tg", "sasl.password": "hunter2"}
REFUSED = {
    "an option that Faust has no like of": (
        {"ssl.keystore.location": "x"},
        "ssl.keystore.location of TG_KAFKA_OPTIONS",
    ),
    "a login by tokens": (
        {"security.protocol": "sasl_plaintext", "sasl.mechanism": "OAUTHBEARER"},
        "cannot log in with OAUTHBEARER",
    ),
    "authorities that are none": ({"security.protocol": "ssl", "ssl.ca.location": __file__}, "cannot be read"),
    "a certificate that is none": (
        {"security.protocol": "ssl", "ssl.certificate.location": __file__, "ssl.key.location": __file__},
        "cannot be read",
    ),
}


def test_plain_connections_need_nothing() -> None:
    assert credentials({"security.protocol": "plaintext", "socket.keepalive.enable": "true"}) is None


def test_a_login_is_taken_over() -> None:
    made = credentials({"security.protocol": "sasl_plaintext", **LOGIN})
    assert isinstance(made, SASLCredentials)
    assert (made.protocol, made.mechanism) == (AuthProtocol.SASL_PLAINTEXT, SASLMechanism.SCRAM_SHA_512)
    assert (made.username, made.password, made.ssl_context) == ("tg", "hunter2", None)
    assert "hunter2" not in repr(made)


def test_brokers_are_held_to_the_authorities_that_are_set(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.certify("client")
    options = {
        "ssl.ca.location": str(authority.path),
        "ssl.certificate.location": str(client.cert),
        "ssl.key.location": str(client.key),
    }
    both = credentials({"security.protocol": "sasl_ssl", **LOGIN, **options})
    alone = credentials({"security.protocol": "ssl", **options})
    assert isinstance(both, SASLCredentials)
    assert isinstance(alone, SSLCredentials)
    assert (both.protocol, alone.protocol) == (AuthProtocol.SASL_SSL, AuthProtocol.SSL)
    for context in (both.ssl_context, alone.context):
        assert context is not None
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert [each["subject"] for each in context.get_ca_certs()] == [
            ((("commonName", "An authority of one test"),),)
        ]


@pytest.mark.parametrize(
    ("option", "value", "held_to"),
    [
        ("ssl.endpoint.identification.algorithm", "none", (False, ssl.CERT_REQUIRED)),
        ("enable.ssl.certificate.verification", "false", (False, ssl.CERT_NONE)),
    ],
)
def test_what_an_operator_gives_up_by_an_option_is_given_up(
    option: str, value: str, held_to: tuple[bool, ssl.VerifyMode]
) -> None:
    made = credentials({"security.protocol": "ssl", option: value})
    assert isinstance(made, SSLCredentials)
    assert (made.context.check_hostname, made.context.verify_mode) == held_to


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_a_worker_cannot_do_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        credentials(options)
