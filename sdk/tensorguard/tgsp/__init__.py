"""TGSP: secure model packages — one strict ZIP, signed by two algorithms, weights sealed to named devices.

Order of a check, as a device runs it: signature, digests, freshness and release counter, ledger receipt, policy,
base model; only then is a key opened and the weights decrypted, into memory.
"""
