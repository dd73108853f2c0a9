"""The ``tensorguard`` command line."""
