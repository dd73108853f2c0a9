"""What can go wrong with keys, signatures and sealed bytes. No error text holds key material or plaintext."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class CryptoError(TensorGuardError):
    """Base of every cryptographic error."""

    code = "crypto_error"


class KeyMalformedError(CryptoError):
    """Bytes that are no key of the kind that was asked for."""

    code = "key_malformed"
    next_step = "Use the key file exactly as it was generated."


class SignatureInvalidError(CryptoError):
    """A signature does not verify: other bytes, another key or another context."""

    code = "signature_invalid"
    next_step = "Do not use this data; fetch it again and compare the public key with the published trust root."


class UnknownAlgorithmError(CryptoError):
    """An algorithm that this build does not know, or does not accept here."""

    code = "unknown_algorithm"
    next_step = "Update this software; algorithms are never downgraded to make a file readable."


class WrongKeyError(CryptoError):
    """The key does not open this: it was wrapped or sealed for another one."""

    code = "wrong_key"
    next_step = "Use the key of the tenant or device that this was sealed for."


class StreamError(CryptoError):
    """Base of what can be wrong with a sealed stream."""

    code = "stream_error"
    next_step = "Fetch or restore the file again; nothing of it was used."


class StreamDamagedError(StreamError):
    """A chunk does not authenticate: bytes were changed, moved, or sealed under another key or header."""

    code = "stream_damaged"


class StreamTruncatedError(StreamError):
    """The stream ends before its last chunk does."""

    code = "stream_truncated"


class StreamExtraBytesError(StreamError):
    """Bytes follow the last chunk."""

    code = "stream_extra_bytes"
