"""A ledger on Kafka is reached by what is set: all of it, nothing else, and no contradiction is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorguard.cli.main import run

from producers.engines.connection import connection_options
from producers.engines.opening import kafka_config
from producers.settings import SettingsError, child_environment, read
from producers.settings.about import SIGNER
from producers.settings.fields import ABOUT, variable

CONTRADICTIONS = {
    "a login of no kind": ({"security_protocol": "sasl_ssl"}, "TG_KAFKA_SASL_MECHANISM must say which"),
    "a login without a password": (
        {"security_protocol": "sasl_ssl", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
        "PLAIN needs TG_KAFKA_SASL_USERNAME and TG_KAFKA_SASL_PASSWORD",
    ),
    "a password that nobody asks for": ({"sasl_password": "hunter2"}, "TG_KAFKA_SECURITY_PROTOCOL has none"),
    "a certificate without its key": (
        {"security_protocol": "ssl", "ssl_cert": __file__},
        "TG_KAFKA_SSL_CERT and TG_KAFKA_SSL_KEY go together",
    ),
    "authorities without TLS": ({"ssl_ca": __file__}, "TG_KAFKA_SECURITY_PROTOCOL has no TLS"),
    "a file that is not there": ({"security_protocol": "ssl", "ssl_ca": "/none.pem"}, "TG_KAFKA_SSL_CA names no file"),
    "more copies asked for than made": ({"replication": "2", "min_isr": "3"}, "TG_KAFKA_MIN_ISR asks for more"),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABOUT:
        monkeypatch.delenv(variable(name), raising=False)


def give(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TG_KAFKA_{name.upper()}", value)


def test_what_is_set_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_LOG_URL", "kafka://one:9092,[::1]:9093")
    login = {"security_protocol": "sasl_ssl", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}
    give(monkeypatch, {**login, "prefix": "ours", "replication": "3", "min_isr": "2", "ssl_ca": __file__})
    give(monkeypatch, {"options": "socket.keepalive.enable=true; ssl.sigalgs.list=a=b"})
    config = kafka_config(read().settings)
    assert (config.servers, config.prefix, config.partitions) == ("one:9092,[::1]:9093", "ours", 1)
    assert (config.replication, config.min_isr) == (3, 2)
    assert config.options == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": __file__,
        "socket.keepalive.enable": "true",
        "ssl.sigalgs.list": "a=b",
    }


@pytest.mark.parametrize(("values", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], said: str) -> None:
    give(monkeypatch, values)
    with pytest.raises(SettingsError, match=said) as refused:
        connection_options(read().settings)
    assert "hunter2" not in str(refused.value)


def test_passwords_and_free_options_are_masked_and_reach_every_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = {"sasl_password": "hunter2", "ssl_key_password": "hunter2", "options": "ssl.key.pem=hunter2"}
    give(monkeypatch, secrets)
    assert run(["config", "show", "--data-dir", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count('"********"') == len(secrets)
    assert "hunter2" not in out
    assert child_environment(SIGNER)["TG_KAFKA_SASL_PASSWORD"] == "hunter2"


def test_a_ledger_elsewhere_has_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read().settings.ledger_path(tmp_path) == tmp_path / "ledger.db"
    monkeypatch.setenv("TG_LOG_URL", "kafka://broker:9092")
    assert read().settings.ledger_path(tmp_path) is None
