"""Making one export: checkpoint in, verified and in memory; sealed files out, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.crypto.memory import wipe

from processors.exporter.adapter_folder import adapter_files
from processors.exporter.checkpoints import Checkpoints
from processors.exporter.errors import BaseModelUnknownError, ExportError
from processors.exporter.merging import Merger, Task
from processors.exporter.orders import MERGED
from processors.exporter.store import ExportStore
from schemas.commands import RecordArtifactExported

if TYPE_CHECKING:
    from tensorguard.artifact import ArtifactManifest

    from processors.exporter.orders import BaseFacts, Desk, Order
    from producers.installation import Installation


class Workbench:
    """Where exports are made from and kept."""

    def __init__(self, checkpoints: Checkpoints, exports: ExportStore, merger: Merger) -> None:
        self._checkpoints = checkpoints
        self._exports = exports
        self._merger = merger

    @classmethod
    def of(cls, installation: Installation) -> Workbench:
        """That of an installation."""
        return cls(Checkpoints.of(installation), ExportStore.of(installation), Merger(installation.data_dir))

    def make(self, order: Order, desk: Desk) -> RecordArtifactExported:
        """The report of a finished export; one that was finished before is reported again while it is there.

        Raises:
            ArtifactError, ExportError, ModelError, BlobError, KeyProviderError: why there is none.
        """
        request = order.request
        if self._exports.open(order.chain, request.export_id) is None:
            self._write(order, desk)
        listing = self._exports.open(order.chain, request.export_id)
        if listing is None:
            raise ExportError("The export's time was over before it was reported.")
        return RecordArtifactExported(request.run_id, request.export_id, listing.digest, listing.size_bytes)

    def _write(self, order: Order, desk: Desk) -> None:
        tenant, request = order.chain, order.request
        manifest = self._checkpoints.manifest(tenant, request.artifact_id, request.manifest_digest)
        base = desk.bases.get((manifest.model, bytes.fromhex(manifest.manifest_digest)))
        if request.format == MERGED:
            self._merger.merge(_task(order, base))
        else:
            self._write_adapter(order, manifest, base)

    def _write_adapter(self, order: Order, manifest: ArtifactManifest, base: BaseFacts | None) -> None:
        request = order.request
        _, image = self._checkpoints.open(order.chain, request.artifact_id, request.manifest_digest)
        try:
            self._exports.write(order.chain, request.export_id, adapter_files(image, manifest, base))
        finally:
            wipe(image)


def _task(order: Order, base: BaseFacts | None) -> Task:
    if base is None:
        raise BaseModelUnknownError("The checkpoint's base model was never in the catalogue.")
    request = order.request
    return Task(
        tenant=order.chain,
        export_id=request.export_id.hex(),
        artifact_id=request.artifact_id.hex(),
        manifest_digest=request.manifest_digest.hex(),
        dtype=base.dtype,
    )
