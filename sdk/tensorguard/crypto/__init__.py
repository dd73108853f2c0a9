"""Signatures, sealed streams, key wrap and key encapsulation; algorithms that are not named here are refused."""
