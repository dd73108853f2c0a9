"""The contract of key providers, run on each of them, and what is the file provider's alone."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from processors.keys.file import FileKeyProvider
from processors.keys.port import KeyLostError, KeyProvider, TenantNameError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["file"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> KeyProvider:
    return FileKeyProvider(tmp_path / "keys")


def test_a_tenant_keeps_its_key(provider: KeyProvider) -> None:
    first = provider.tenant_dek("acme")
    assert provider.tenant_dek("acme") == first
    assert len(first.key) == 32


def test_tenants_have_different_keys(provider: KeyProvider) -> None:
    acme, rival = provider.tenant_dek("acme"), provider.tenant_dek("rival")
    assert acme.key != rival.key
    assert acme.id != rival.id


def test_the_wraps_algorithm_is_named(provider: KeyProvider) -> None:
    assert provider.algorithm


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-a", "a" * 64, "a b", "a\n", ".hidden"])
def test_a_name_that_is_no_tenants_is_refused(provider: KeyProvider, name: str) -> None:
    with pytest.raises(TenantNameError):
        provider.tenant_dek(name)


def test_files_are_open_to_their_owner_only(tmp_path: Path) -> None:
    FileKeyProvider(tmp_path / "keys").tenant_dek("acme")
    for path in (tmp_path / "keys").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO), path


def test_a_key_is_on_the_disk_in_wrapped_form_only(tmp_path: Path) -> None:
    dek = FileKeyProvider(tmp_path / "keys").tenant_dek("acme")
    for path in (tmp_path / "keys").rglob("*"):
        if path.is_file():
            assert dek.key not in path.read_bytes()
            assert dek.key.hex().encode() not in path.read_bytes()


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from processors.keys.file import FileKeyProvider; sys.stdin.readline();"
        "print(FileKeyProvider(pathlib.Path(sys.argv[1])).tenant_dek('acme').key.hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "keys")]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # closed by communicate
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_a_lost_kek_is_named_and_never_made_anew(tmp_path: Path) -> None:
    keys = FileKeyProvider(tmp_path / "keys")
    keys.tenant_dek("acme")
    (tmp_path / "keys" / "kek").unlink()
    for tenant in ("acme", "newcomer"):
        with pytest.raises(KeyLostError):
            keys.tenant_dek(tenant)
    assert not (tmp_path / "keys" / "kek").exists()


def test_another_kek_does_not_open_old_keys(tmp_path: Path) -> None:
    keys = FileKeyProvider(tmp_path / "keys")
    keys.tenant_dek("acme")
    (tmp_path / "keys" / "kek").write_bytes(bytes(32))
    with pytest.raises(KeyLostError):
        keys.tenant_dek("acme")


def test_a_key_file_under_another_tenants_name_does_not_open(tmp_path: Path) -> None:
    keys = FileKeyProvider(tmp_path / "keys")
    keys.tenant_dek("acme")
    keys.tenant_dek("rival")
    deks = tmp_path / "keys" / "deks"
    (deks / "acme.wrapped").write_bytes((deks / "rival.wrapped").read_bytes())
    with pytest.raises(KeyLostError):
        keys.tenant_dek("acme")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b'{"format":2,"algorithm":"AES-256-KWP","dek_id":"a","wrapped":"00"}', id="another format"),
        pytest.param(b'{"format":1,"algorithm":"none","dek_id":"a","wrapped":"00"}', id="another algorithm"),
        pytest.param(b'{"format":1,"algorithm":"AES-256-KWP","dek_id":"a","wrapped":"zz"}', id="no hex"),
        pytest.param(b'{"format":1,"algorithm":"AES-256-KWP","dek_id":"a","wrapped":"00"}', id="too short"),
    ],
)
def test_a_damaged_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    keys = FileKeyProvider(tmp_path / "keys")
    keys.tenant_dek("acme")
    (tmp_path / "keys" / "deks" / "acme.wrapped").write_bytes(content)
    with pytest.raises(KeyLostError):
        keys.tenant_dek("acme")


def test_the_recorded_key_id_cannot_be_changed(tmp_path: Path) -> None:
    keys = FileKeyProvider(tmp_path / "keys")
    keys.tenant_dek("acme")
    path = tmp_path / "keys" / "deks" / "acme.wrapped"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dek_id": "another"}))
    with pytest.raises(KeyLostError):
        keys.tenant_dek("acme")
