"""Log engines: one port, one file per backend."""
