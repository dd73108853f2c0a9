from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.artifact import (
    ArtifactError,
    ArtifactSubject,
    CheckpointDamagedError,
    CheckpointTruncatedError,
    CheckpointWrongKeyError,
    LoraSettings,
    OptimizerSettings,
    SealedArtifact,
    open_artifact,
    seal_artifact,
)
from tensorguard.crypto.composite import CompositePrivateKey

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID = "0123456789abcdef" * 2
PLAINTEXT = b"canary plaintext weights " * 100
SIGNER = CompositePrivateKey.generate()
SUBJECT = ArtifactSubject(
    artifact_id=ID,
    tenant="acme",
    run_id="run-1",
    step=3,
    through_op_seq=7,
    model="org/base",
    manifest_digest="11" * 32,
    tokenizer_digest="22" * 32,
    lora=LoraSettings(rank=8, alpha=16.0, dropout=0.0, target_modules=["q_proj"], bias="none"),
    optimizer=OptimizerSettings(name="adamw", learning_rate=1e-3, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8),
    includes_optimizer=True,
    adapter_digest="33" * 32,
    created_at=1_700_000_000_000_000,
)


class World:
    """A real blob folder and a real key folder with one sealed artifact of tenant acme."""

    def __init__(self, folder: Path) -> None:
        self.store = FileBlobStore(folder / "blobs")
        self.keys = FileKeyProvider(folder / "keys")
        self.place = folder / "blobs" / "acme" / ID
        self.sealed = self.seal(SUBJECT)

    def seal(self, subject: ArtifactSubject, chunk_size: int = 512) -> SealedArtifact:
        pieces = [PLAINTEXT[:100], memoryview(PLAINTEXT)[100:]]
        dek = self.keys.tenant_dek(subject.tenant)
        return seal_artifact(subject, pieces, store=self.store, dek=dek, signing_key=SIGNER, chunk_size=chunk_size)

    def open(self, *, key_of: str = "acme", digest: bool = True) -> bytes:
        _, plaintext = open_artifact(
            self.store,
            tenant="acme",
            artifact_id=ID,
            dek=self.keys.tenant_dek(key_of),
            trusted=[SIGNER.public_key],
            manifest_digest=self.sealed.manifest_digest if digest else None,
        )
        return bytes(plaintext)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_was_sealed_opens_to_the_same_bytes(world: World) -> None:
    assert world.open() == PLAINTEXT
    assert world.sealed.content_hash.hex() == world.sealed.manifest.payload.sha256
    assert world.sealed.size_bytes == (world.place / "payload.enc").stat().st_size


def test_no_plaintext_is_on_the_disk(world: World) -> None:
    files = [path for path in world.place.parent.parent.parent.rglob("*") if path.is_file()]
    assert files
    assert not any(b"canary" in path.read_bytes() for path in files)


def test_every_artifact_has_a_key_of_its_own(world: World) -> None:
    first = (world.place / "payload.enc").read_bytes()
    assert world.seal(SUBJECT).content_hash != world.sealed.content_hash
    assert first[:64] != (world.place / "payload.enc").read_bytes()[:64]


def cut(name: str, keep: Callable[[int], int]) -> Callable[[World], None]:
    def damage(world: World) -> None:
        path = world.place / name
        os.truncate(path, keep(path.stat().st_size))

    return damage


def flip(name: str, at: int) -> Callable[[World], None]:
    def damage(world: World) -> None:
        data = bytearray((world.place / name).read_bytes())
        data[at] ^= 4
        (world.place / name).write_bytes(data)

    return damage


def append(name: str) -> Callable[[World], None]:
    def damage(world: World) -> None:
        with (world.place / name).open("ab") as out:
            out.write(b"x")

    return damage


def remove(name: str) -> Callable[[World], None]:
    return lambda world: (world.place / name).unlink()


def take_payload_of_another(world: World) -> None:
    other = SUBJECT.model_copy(update={"artifact_id": "f" * 32})
    world.seal(other)
    shutil.copy(world.place.parent / ("f" * 32) / "payload.enc", world.place / "payload.enc")


