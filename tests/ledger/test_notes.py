"""Signed notes, verifier keys and checkpoints: C2SP's own examples, and a table of what is none."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger import note as notes
from tensorguard.ledger.checkpoint import Checkpoint, SignerKeys
from tensorguard.ledger.errors import LedgerError, MalformedNoteError, SignatureInvalidError, UntrustedKeyError

from tests.ledger.build import ed25519, mldsa44, raw

EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
ORIGIN = "tensorguard.local/test/acme"
HEAD = Checkpoint(ORIGIN, 7, bytes(range(32)))
TIME = 1_760_000_000


def keys_of(label: str, until: int | None = None) -> SignerKeys:
    return SignerKeys(raw(ed25519(label)), raw(mldsa44(label)), 0, until)


def sign(label: str, head: Checkpoint = HEAD) -> bytes:
    return checkpoints.sign(head, ed25519(label), mldsa44(label), TIME)


def test_the_note_of_the_specification_verifies() -> None:
    key = notes.VerifierKey.from_text(EXAMPLE_KEY)
    note = notes.Note.from_bytes(EXAMPLE_NOTE.encode())
    signature = note.by(key)
    assert signature is not None
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature.data, note.text.encode())
    assert note.to_bytes() == EXAMPLE_NOTE.encode()
    assert key.to_text() == EXAMPLE_KEY


NO_VERIFIER_KEYS = {
    "empty": "",
    "no key": "example.com/foo+530d903a+",
    "another key id": EXAMPLE_KEY.replace("530d903a", "530d903b"),
    "an upper-case key id": EXAMPLE_KEY.replace("530d903a", "530D903A"),
    "a space in the name": EXAMPLE_KEY.replace("example.com/foo", "example.com foo"),
    "no name": EXAMPLE_KEY.removeprefix("example.com/foo"),
    "base64 without padding bits": EXAMPLE_KEY[:-1] + "l",
}


@pytest.mark.parametrize("text", NO_VERIFIER_KEYS.values(), ids=NO_VERIFIER_KEYS.keys())
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        notes.VerifierKey.from_text(text)


LINE = "— a.example/key dGVzdHNpZ25hdHVyZQ==\n"
NO_NOTES = {
    "empty": "",
    "text alone": "text\n",
    "no blank line": "text\n" + LINE,
    "no text": "\n\n" + LINE,
    "no signature": "text\n\n",
    "an unterminated signature line": "text\n\n" + LINE[:-1],
    "a hyphen for the dash": "text\n\n" + LINE.replace("—", "-"),
    "two spaces": "text\n\n" + LINE.replace("key ", "key  "),
    "no signature in the line": "text\n\n— a.example/key\n",
    "a key id alone": "text\n\n— a.example/key dGVzdA==\n",
    "no base64": "text\n\n— a.example/key ?GVzdHNpZ25hdHVyZQ==\n",
    "base64 unpadded": "text\n\n— a.example/key dGVzdHNpZ25hdHVyZQ\n",
    "base64 in another spelling": "text\n\n— a.example/key dGVzdHNpZ25hdHVyZR==\n",
    "a plus in the name": "text\n\n" + LINE.replace("a.example/key", "a+b"),
    "an odd space in the name": "text\n\n" + LINE.replace("a.example/key", "a\u2003b"),
    "no name": "text\n\n—  dGVzdHNpZ25hdHVyZQ==\n",
    "a carriage return": "text\r\n\n" + LINE,
    "a tab": "te\txt\n\n" + LINE,
    "text behind the signatures": "text\n\n" + LINE + "more\n",
    "too many signatures": "text\n\n" + LINE * 65,
}


@pytest.mark.parametrize("text", NO_NOTES.values(), ids=NO_NOTES.keys())
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        notes.Note.from_bytes(text.encode())


def test_a_note_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(MalformedNoteError):
        notes.Note.from_bytes(b"te\xffxt\n\n" + LINE.encode())


def test_a_note_over_the_size_limit_is_refused() -> None:
    with pytest.raises(MalformedNoteError):
        notes.Note.from_bytes(b"x" * notes.MAX_NOTE_BYTES + b"\n\n" + LINE.encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_raises_our_errors_alone(data: bytes) -> None:
    try:
        checkpoints.verify(data, ORIGIN, [keys_of("signer")])
    except LedgerError:
        return


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20)


@given(st.lists(TEXTS, min_size=1, max_size=4), NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1))
def test_a_note_reads_back(lines: list[str], name: str, key_id: bytes, data: bytes) -> None:
    note = notes.Note("\n".join(lines) + "\n", (notes.Signature(name, key_id, data),))
    assert notes.Note.from_bytes(note.to_bytes()) == note


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_reads_back(size: int, root: bytes) -> None:
    head = Checkpoint(ORIGIN, size, root)
    assert Checkpoint.from_text(head.to_text()) == head


ROOT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NO_CHECKPOINTS = {
    "two lines": f"{ORIGIN}\n7\n",
    "an extension line": f"{ORIGIN}\n7\n{ROOT}\nmore\n",
    "no last newline": f"{ORIGIN}\n7\n{ROOT}",
    "no origin": f"\n7\n{ROOT}\n",
    "a long origin": f"{'x' * 256}\n7\n{ROOT}\n",
    "a leading zero": f"{ORIGIN}\n07\n{ROOT}\n",
    "a sign": f"{ORIGIN}\n+7\n{ROOT}\n",
    "digits of another script": f"{ORIGIN}\n\u0667\n{ROOT}\n",
    "a size over 63 bits": f"{ORIGIN}\n9223372036854775808\n{ROOT}\n",
    "no size": f"{ORIGIN}\n\n{ROOT}\n",
    "a short root": f"{ORIGIN}\n7\nAAEC\n",
    "a root in hex": f"{ORIGIN}\n7\n{bytes(32).hex()}\n",
}


@pytest.mark.parametrize("text", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS.keys())
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        Checkpoint.from_text(text)


def test_a_checkpoint_verifies_for_its_signer_origin_and_time() -> None:
    signed = checkpoints.verify(sign("signer"), ORIGIN, [keys_of("older"), keys_of("signer")])
    assert (signed.checkpoint, signed.timestamp, signed.keys) == (HEAD, TIME, keys_of("signer"))


def test_the_cosigned_message_is_that_of_the_specification() -> None:
    name = ORIGIN.encode()
    assert checkpoints.cosigned_message(ORIGIN, TIME, HEAD) == (
        b"subtree/v1\n\x00" + bytes([len(name)]) + name + TIME.to_bytes(8, "big") + bytes([len(name)]) + name
    ) + bytes(8) + (7).to_bytes(8, "big") + bytes(range(32))


def test_a_witness_that_is_not_known_is_ignored() -> None:
    note = notes.Note.from_bytes(sign("signer"))
    witnessed = note.extended([notes.Signature("witness.example", b"1234", b"who knows")])
    assert checkpoints.verify(witnessed.to_bytes(), ORIGIN, [keys_of("signer")]).checkpoint == HEAD


def test_a_checkpoint_by_nobody_who_is_trusted_is_refused() -> None:
    with pytest.raises(UntrustedKeyError):
        checkpoints.verify(sign("stranger"), ORIGIN, [keys_of("signer")])


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(UntrustedKeyError):
        checkpoints.verify(sign("signer"), ORIGIN + "-2", [keys_of("signer")])


def test_a_checkpoint_signed_after_its_keys_were_retired_is_refused() -> None:
    assert checkpoints.verify(sign("signer"), ORIGIN, [keys_of("signer", until=TIME)])
    with pytest.raises(UntrustedKeyError):
        checkpoints.verify(sign("signer"), ORIGIN, [keys_of("signer", until=TIME - 1)])


@pytest.mark.parametrize("kept", [0, 1], ids=["Ed25519", "ML-DSA-44"])
def test_one_of_the_two_signatures_alone_is_refused(kept: int) -> None:
    note = notes.Note.from_bytes(sign("signer"))
    with pytest.raises(SignatureInvalidError):
        checkpoints.verify(notes.Note(note.text, (note.signatures[kept],)).to_bytes(), ORIGIN, [keys_of("signer")])


@pytest.mark.parametrize("of", [0, 1], ids=["Ed25519", "ML-DSA-44"])
def test_one_signature_of_another_head_is_refused(of: int) -> None:
    note = notes.Note.from_bytes(sign("signer"))
    other = notes.Note.from_bytes(sign("signer", Checkpoint(ORIGIN, 8, HEAD.root)))
    mixed = [note.signatures[0], note.signatures[1]]
    mixed[of] = other.signatures[of]
    with pytest.raises(SignatureInvalidError):
        checkpoints.verify(notes.Note(note.text, tuple(mixed)).to_bytes(), ORIGIN, [keys_of("signer")])


def test_keys_of_two_signers_do_not_make_a_pair() -> None:
    mixed = checkpoints.sign(HEAD, ed25519("one"), mldsa44("two"), TIME)
    with pytest.raises(SignatureInvalidError):
        checkpoints.verify(mixed, ORIGIN, [keys_of("one"), keys_of("two")])


def test_two_signatures_by_one_key_are_refused() -> None:
    note = notes.Note.from_bytes(sign("signer"))
    with pytest.raises(MalformedNoteError):
        checkpoints.verify(note.extended(note.signatures[:1]).to_bytes(), ORIGIN, [keys_of("signer")])


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject) -> None:
    note = bytearray(sign("signer"))
    bit = data.draw(st.integers(0, len(note) * 8 - 1))
    note[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LedgerError):
        checkpoints.verify(bytes(note), ORIGIN, [keys_of("signer")])
