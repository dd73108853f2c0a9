"""Production's gates: a server starts when everything is set, and else says all that is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from api import gates
from api.errors import ProductionError
from producers.settings import Settings
from tests.support.doors import open_doors

SECRET = "s" * 32


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for folder in ("keys", "signer", "keys/deks"):
        (tmp_path / folder).mkdir(mode=0o700, exist_ok=True)
    for name in ("keys/kek", "tls.key", "keys/deks/acme.wrapped"):
        (tmp_path / name).write_bytes(b"k")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def ready(data_dir: Path, **changed: object) -> Settings:
    """What a server in production needs, but for what is changed."""
    needed = {
        "environment": "production",
        "secret_key": SECRET,
        "tls_cert": data_dir / "tls.pem",
        "tls_key": data_dir / "tls.key",
    }
    return Settings.model_validate({**needed, **changed})


def test_what_is_all_set_starts(keys: Path) -> None:
    gates.check(ready(keys), keys)
    gates.check(ready(keys, tls_cert=None, tls_key=None, trusted_proxy="10.0.0.1"), keys)


def test_development_asks_for_nothing(keys: Path) -> None:
    (keys / "keys" / "kek").chmod(0o644)
    gates.check(Settings(), keys)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tls_cert": None, "tls_key": None}, "TG_TLS_CERT and TG_TLS_KEY, or .* TG_TRUSTED_PROXY"),
        ({"secret_key": None}, "TG_SECRET_KEY is not set"),
    ],
)
def test_what_is_not_set_is_named(keys: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ProductionError, match=said):
        gates.check(ready(keys, **changed), keys)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("name", ["keys/kek", "keys/deks/acme.wrapped", "tls.key", "signer", "keys"])
def test_a_key_that_others_may_read_is_named(keys: Path, name: str, mode: int) -> None:
    (keys / name).chmod(mode | (0o100 if (keys / name).is_dir() else 0))
    with pytest.raises(ProductionError, match=f"chmod go-rwx {keys / name}`"):
        gates.check(ready(keys), keys)


def test_debugging_is_refused(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sys.flags.dev_mode
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    with pytest.raises(ProductionError, match="debugging"):
        gates.check(ready(keys), keys)


def test_everything_that_is_missing_is_said_in_one_go(keys: Path) -> None:
    (keys / "keys" / "kek").chmod(0o644)
    with pytest.raises(ProductionError) as refused:
        gates.check(ready(keys, tls_cert=None, tls_key=None, secret_key=None), keys)
    assert all(part in str(refused.value) for part in ("TG_TLS_CERT", "TG_SECRET_KEY", "keys/kek"))


def test_in_production_a_request_in_the_clear_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_ENVIRONMENT", "production")
    with open_doors(data_dir) as doors:
        answer = doors.call("GET", "/v1/training_clients")
        assert (answer.status_code, answer.json()["code"]) == (403, "https_required")
        assert answer.headers["x-request-id"]
        assert doors.call("GET", "https://testserver/v1/training_clients").status_code == 200
        assert doors.client.get("/healthz").status_code == 200
