"""Registering and removing models: files into their place, one command to the ledger."""

from __future__ import annotations

import json
import secrets
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from tensorguard.model_manifest import digest_files, manifest_digest, tokenizer_digest

from processors.catalogue.files import copy_file, discard, incoming, move_file, settle
from processors.catalogue.folder import CONFIG, choose_files
from processors.catalogue.names import check_name
from processors.catalogue.weights import count_parameters
from processors.errors import ModelError, ModelNotRegisteredError
from producers.errors import RejectedError
from producers.feed import Feed
from producers.identities import make_envelope
from schemas.commands import RegisterModel, RemoveModel
from schemas.events import ModelRegistered, ModelRemoved
from schemas.types import ModelFile

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.port import LogReader
    from producers.installation import Installation
    from producers.submitter import Submitter

PLATFORM = "platform"
DTYPES: Final = ("float32", "bfloat16", "float16")


def register_model(
    installation: Installation,
    submitter: Submitter,
    name: str,
    path: Path,
    *,
    dtype: str = DTYPES[0],
    source: str | None = None,
) -> ModelRegistered:
    """Copy a model's folder into the catalogue and register it under a name; again is no error if nothing changed.

    ``dtype`` is what runs load it in. A folder with a ``source``, where it came from, was made for this: its files are
    moved.

    Raises:
        ModelError: the folder is no model that may come in; each reason has its own class.
        RejectedError: the name belongs to another model.
    """
    check_name(name)
    command = take_in(installation, name, path, dtype=dtype, source=source)
    submitter.ensure_chain(PLATFORM)
    known = registered_models(installation.engine()).get(name)
    if known is not None and (known.manifest_digest, known.dtype) == (command.manifest_digest, command.dtype):
        return known
    try:
        _decide(installation, submitter, command)
    except RejectedError:
        _discard_unused(installation, command.manifest_digest)
        raise
    return ModelRegistered(**{field.name: getattr(command, field.name) for field in fields(command)})


def remove_model(installation: Installation, submitter: Submitter, name: str) -> ModelRegistered:
    """Take a name out of the catalogue; its files go when no other name has the same. What it was is returned.

    Raises:
        ModelNotRegisteredError: there is no such name.
    """
    known = registered_models(installation.engine()).get(name)
    if known is None:
        raise ModelNotRegisteredError("The catalogue has no model of this name.")
    _decide(installation, submitter, RemoveModel(name, known.manifest_digest))
    _discard_unused(installation, known.manifest_digest)
    return known


def registered_models(reader: LogReader) -> dict[str, ModelRegistered]:
    """The catalogue by name, as the ledger has it now."""
    found: dict[str, ModelRegistered] = {}
    feed = Feed(reader, chains=lambda chain: chain == PLATFORM)
    while page := feed.poll():
        for recorded in page:
            match recorded.event:
                case ModelRegistered() as event:
                    found[event.name] = event
                case ModelRemoved(name=name):
                    found.pop(name, None)
                case _:
                    pass
    return found


def take_in(
    installation: Installation, name: str, path: Path, *, dtype: str = DTYPES[0], source: str | None = None
) -> RegisterModel:
    """Copy a model's files to their place and describe them; nothing is there before all of them are.

    Raises:
        ModelError: see :func:`register_model`.
    """
    with incoming(installation) as folder:
        held = folder / "model"
        held.mkdir()
        for file in choose_files(path):
            (copy_file if source is None else move_file)(file, held / file.name)
        command = describe(name, held, dtype=dtype, source=source)
        settle(held, installation, command.manifest_digest)
    return command


def describe(name: str, directory: Path, *, dtype: str = DTYPES[0], source: str | None = None) -> RegisterModel:
    """What the ledger says of a model's files.

    Raises:
        ModelError: config or weights cannot be read, or make no causal language model.
    """
    config, parameters = _read_config(directory), count_parameters(directory)
    from processors.catalogue.trial import try_model  # noqa: PLC0415 -- heavy, and only where a model comes in

    facts = try_model(directory, config, dtype)
    digests = digest_files(directory)
    return RegisterModel(
        name=name,
        architecture=facts.architecture,
        files=tuple(ModelFile(d.path, bytes.fromhex(d.sha256), d.size_bytes) for d in digests),
        manifest_digest=manifest_digest(digests),
        tokenizer_digest=tokenizer_digest(digests),
        vocabulary_size=facts.vocabulary_size,
        max_positions=facts.max_positions,
        parameters=parameters,
        dtype=dtype,
        source=source,
        has_chat_template=facts.has_chat_template,
    )


def _read_config(directory: Path) -> dict[str, Any]:
    try:
        value = json.loads((directory / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{CONFIG} is no JSON.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{CONFIG} is no JSON object.")
    return value


def _decide(installation: Installation, submitter: Submitter, command: RegisterModel | RemoveModel) -> None:
    envelope = make_envelope(
        command,
        chain=PLATFORM,
        stream=f"model/{command.name}",
        command_id=secrets.token_bytes(16),
        now=installation.clock(),
    )
    submitter.submit_and_wait(installation.producer("authority"), envelope).raise_for_outcome()


def _discard_unused(installation: Installation, digest: bytes) -> None:
    if all(model.manifest_digest != digest for model in registered_models(installation.engine()).values()):
        discard(installation, digest)
