"""The catalogue: models copied in once, named by the digest of all their files, and checked again before each use.

A client names a catalogue entry, never a path. Only safetensors, configuration and tokenizer files come in; nothing
that could run code.
"""

from processors.catalogue.files import model_dir, size_of, verify_model
from processors.catalogue.folder import choose_files
from processors.catalogue.register import register_model, registered_models, remove_model
from processors.catalogue.weights import expert_modules, linear_modules, stored_tensors

__all__ = [
    "choose_files",
    "expert_modules",
    "linear_modules",
    "model_dir",
    "register_model",
    "registered_models",
    "remove_model",
    "size_of",
    "stored_tensors",
    "verify_model",
]
