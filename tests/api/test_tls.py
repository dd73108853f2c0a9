"""HTTPS: what the settings name is checked before anything listens, and clients speak it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tg_tinker import RetryPolicy, ServiceClient, errors
from tg_tinker.cli.main import run

from api.errors import TlsError
from api.tls import tls_files
from producers.settings import Settings
from tests.support.certificates import DAY, Authority, Certified, pem
from tests.support.server import LiveServer, tensorguard_json

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def checked(pair: Certified) -> object:
    return tls_files(Settings(tls_cert=pair.cert, tls_key=pair.key), NOW)


def test_a_certificate_with_its_key_is_taken(authority: Authority) -> None:
    made, pair = datetime.now(UTC), authority.certify("good")
    files = tls_files(Settings(tls_cert=pair.cert, tls_key=pair.key), made)
    assert files is not None
    assert abs(files.ends - (made + DAY)) < timedelta(minutes=5)
    assert tls_files(Settings(), NOW) is None


def encrypted(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")))
    return path


def test_what_cannot_be_served_with_is_refused_by_name(authority: Authority, tmp_path: Path) -> None:
    good = authority.certify("one")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    other = tmp_path / "other.key"
    other.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    wrong = {
        "TG_TLS_CERT names .*none.* cannot be read": Certified(tmp_path / "none", good.key),
        "TG_TLS_KEY names .*none.* cannot be read": Certified(good.cert, tmp_path / "none"),
        "no PEM certificate": Certified(empty, good.key),
        "no PEM private key": Certified(good.cert, empty),
        "is encrypted": Certified(good.cert, encrypted(tmp_path / "encrypted.key")),
        "is not that of the first certificate": Certified(good.cert, other),
        "ended on": authority.certify("expired", begins=-2 * DAY, ends=-DAY),
        "begins on": authority.certify("early", begins=DAY, ends=2 * DAY),
    }
    for said, pair in wrong.items():
        with pytest.raises(TlsError, match=said):
            checked(pair)
    with pytest.raises(TlsError, match="TG_TLS_CERT is set alone"):
        tls_files(Settings(tls_cert=good.cert), NOW)


def test_a_server_with_a_bad_certificate_ends_before_it_listens(authority: Authority, tmp_path: Path) -> None:
    pair = authority.certify("old", begins=-2 * DAY, ends=-DAY)
    environment = {"TG_TLS_CERT": str(pair.cert), "TG_TLS_KEY": str(pair.key)}
    server = LiveServer(tmp_path / "data", tmp_path / "log", environment).start(ready=False)
    assert server.process is not None
    assert server.process.wait(60) == 1
    assert "error[tls]" in server.log()
    assert "child_started" not in server.log()


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    root, pair = tmp_path_factory.mktemp("secure"), authority.certify("server")
    environment = {
        "TG_ENVIRONMENT": "production",
        "TG_TLS_CERT": str(pair.cert),
        "TG_TLS_KEY": str(pair.key),
        "TG_SECRET_KEY": "5" * 64,
        "TG_KEY_MASTER": "correct horse battery staple",
    }
    return LiveServer(root / "data", root / "log", environment, ca=authority.path)


@pytest.fixture(scope="module")
def key(secure: LiveServer) -> str:
    issued: str = tensorguard_json("keys", "issue", "--data-dir", secure.data_dir, "--tenant", "acme")["api_key"]
    return issued


def test_the_sdk_and_its_commands_work_over_https(
    secure: LiveServer,
    authority: Authority,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secure.start()
    try:
        assert json.loads((secure.data_dir / "run" / "server.json").read_text())["url"] == secure.url
        with ServiceClient(secure.url, key, ca=authority.path) as client:
            assert client.list_training_clients() == []
        monkeypatch.setenv("TG_TINKER_API_KEY", key)
        assert run(["--base-url", secure.url, "--ca", str(authority.path), "clients", "list", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
        _refused(secure, key)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        with ServiceClient(secure.url, key) as client:
            assert client.list_training_clients() == []
        assert "kek" not in [path.name for path in (secure.data_dir / "keys").glob("kek") if path.stat().st_size == 32]
    finally:
        assert secure.stop() == 0


def _refused(secure: LiveServer, key: str) -> None:
    patient = RetryPolicy(most_seconds=600)
    with ServiceClient(secure.url, key, retry=patient) as client, pytest.raises(errors.UntrustedServerError):
        client.list_training_clients()

    async def ask() -> None:
        async with ServiceClient(secure.url, key, retry=patient) as client:
            await client.list_training_clients_async()

    with pytest.raises(errors.UntrustedServerError, match="not trusted"):
        asyncio.run(ask())


def test_a_file_without_certificates_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for path in (tmp_path / "none.pem", tmp_path / "missing.pem"):
        with pytest.raises(errors.ConfigurationError):
            ServiceClient("https://127.0.0.1:1", "tg-key", ca=path)
