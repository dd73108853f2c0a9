"""Why an export could not be made or read; the codes are what ``FailArtifactExport`` carries."""

from __future__ import annotations

from processors.errors import ProcessorError


class ExportError(ProcessorError):
    """Base of the exporter's errors."""

    code = "internal_error"
    next_step = "Ask again; if it stays so, look at the server's log."


class NothingToExportError(ExportError):
    """The checkpoint holds no adapter, so there is no PEFT folder of it."""

    code = "nothing_to_export"
    next_step = 'Export it as "merged": it holds all weights.'


class BaseModelUnknownError(ExportError):
    """The checkpoint's base model is no longer in the catalogue."""

    code = "model_unknown"
    next_step = "Register the base model again, then ask again."


class MergingEndedError(ExportError):
    """The process that merged was killed, for want of memory as a rule."""

    code = "out_of_memory"
    next_step = "Export it as a PEFT folder and merge on a larger machine, or give this one more memory."


class ExportDamagedError(ExportError):
    """What lies there is not what was written."""

    code = "export_damaged"
    next_step = "Export the artifact again."
