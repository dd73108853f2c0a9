"""What can go wrong between an event and what is made of it."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class ProcessorError(TensorGuardError):
    """Base of this package's errors."""

    code = "processor_error"


class WorkerEndedError(ProcessorError):
    """A worker on Kafka cannot go on."""

    code = "worker_ended"
    next_step = "Look at the brokers and at TG_LOG_URL; what was not finished is done by the next worker."


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
    next_step = (
        "Copy the model into a plain folder (`cp -RL`): files that this user may read, no links, no sub-folders."
    )


class CatalogueFullError(ModelError):
    """No space is left for a model's files."""

    code = "storage_full"
    next_step = "Free space on the data dir's file system, then add the model again; nothing of it was kept."


class ModelNameError(ModelError):
    """A catalogue name that is none."""

    code = "model_name_invalid"
    next_step = "Use 1 to 128 letters, digits, dots, dashes and underscores, starting with a letter or digit."


class ModelNotCausalError(ModelError):
    """A model that does not go on with a text."""

    code = "model_not_causal"
    next_step = "Take a model whose config names a ...ForCausalLM architecture."


class RemoteCodeError(ModelError):
    """A model that works only with code from its own folder."""

    code = "model_needs_code"
    next_step = "Take a model of an architecture that transformers itself knows: no code of a model is ever run."


class ModelUnsupportedError(ModelError):
    """A model that the installed libraries cannot train."""

    code = "model_unsupported"
    next_step = "Take unquantised weights of an architecture that the installed transformers knows."


class ModelRecurrentError(ModelUnsupportedError):
    """A model with layers that carry a state from token to token, which sampling keeps no cache for."""

    code = "model_recurrent"
    next_step = "Take a model whose layers all attend to earlier tokens: no Mamba, linear attention or convolutions."


class ModelIncompleteError(ModelError):
    """Weights are missing: a shard, or tensors of the architecture."""

    code = "model_incomplete"
    next_step = "Copy or download the whole model again, every shard that its index names, then add it again."


class ModelNotRegisteredError(ModelError):
    """No catalogue model has that name."""

    code = "unknown_model"
    next_step = "Check the name with `tensorguard models list`."


class ModelInUseError(ModelError):
    """Open runs stand on a model that shall go."""

    code = "model_in_use"
    next_step = "Close the runs first, or remove it with --force: they then end with `model_unknown`."


class HubError(ModelError):
    """Base of what can go wrong with a model hub."""

    code = "hub_failed"
    next_step = "Try again, or fetch the model elsewhere and add its folder."


class HubUnreachableError(HubError):
    """No hub answers, or none may be asked."""

    code = "hub_unreachable"
    next_step = (
        "On a machine that reaches the hub run `hf download ID --local-dir DIR`, copy the folder here and add that; "
        "or set HF_ENDPOINT to a mirror and leave HF_HUB_OFFLINE unset."
    )


class HubModelUnknownError(HubError):
    """The hub does not show such a model or revision."""

    code = "hub_model_unknown"
    next_step = "Check id and revision; for a gated or private model accept its terms and set HF_TOKEN."


class HubFileDamagedError(HubError):
    """A downloaded file is not the one that the hub names by its digest."""

    code = "hub_file_damaged"
    next_step = "Add the model again; if it stays so, the way to the hub changes files: use another."


class ModelChangedError(ModelError):
    """A catalogue file is no longer what was registered."""

    code = "model_changed"
    next_step = "Restore the file from a backup; or remove every name of the model with --force, then add it again."
