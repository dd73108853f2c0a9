"""What is wrong with training data or with the tokenizer; never with a word of the data itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tg_tinker.errors.base import ConfigurationError, TGTinkerError


class MissingExtraError(ConfigurationError):
    """A library of the optional ``data`` extra is not installed."""

    code = "missing_extra"
    next_step = "Run: pip install 'tensorguard[data]'."


class DataError(TGTinkerError):
    """Data that no batch can be made of.

    Attributes: ``path`` of the file and ``line`` in it, from 1 (of Parquet: the row), None where there is none.
    """

    code = "data_unusable"
    exit_code = 2
    next_step = "Correct the file at the place that the message names."

    def __init__(self, detail: str, *, path: Path | None = None, line: int | None = None, **said: Any) -> None:
        place = f"{path}, line {line}: " if path and line else f"{path}: " if path else ""
        super().__init__(f"{place}{detail}", **said)
        self.path = path
        self.line = line


class DataFileError(DataError):
    """A file that cannot be read, or is none of its format."""

    code = "data_file_unreadable"
    next_step = "Check the path, the format and the rights of the file."


class MalformedLineError(DataError):
    """A line that is no JSON object in UTF-8."""

    code = "malformed_line"
    next_step = "Write one JSON object a line, in UTF-8."


class MissingFieldError(DataError):
    """A record without the field that is asked for, or with something else in it."""

    code = "missing_field"
    next_step = "Give the name of a field that every record has, or correct the record."


class MalformedChatError(DataError):
    """A record that is no conversation."""

    code = "malformed_chat"
    next_step = 'Write {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.'


class EmptyDataError(DataError):
    """Nothing to learn from."""

    code = "empty_data"
    next_step = "Give at least one text of two tokens, or one conversation with a turn of the assistant."


class TokenizerError(TGTinkerError):
    """A tokenizer that cannot be used."""

    code = "tokenizer_unusable"
    next_step = "Ask the operator to add the model again with its whole tokenizer (`tensorguard models add`)."


class TokenizerChangedError(TokenizerError):
    """The files that came are not those that the server named."""

    code = "tokenizer_changed"
    next_step = "Fetch it again; if it stays so, do not trust the way to this server."


class ChatTemplateError(TokenizerError):
    """The model has no chat template, or its template refuses these messages."""

    code = "chat_template"
    next_step = "Check the order of the roles, or use a model whose tokenizer has a chat template."
