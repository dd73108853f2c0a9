from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from producers.settings import SettingsError, read
from producers.settings.fields import ABOUT, variable

COUNTS = ("kafka_partitions", "kafka_replication", "kafka_min_isr")
NUMBERS = [
    name for name, about in ABOUT.items() if name.startswith(("max_", "checkpoint", "result_")) or name in COUNTS
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABOUT:
        monkeypatch.delenv(variable(name), raising=False)


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_flags_come_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 'host = "::1"\nport = 1\nmax_batch_rows = 7\n')
    monkeypatch.setenv("TG_PORT", "2")
    monkeypatch.setenv("TG_HOST", "127.0.0.2")
    setup = read(tmp_path, {"port": 3, "host": None})
    assert (setup.settings.port, setup.settings.host, setup.settings.max_batch_rows) == (3, "127.0.0.2", 7)
    assert [setup.sources[name] for name in ("port", "host", "max_batch_rows", "tls_key")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


@pytest.mark.parametrize("value", ["x", "0", "-1", "", "nan", "inf"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_used_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(SettingsError, match=variable(name)) as refused:
        read()
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("environment", "staging", "'development' or 'production'"),
        ("port", "65536", "less than or equal to 65535"),
        ("log_url", "postgresql://host/log", "sqlite:////absolute/path or kafka://host:port"),
        ("log_url", "kafka://broker", "each broker has a port"),
        ("log_url", "kafka://broker:9092,", "each broker has a port"),
        ("log_url", "kafka://broker:0", "each broker has a port"),
        ("log_url", "kafka://broker:65536", "each broker has a port"),
        ("log_url", "kafka://broker:9092/topic", "TG_KAFKA_PREFIX"),
        ("log_url", "kafka://user:hunter2@broker:9092", "TG_KAFKA_SASL_PASSWORD"),
        ("kafka_prefix", "ledgers/ours", "letters, digits, dashes and dots"),
        ("kafka_partitions", "1025", "less than or equal to 1024"),
        ("kafka_security_protocol", "tls", "'sasl_ssl'"),
        ("kafka_sasl_mechanism", "DIGEST-MD5", "'SCRAM-SHA-512'"),
        ("kafka_registry", "registry:8081", "http://host:port"),
        ("kafka_options", "acks=0", "only options of the connection"),
        ("kafka_options", "ssl.cipher.suites", "name=value"),
        ("log_url", "sqlite:///relative.db", "must be absolute"),
        ("database_url", "postgresql://user:hunter2@host/db", "only sqlite:////absolute/path works"),
        ("blob_url", "s3://bucket", "only file:///absolute/folder works"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("log_level", "chatty", "'debug', 'info' or 'warning'"),
        ("otlp_endpoint", "collector:4317", "http://host:port"),
        ("trusted_proxy", "*", "10.0.0.5 or 10.0.0.0/24"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_would_be_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(SettingsError) as refused:
        read()
    assert variable(name) in str(refused.value)
    assert said in str(refused.value)
    assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_body_byte = 1", "'max_body_byte'"),
        ("accept_clock = true", "'accept_clock'"),
        ('data_dir = "/x"', "'data_dir'"),
        ("port = ", "cannot be read as TOML"),
        ('port = "x"', r"TG_PORT \(file\)"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=said):
        read(tmp_path)


def test_a_named_settings_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="TG_CONFIG"):
        read(tmp_path)


def test_the_ledger_the_views_and_the_blobs_lie_where_their_urls_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TG_LOG_URL", "sqlite:////elsewhere/log.db")
    monkeypatch.setenv("TG_BLOB_URL", "file:///elsewhere/blobs")
    settings = read(tmp_path).settings
    assert settings.ledger_path(tmp_path) == Path("/elsewhere/log.db")
    assert settings.blobs_path(tmp_path) == Path("/elsewhere/blobs")
    assert settings.views_path(tmp_path) == tmp_path / "views.db"


def test_a_url_for_everybody_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert read().settings.database_url is None


def test_settings_are_not_changed_once_they_are_read() -> None:
    with pytest.raises(ValidationError):
        read().settings.port = 1
