"""The signer: a process of its own, with keys and a store that no other process opens."""

from producers.signer.signer import Signer, SignerHome

__all__ = ["Signer", "SignerHome"]
