"""A KEK under a master secret: what is on the disk opens nothing without it."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from processors.keys import master
from processors.keys.file import FileKeyProvider
from processors.keys.port import KeyLockedError, KeyLostError
from producers.settings import child_environment, read
from producers.settings.about import PACKAGER, SEQUENCER, SIGNER, TRAINER, WORKER
from producers.settings.fields import ABOUT, variable
from producers.settings.table import shown

PASSPHRASE = "correct horse battery staple"
SECRET = PASSPHRASE.encode()
ROOT = Path(__file__).resolve().parents[2]


def test_a_kek_under_a_passphrase_opens_with_it_alone(tmp_path: Path) -> None:
    dek = FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    assert FileKeyProvider(tmp_path, SECRET).tenant_dek("acme") == dek
    for other in (None, b"another passphrase", SECRET + b" "):
        with pytest.raises(KeyLockedError, match="TG_KEY_MASTER"):
            FileKeyProvider(tmp_path, other).tenant_dek("acme")


def test_a_bare_kek_is_wrapped_at_the_first_start_with_a_master_secret(tmp_path: Path) -> None:
    dek = FileKeyProvider(tmp_path).tenant_dek("acme")
    bare = (tmp_path / "kek").read_bytes()
    with (tmp_path / "kek").open("rb") as before:
        FileKeyProvider(tmp_path, SECRET).protect()
        assert before.read() != bare, "the bare key still lies in the old file"
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert bare not in path.read_bytes()
        assert bare.hex().encode() not in path.read_bytes()
        assert not stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    assert FileKeyProvider(tmp_path, SECRET).tenant_dek("acme") == dek


def test_protecting_twice_changes_nothing_and_without_a_kek_makes_none(tmp_path: Path) -> None:
    FileKeyProvider(tmp_path, SECRET).protect()
    assert not (tmp_path / "kek").exists()
    FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    wrapped = (tmp_path / "kek").read_bytes()
    FileKeyProvider(tmp_path, SECRET).protect()
    assert (tmp_path / "kek").read_bytes() == wrapped


@pytest.mark.parametrize("secret", [None, b"another passphrase"])
def test_a_server_finds_out_at_its_start_that_the_kek_does_not_open(tmp_path: Path, secret: bytes | None) -> None:
    FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    with pytest.raises(KeyLockedError):
        FileKeyProvider(tmp_path, secret).protect()


def test_sixty_four_hexadecimal_digits_are_a_key_and_anything_else_a_passphrase() -> None:
    assert master.secret_of(SecretStr("0A" * 32)) == b"\n" * 32
    assert master.secret_of(SecretStr("0A" * 31)) == b"0A" * 31
    assert master.secret_of(SecretStr(PASSPHRASE)) == SECRET
    assert master.secret_of(None) is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 31, id="one byte short"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b"[1]", id="no object"),
        pytest.param({"format": 2}, id="another format"),
        pytest.param({"kdf": "scrypt"}, id="another derivation"),
        pytest.param({"memory_kib": 8}, id="weaker parameters"),
        pytest.param({"algorithm": "none"}, id="another wrap"),
        pytest.param({"salt": "zz"}, id="a salt that is no hex"),
        pytest.param({"salt": ""}, id="no salt"),
        pytest.param({"wrapped": 1}, id="a number for a key"),
    ],
)
def test_a_damaged_file_is_told_from_a_wrong_passphrase(tmp_path: Path, content: bytes | dict[str, object]) -> None:
    FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    file = tmp_path / "kek"
    file.write_bytes(content if isinstance(content, bytes) else _changed(file.read_bytes(), content))
    with pytest.raises(KeyLostError):
        FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")


def _changed(wrapped: bytes, fields: dict[str, object]) -> bytes:
    return json.dumps({**json.loads(wrapped), **fields}).encode()


def test_the_derived_key_is_made_once_a_process(tmp_path: Path) -> None:
    keys = FileKeyProvider(tmp_path, SECRET)
    keys.tenant_dek("acme")
    derived = master._derive.cache_info().misses
    for _ in range(3):
        FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    assert master._derive.cache_info().misses == derived


def test_threads_that_open_a_kek_at_once_wait_for_one_another(tmp_path: Path) -> None:
    dek = FileKeyProvider(tmp_path, SECRET).tenant_dek("acme")
    master._derive.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(FileKeyProvider(tmp_path, SECRET).tenant_dek, "acme") for _ in range(4)]
        assert {each.result(60).key for each in found} == {dek.key}
    master._derive.cache_clear()
    with ThreadPoolExecutor(4) as pool:  # salts of four installations
        salts = [bytes([number] * 16) for number in range(4)]
        assert len(set(pool.map(lambda salt: master._derived(SECRET, salt), salts))) == 4


def test_only_children_that_open_keys_are_given_the_master_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_KEY_MASTER", PASSPHRASE)
    monkeypatch.setenv("TG_SECRET_KEY", "s" * 32)
    monkeypatch.setenv("TG_TINKER_API_KEY", "tg_a_clients")
    given = {child: child_environment(child) for child in (SEQUENCER, SIGNER, TRAINER, PACKAGER, WORKER)}
    opening = [child for child, environment in given.items() if "TG_KEY_MASTER" in environment]
    assert opening == [TRAINER, PACKAGER, WORKER]
    assert not [child for child, environment in given.items() if "TG_SECRET_KEY" in environment]
    assert not [child for child, environment in given.items() if "TG_TINKER_API_KEY" in environment]
    assert all(environment["PATH"] for environment in given.values())


def test_secrets_are_masked_where_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = [name for name, about in ABOUT.items() if about.secret]
    word = PASSPHRASE.replace(" ", "-")
    given = {"kafka_registry": f"http://user:{word}@host:8081", "kafka_options": f"sasl.oauthbearer.config={word}"}
    for name in secret:
        monkeypatch.setenv(variable(name), given.get(name, PASSPHRASE * 2))
    setup = read()
    assert not any(each in repr(shown(setup)) + repr(setup) for each in (PASSPHRASE, word))
    assert {row["setting"] for row in shown(setup) if row["value"] == "********"} == {variable(n) for n in secret}


@pytest.mark.parametrize(("name", "value"), [("TG_KEY_MASTER", "too short"), ("TG_SECRET_KEY", "s" * 31)])
def test_a_weak_secret_is_refused_without_being_quoted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=name) as refused:
        read()
    assert value not in str(refused.value)


def test_a_file_with_a_secret_in_it_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TG_KEY_MASTER", raising=False)
    path = tmp_path / "settings.toml"
    path.write_text(f'key_master = "{PASSPHRASE}"\n')
    path.chmod(0o640)
    with pytest.raises(Exception, match="chmod 600"):
        read(tmp_path)
    path.chmod(0o600)
    assert read(tmp_path).sources["key_master"] == "file"


def test_the_platform_opens_its_keys_by_the_setting_everywhere() -> None:
    opened = [
        path
        for room in ("producers", "processors", "projections", "api")
        for path in (ROOT / room).rglob("*.py")
        if "FileKeyProvider(" in path.read_text() and path != ROOT / "processors" / "keys" / "file.py"
    ]
    assert not opened, "use FileKeyProvider.of(installation)"
