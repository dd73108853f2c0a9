"""Producers, API keys and signing keys."""

from __future__ import annotations

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.models import ApiKey, ProducerKey, SigningKey
from schemas import events

HANDLERS = Handlers()


@HANDLERS.on(events.ProducerEnrolled)
def producer_enrolled(view: View, at: Recorded, event: events.ProducerEnrolled) -> None:
    """A producer's key appears."""
    view.session.add(
        ProducerKey(
            chain=at.chain,
            key_id=event.key_id.hex(),
            public_key=event.public_key.hex(),
            role=event.role,
            name=event.name,
            hpke_public_key=event.hpke_public_key.hex() if event.hpke_public_key else None,
            seq=at.seq,
            enrolled_at=at.meta.recorded_at,
            revoked_at=None,
        )
    )


@HANDLERS.on(events.ProducerRevoked)
def producer_revoked(view: View, at: Recorded, event: events.ProducerRevoked) -> None:
    """A producer's key may sign no more."""
    key = view.session.get_one(ProducerKey, (at.chain, event.key_id.hex()))
    key.revoked_at = at.meta.recorded_at


@HANDLERS.on(events.ApiKeyIssued)
def api_key_issued(view: View, at: Recorded, event: events.ApiKeyIssued) -> None:
    """An API key opens its tenant's door."""
    view.session.add(
        ApiKey(
            chain=at.chain,
            key_id=event.key_id,
            secret_hash=event.secret_hash.hex(),
            scopes=list(event.scopes),
            issued_at=at.meta.recorded_at,
            revoked_at=None,
        )
    )


@HANDLERS.on(events.ApiKeyRevoked)
def api_key_revoked(view: View, at: Recorded, event: events.ApiKeyRevoked) -> None:
    """An API key opens nothing any more."""
    key = view.session.get_one(ApiKey, (at.chain, event.key_id))
    key.revoked_at = at.meta.recorded_at


@HANDLERS.on(events.SignerKeyPublished)
def signer_key_published(view: View, at: Recorded, event: events.SignerKeyPublished) -> None:
    """The signer's first keys."""
    _add_signing_key(view, at, "signer", {"ed25519": event.ed25519_key.hex(), "mldsa44": event.mldsa44_key.hex()})


@HANDLERS.on(events.SignerKeyRotated)
def signer_key_rotated(view: View, at: Recorded, event: events.SignerKeyRotated) -> None:
    """The signer's next keys."""
    _add_signing_key(view, at, "signer", {"ed25519": event.ed25519_key.hex(), "mldsa44": event.mldsa44_key.hex()})


@HANDLERS.on(events.ArtifactKeyPublished)
def artifact_key_published(view: View, at: Recorded, event: events.ArtifactKeyPublished) -> None:
    """A key that signs checkpoints and packages."""
    _add_signing_key(view, at, "artifact", {"key_id": event.key_id.hex(), "public_key": event.public_key.hex()})


def _add_signing_key(view: View, at: Recorded, kind: str, public: dict[str, str]) -> None:
    view.session.add(SigningKey(chain=at.chain, seq=at.seq, kind=kind, public=public, published_at=at.meta.recorded_at))
