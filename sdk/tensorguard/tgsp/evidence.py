"""Where the weights come from: the lineage that a package carries, signed with it."""

from __future__ import annotations

import json
from typing import Final, Literal

from pydantic import ValidationError

from tensorguard.artifact.manifest import Count, Hex16, Hex32, Name, Strict, Tenant, unique_object
from tensorguard.tgsp.errors import PackageMalformedError

FORMAT: Final = "TGSP/v1/evidence"


class Evidence(Strict):
    """The run, the checkpoint and the step that the adapter was taken from. Digests are hex."""

    format: Literal["TGSP/v1/evidence"] = FORMAT
    tenant: Tenant
    run_id: Name
    artifact_id: Hex16
    artifact_manifest_digest: Hex32
    artifact_content_hash: Hex32
    adapter_digest: Hex32
    model: Name
    model_manifest_digest: Hex32
    tokenizer_digest: Hex32
    step: Count
    checkpoint_created_at: Count

    def to_bytes(self) -> bytes:
        """The bytes that are stored: canonical JSON and a newline."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"


def parse(data: bytes) -> Evidence:
    """Evidence from its stored bytes.

    Raises:
        PackageMalformedError: they are none.
    """
    try:
        return Evidence.model_validate(json.loads(data, object_pairs_hook=unique_object))
    except (ValidationError, ValueError, RecursionError) as error:
        raise PackageMalformedError("The package's evidence is not in the known form.") from error
