"""The exchange: batches, prompts and completions between doors and trainers, in memory, never on the ledger.

One process holds the hub (``hub.py``). Trainers, and doors in processes of their own, reach it by a socket of the data
directory (``server.py``); doors in the hub's own process call it. Both ways are one port (``port.py``).
"""
