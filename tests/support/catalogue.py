"""A model in a catalogue, put there by this process: a command would load torch for it once more."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from processors.catalogue import register_model
from producers.installation import Installation
from producers.submitter import Submitter

if TYPE_CHECKING:
    from pathlib import Path


def add_model(data_dir: Path, name: str, folder: Path) -> None:
    """What ``tensorguard models add`` does; the data directory is made if need be, and its server may run."""
    with (
        closing(Installation.open(data_dir)) as installation,
        closing(Submitter(installation, installation.engine())) as submitter,
    ):
        submitter.ensure_chain("platform")
        register_model(installation, submitter, name, folder)
