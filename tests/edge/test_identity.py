from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from edge.errors import IdentityError, IdentityExistsError
from edge.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path


def test_an_identity_comes_back_and_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "device")
    assert Identity.load(tmp_path / "device") == made
    for path in [tmp_path / "device", *(tmp_path / "device").iterdir()]:
        assert not stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    made = Identity.create(tmp_path)
    with pytest.raises(IdentityExistsError):
        Identity.create(tmp_path)
    assert Identity.load(tmp_path) == made


def test_half_an_identity_is_never_overwritten_either(tmp_path: Path) -> None:
    Identity.create(tmp_path)
    (tmp_path / "signing.key").unlink()
    with pytest.raises(IdentityExistsError):
        Identity.create(tmp_path)


@pytest.mark.parametrize("name", ["signing.key", "hpke.key"])
@pytest.mark.parametrize("damage", ["missing", "open", "cut", "longer"])
def test_a_key_file_that_is_not_right_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    Identity.create(tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "open":
        path.chmod(0o640)
    else:
        os.truncate(path, 31 if damage == "cut" else 33)
    with pytest.raises(IdentityError):
        Identity.load(tmp_path)


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    made = Identity.create(tmp_path)
    assert repr(made.signing_seed) not in repr(made)
    assert repr(made.hpke_key.seed) not in repr(made)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError):
        Identity.create(tmp_path / "file" / "below")