def take_all_of_another(world: World) -> None:
    other = SUBJECT.model_copy(update={"artifact_id": "f" * 32})
    world.seal(other)
    shutil.rmtree(world.place)
    shutil.copytree(world.place.parent / ("f" * 32), world.place)


def take_all_of_another_tenant(world: World) -> None:
    world.seal(SUBJECT.model_copy(update={"tenant": "rival"}))
    shutil.rmtree(world.place)
    shutil.copytree(world.place.parent.parent / "rival" / ID, world.place)


def edit_manifest(world: World) -> None:
    path = world.place / "manifest.json"
    value = json.loads(path.read_bytes())
    value["step"] += 1
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        pytest.param(flip("payload.enc", 0), CheckpointDamagedError, id="a bit of the first chunk"),
        pytest.param(flip("payload.enc", -1), CheckpointDamagedError, id="a bit of the last tag"),
        pytest.param(flip("manifest.json", 40), CheckpointDamagedError, id="a bit of the manifest"),
        pytest.param(flip("manifest.sig", 5), CheckpointDamagedError, id="a bit of the post-quantum signature"),
        pytest.param(flip("manifest.sig", -1), CheckpointDamagedError, id="a bit of the classical signature"),
        pytest.param(edit_manifest, CheckpointDamagedError, id="an edited manifest"),
        pytest.param(append("payload.enc"), CheckpointDamagedError, id="a longer payload"),
        pytest.param(append("manifest.sig"), CheckpointDamagedError, id="a longer signature"),
        pytest.param(remove("payload.enc"), CheckpointDamagedError, id="no payload"),
        pytest.param(remove("manifest.sig"), CheckpointDamagedError, id="no signature"),
        pytest.param(remove("manifest.json"), CheckpointDamagedError, id="no manifest"),
        pytest.param(take_payload_of_another, CheckpointDamagedError, id="another artifact's payload"),
        pytest.param(take_all_of_another, CheckpointDamagedError, id="another artifact under this name"),
        pytest.param(cut("payload.enc", lambda size: size - 1), CheckpointTruncatedError, id="payload cut by a byte"),
        pytest.param(cut("payload.enc", lambda _: 528), CheckpointTruncatedError, id="payload cut between chunks"),
        pytest.param(cut("payload.enc", lambda _: 0), CheckpointTruncatedError, id="payload empty"),
        pytest.param(cut("manifest.json", lambda size: size // 2), CheckpointTruncatedError, id="manifest cut"),
        pytest.param(cut("manifest.json", lambda _: 0), CheckpointTruncatedError, id="manifest empty"),
        pytest.param(cut("manifest.sig", lambda size: size - 64), CheckpointTruncatedError, id="signature cut"),
    ],
)
def test_damage_has_its_own_error_with_a_next_step(
    world: World, damage: Callable[[World], None], error: type[ArtifactError]
) -> None:
    damage(world)
    with pytest.raises(error) as caught:
        world.open()
    assert type(caught.value) is error
    assert caught.value.next_step


def test_another_tenants_key_does_not_open_it(world: World) -> None:
    with pytest.raises(CheckpointWrongKeyError):
        world.open(key_of="rival")


@pytest.mark.parametrize("move", [take_all_of_another, take_all_of_another_tenant])
def test_an_artifact_does_not_open_in_anothers_place_even_without_a_ledger(
    world: World, move: Callable[[World], None]
) -> None:
    move(world)
    with pytest.raises(CheckpointWrongKeyError):
        world.open(digest=False)


def test_a_signing_key_that_is_not_trusted_is_refused(world: World) -> None:
    with pytest.raises(CheckpointWrongKeyError):
        open_artifact(
            world.store,
            tenant="acme",
            artifact_id=ID,
            dek=world.keys.tenant_dek("acme"),
            trusted=[CompositePrivateKey.generate().public_key],
        )


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("flip"))
    name = data.draw(st.sampled_from(["payload.enc", "manifest.json", "manifest.sig"]))
    content = bytearray((world.place / name).read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    (world.place / name).write_bytes(content)
    with pytest.raises(ArtifactError):
        world.open()
