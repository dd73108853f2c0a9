"""What an operator may set of a server: by flags, or by the environment with the prefix ``TG_``."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    """Where a server keeps its data and listens, and what one request may bring.

    Without a larger ``max_body_bytes`` larger batches are answered with 413; a smaller one protects a small machine.
    """

    model_config = SettingsConfigDict(env_prefix="TG_", extra="ignore")

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 32 << 20
    max_batch_rows: int = 1024
    max_batch_tokens: int = 1 << 20
