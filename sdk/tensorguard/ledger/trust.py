"""The trust root: the file an auditor starts from.

It names the installation, its authority's key, the signers of its checkpoints and the keys that sign its
artifacts. The file is JSON whose bytes are exactly

    {"signed":S,"signature":"H"} newline

where S is JSON with sorted keys and no spaces, and H is the hex of the authority's Ed25519 signature over
``DOMAIN || S``. The bytes of S are checked as they are stored and never written anew. An auditor who got the
authority's key, or an earlier trust root, by another way pins it: see :func:`newest`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tensorguard.ledger.checkpoint import ED25519_KEY_BYTES, MLDSA44_KEY_BYTES, SignerKeys, chain_origin
from tensorguard.ledger.errors import MalformedTrustRootError, SignatureInvalidError, UntrustedKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
DOMAIN = b"tensorguard/trust-root/v1\x00"
MAX_BYTES = 1 << 20
_HEAD, _MIDDLE, _TAIL = b'{"signed":', b',"signature":"', b'"}\n'
_SIGNATURE_HEX = 128
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class ArtifactKey:
    """A composite key that signs checkpoints and packages; ``key_id`` is 32 bytes."""

    key_id: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """What an auditor trusts. Signer keys stand in the order of their rotation; ``issued_at`` is POSIX seconds."""

    installation_id: str
    origin: str
    authority_key: bytes
    signer_keys: tuple[SignerKeys, ...]
    artifact_keys: tuple[ArtifactKey, ...]
    issued_at: int

    def chain_origin(self, chain: str) -> str:
        """The origin line of one of the installation's chains."""
        return chain_origin(self.origin, chain)


def build(root: TrustRoot, sign: Callable[[bytes], bytes]) -> bytes:
    """The file of a trust root; ``sign`` is the authority's Ed25519 signing function.

    Raises:
        MalformedTrustRootError: a value that cannot stand in one.
        SignatureInvalidError: ``sign`` is not the authority's.
    """
    signed = _canonical(_to_dict(root))
    data = _HEAD + signed + _MIDDLE + sign(DOMAIN + signed).hex().encode() + _TAIL
    if parse(data) != root:
        raise MalformedTrustRootError("A trust root does not read back as it was written.")
    return data


def parse(data: bytes) -> TrustRoot:
    """Parse a trust root and check its authority's signature. It is still only as good as the way it came.

    Raises:
        MalformedTrustRootError: the bytes are no trust root.
        SignatureInvalidError: the authority named in it did not sign it.
    """
    signed, signature = _split(data)
    try:
        value = json.loads(signed)
        root = _from_dict(value)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise MalformedTrustRootError("A trust root lacks a field, or holds a value that does not fit.") from error
    if _canonical(_to_dict(root)) != signed:
        raise MalformedTrustRootError("A trust root is not in its canonical spelling.")
    try:
        Ed25519PublicKey.from_public_bytes(root.authority_key).verify(signature, DOMAIN + signed)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalidError("A trust root is not signed by its authority.") from error
    return root


def newest(pinned: TrustRoot, found: TrustRoot) -> TrustRoot:
    """The later issued of two trust roots of one authority, of which one is pinned.

    Keys are only ever added: the later one must begin with the signers of the earlier.

    Raises:
        UntrustedKeyError: another installation or authority, or a signer was exchanged.
    """
    mine, theirs = ((r.installation_id, r.origin, r.authority_key) for r in (pinned, found))
    if mine != theirs:
        raise UntrustedKeyError("The export's trust root is of another installation or authority than the pinned one.")
    earlier, later = sorted((pinned, found), key=lambda root: root.issued_at)
    old, new = ([(k.ed25519, k.mldsa44) for k in root.signer_keys] for root in (earlier, later))
    if new[: len(old)] != old:
        raise UntrustedKeyError("A later trust root exchanged a signer of an earlier one.")
    return later


def _split(data: bytes) -> tuple[bytes, bytes]:
    tail = len(_MIDDLE) + _SIGNATURE_HEX + len(_TAIL)
    end = len(data) - tail
    quoted = data[end + len(_MIDDLE) : len(data) - len(_TAIL)]
    framed = data.startswith(_HEAD) and data[end:].startswith(_MIDDLE) and data.endswith(_TAIL)
    if len(data) > MAX_BYTES or end < len(_HEAD) or not framed or quoted.strip(b"0123456789abcdef"):
        raise MalformedTrustRootError('A trust root\'s bytes are {"signed":…,"signature":"…"} and a newline.')
    return data[len(_HEAD) : end], bytes.fromhex(quoted.decode())


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _to_dict(root: TrustRoot) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "installation_id": root.installation_id,
        "origin": root.origin,
        "authority_key": root.authority_key.hex(),
        "signer_keys": [
            {
                "ed25519": keys.ed25519.hex(),
                "mldsa44": keys.mldsa44.hex(),
                "from": _time(keys.since),
                "until": None if keys.until is None else _time(keys.until),
            }
            for keys in root.signer_keys
        ],
        "artifact_keys": [
            {"key_id": key.key_id.hex(), "public_key": key.public_key.hex()} for key in root.artifact_keys
        ],
        "issued_at": _time(root.issued_at),
    }


def _from_dict(value: dict[str, Any]) -> TrustRoot:
    if value["format"] != FORMAT:
        raise MalformedTrustRootError(f"Only trust roots of format {FORMAT} are known.")
    return TrustRoot(
        installation_id=_text(value["installation_id"]),
        origin=_text(value["origin"]),
        authority_key=_bytes(value["authority_key"], ED25519_KEY_BYTES),
        signer_keys=tuple(_signer(keys) for keys in value["signer_keys"]),
        artifact_keys=tuple(
            ArtifactKey(_bytes(key["key_id"], _ID_BYTES), _bytes(key["public_key"])) for key in value["artifact_keys"]
        ),
        issued_at=_seconds(value["issued_at"]),
    )


def _signer(value: dict[str, Any]) -> SignerKeys:
    return SignerKeys(
        ed25519=_bytes(value["ed25519"], ED25519_KEY_BYTES),
        mldsa44=_bytes(value["mldsa44"], MLDSA44_KEY_BYTES),
        since=_seconds(value["from"]),
        until=None if value["until"] is None else _seconds(value["until"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise MalformedTrustRootError("A name in a trust root is empty, or has a space or an unprintable character.")
    return value


def _bytes(value: Any, length: int | None = None) -> bytes:
    data = bytes.fromhex(value)
    if not data or (length is not None and len(data) != length):
        raise MalformedTrustRootError("A key or id in a trust root has a wrong length.")
    return data


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)
    except (ValueError, OverflowError, OSError) as error:
        raise MalformedTrustRootError("A time of a trust root is out of range.") from error


def _seconds(value: str) -> int:
    return int(datetime.strptime(value, _TIME).replace(tzinfo=UTC).timestamp())
