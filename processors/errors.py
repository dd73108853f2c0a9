"""What can go wrong between an event and what is made of it."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class ProcessorError(TensorGuardError):
    """Base of this package's errors."""

    code = "processor_error"


class ChannelError(ProcessorError):
    """The side channel cannot take or bring what was asked."""

    code = "channel_error"
    next_step = "Send the request again; if it stays so, look at the server's log."


class ChannelFullError(ChannelError):
    """Too many bytes of inputs wait in memory."""

    code = "quota_exceeded"
    next_step = "Wait until operations that are under way have finished, then send it again."


class ChannelClosedError(ChannelError):
    """The other end of the side channel is gone."""

    code = "channel_closed"
    next_step = "Start the server again."


class ModelError(ProcessorError):
    """Base of what can be wrong with a catalogue model."""

    code = "model_invalid"
    next_step = "Save model and tokenizer into one folder with `save_pretrained`, then add it again."


class ModelNotFoundError(ModelError):
    """No such folder, or it holds no model."""

    code = "model_not_found"


class PickledWeightsError(ModelError):
    """A folder holds weights that could run code when they are loaded."""

    code = "model_pickled"
    next_step = "Save the weights as safetensors, and leave the pickled files out of the folder."


class TokenizerMissingError(ModelError):
    """A folder holds no tokenizer."""

    code = "model_without_tokenizer"


class ModelFileRefusedError(ModelError):
    """A file that a catalogue model must not have."""

    code = "model_file_refused"
    next_step = "Copy the model into a plain folder (`cp -RL`): real files, no links, no sub-folders."


class CatalogueFullError(ModelError):
    """No space is left for a model's files."""

    code = "storage_full"
    next_step = "Free space on the data dir's file system, then add the model again; nothing of it was kept."


class ModelNameError(ModelError):
    """A catalogue name that is none."""

    code = "model_name_invalid"
    next_step = "Use 1 to 128 letters, digits, dots, dashes and underscores, starting with a letter or digit."


class ModelChangedError(ModelError):
    """A catalogue file is no longer what was registered."""

    code = "model_changed"
    next_step = "Restore the file from a backup, or register the model again under another name."
