"""What an operator may set of a server: by flags, or by the environment with the prefix ``TG_``."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from tensorguard.errors import UsageError


class ServerSettings(BaseSettings):
    """Where a server keeps its data and listens, and what one request may bring.

    Without a larger ``max_body_bytes`` larger batches are answered with 413; a smaller one protects a small machine.
    """

    model_config = SettingsConfigDict(env_prefix="TG_", extra="ignore")

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: PositiveInt = 32 << 20
    max_batch_rows: PositiveInt = 1024
    max_batch_tokens: PositiveInt = 1 << 20

    @classmethod
    def read(cls, data_dir: Path, host: str, port: int) -> ServerSettings:
        """The settings of a command line, completed from the environment.

        Raises:
            UsageError: a variable holds what it cannot.
        """
        try:
            return cls(data_dir=data_dir, host=host, port=port)
        except ValidationError as error:
            wrong = ", ".join(f"TG_{'_'.join(map(str, each['loc'])).upper()}" for each in error.errors())
            raise UsageError(f"{wrong} must be a whole number above zero.") from error
