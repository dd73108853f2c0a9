from __future__ import annotations

from hashlib import sha512

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from tensorguard.crypto import composite
from tensorguard.crypto.composite import CompositePrivateKey, CompositePublicKey, message_representative
from tensorguard.crypto.errors import CryptoError, KeyMalformedError, SignatureInvalidError

MESSAGE, CONTEXT = b"exact stored bytes", b"TGSP/v1/manifest"
KEY = CompositePrivateKey.generate()
SIGNATURE = KEY.sign(MESSAGE, CONTEXT)
OTHER = CompositePrivateKey.generate()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_sizes_are_those_of_the_draft() -> None:
    assert (len(KEY.data), len(KEY.public_key.data), len(SIGNATURE)) == (64, 1984, 3373)


def test_the_message_representative_is_the_drafts() -> None:
    hand_made = (
        bytes.fromhex("436F6D706F73697465416C676F726974686D5369676E61747572657332303235")
        + b"COMPSIG-MLDSA65-Ed25519-SHA512"
        + b"\x10TGSP/v1/manifest"
        + sha512(MESSAGE).digest()
    )
    assert message_representative(MESSAGE, CONTEXT) == hand_made


def test_each_half_is_a_signature_over_the_representative_and_only_the_pq_half_has_the_label_as_context() -> None:
    representative, public = message_representative(MESSAGE, CONTEXT), KEY.public_key.data
    pq = MLDSA65PublicKey.from_public_bytes(public[:1952])
    pq.verify(SIGNATURE[:3309], representative, composite.LABEL)
    Ed25519PublicKey.from_public_bytes(public[1952:]).verify(SIGNATURE[3309:], representative)
    with pytest.raises(InvalidSignature):
        pq.verify(SIGNATURE[:3309], representative)


def test_signing_is_randomised_and_both_signatures_verify() -> None:
    again = KEY.sign(MESSAGE, CONTEXT)
    assert again[:3309] != SIGNATURE[:3309]
    KEY.public_key.verify(again, MESSAGE, CONTEXT)


@pytest.mark.parametrize(
    ("signature", "message", "context"),
    [
        pytest.param(flipped(SIGNATURE, 7), MESSAGE, CONTEXT, id="a bit of the post-quantum half"),
        pytest.param(flipped(SIGNATURE, 3310), MESSAGE, CONTEXT, id="a bit of the classical half"),
        pytest.param(SIGNATURE[:-1], MESSAGE, CONTEXT, id="cut"),
        pytest.param(SIGNATURE + b"\x00", MESSAGE, CONTEXT, id="extended"),
        pytest.param(b"", MESSAGE, CONTEXT, id="empty"),
        pytest.param(SIGNATURE, MESSAGE + b"\n", CONTEXT, id="another message"),
        pytest.param(SIGNATURE, MESSAGE, b"TGSP/v1/other", id="another context"),
        pytest.param(SIGNATURE, MESSAGE, b"", id="no context"),
        pytest.param(OTHER.sign(MESSAGE, CONTEXT), MESSAGE, CONTEXT, id="another key"),
        pytest.param(
            OTHER.sign(MESSAGE, CONTEXT)[:3309] + SIGNATURE[3309:], MESSAGE, CONTEXT, id="post-quantum half of another"
        ),
        pytest.param(
            SIGNATURE[:3309] + OTHER.sign(MESSAGE, CONTEXT)[3309:], MESSAGE, CONTEXT, id="classical half of another"
        ),
        pytest.param(SIGNATURE[3309:] + SIGNATURE[:3309], MESSAGE, CONTEXT, id="halves exchanged"),
    ],
)
def test_a_signature_that_is_not_wholly_right_is_refused(signature: bytes, message: bytes, context: bytes) -> None:
    with pytest.raises(SignatureInvalidError):
        KEY.public_key.verify(signature, message, context)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 96])
def test_a_private_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyMalformedError):
        CompositePrivateKey(bytes(length))


@pytest.mark.parametrize("length", [0, 32, 1952, 1983, 1985])
def test_a_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyMalformedError):
        CompositePublicKey(bytes(length))


def test_a_context_of_256_bytes_is_refused() -> None:
    with pytest.raises(CryptoError):
        KEY.sign(MESSAGE, bytes(256))


def test_keys_do_not_show_themselves() -> None:
    assert KEY.data.hex() not in repr(KEY)
    assert repr(KEY.data) not in repr(KEY)
