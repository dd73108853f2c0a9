"""The ``tg-tinker`` command line."""
