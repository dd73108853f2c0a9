"""A data dir: made once, kept private, refused when something is wrong with it."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from tensorguard.ledger import trust

from producers.errors import InstallationError, KeyFileError
from producers.identities import ROLES, Producer
from producers.installation import Installation
from tests.support.ledgers import Ledger, python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPEN = """
import sys
from pathlib import Path
from producers.installation import Installation
installation = Installation.open(Path(sys.argv[1]))
print(installation.installation_id, installation.producer("authority").key_id.hex())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Ledger(tmp_path / "data").close()
    return tmp_path / "data"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_processes_that_open_a_new_data_dir_at_once_make_one_installation(tmp_path: Path) -> None:
    processes = [python(OPEN, tmp_path / "data") for _ in range(3)]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_secrets_are_for_their_owner_alone(folder: Path) -> None:
    assert mode(folder / "keys") == mode(folder / "signer") == 0o700
    files = [*(folder / "keys").iterdir(), folder / "signer" / "signer.db"]
    assert {mode(path) for path in files} == {0o600}
    assert len(files) == len(ROLES) + 3


def test_opening_again_keeps_every_key(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "keys").iterdir()}
    Installation.open(folder)
    assert {path.name: path.read_bytes() for path in (folder / "keys").iterdir()} == before


def test_the_trust_root_names_this_installations_keys(folder: Path) -> None:
    installation = Installation.open(folder)
    root = trust.parse(installation.trust_root_path.read_bytes())
    published = json.loads((folder / "checkpoints" / "signer.json").read_text())
    assert root.origin == installation.origin == f"tensorguard.local/{installation.installation_id}"
    assert root.authority_key == installation.producer("authority").public_key
    assert [key.ed25519.hex() for key in root.signer_keys] == [key["ed25519"] for key in published["keys"]]
    assert len(root.artifact_keys[0].public_key) == 1952 + 32


def test_every_role_has_a_key_of_its_own(folder: Path) -> None:
    installation = Installation.open(folder)
    producers = [installation.producer(role) for role in ROLES]
    assert [producer.role for producer in producers] == list(ROLES)
    assert len({producer.key_id for producer in producers}) == len(ROLES)


def test_a_signature_covers_each_command_of_its_batch(folder: Path) -> None:
    producer = Installation.open(folder).producer("gateway")
    for signed in producer.sign([b"one", b"two", b"three"]):
        signed.verify(producer.public_key)


KEY_DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "too short": lambda path: path.write_bytes(b"\x00" * 31),
    "too long": lambda path: path.write_bytes(b"\x00" * 33),
    "open to others": lambda path: path.chmod(0o644),
}


@pytest.mark.parametrize("damage", KEY_DAMAGE)
def test_an_unsound_key_file_is_refused(folder: Path, damage: str) -> None:
    path = folder / "keys" / "gateway.key"
    KEY_DAMAGE[damage](path)
    with pytest.raises(KeyFileError):
        Producer.load(path, "gateway")


IDENTITY_DAMAGE = {
    "no json": "installation",
    "another format": '{"format": 2, "installation_id": "a", "origin": "b"}',
    "no origin": '{"format": 1, "installation_id": "a"}',
    "no object": "[]",
    "no text": '{"format": 1, "installation_id": 5, "origin": "b"}',
}


@pytest.mark.parametrize("damage", IDENTITY_DAMAGE)
def test_a_data_dir_with_another_identity_is_refused(folder: Path, damage: str) -> None:
    (folder / "installation.json").write_text(IDENTITY_DAMAGE[damage])
    with pytest.raises(InstallationError):
        Installation.open(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstallationError):
        Installation.open(tmp_path / "file")
