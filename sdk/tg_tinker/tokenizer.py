"""The model's own tokenizer, run where the data is: text and conversations to token ids and back.

Needs the ``data`` extra (``pip install 'tensorguard[data]'``). What it gives is what ``transformers`` gives for
the same files, so the server's model sees the tokens that it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tensorguard.model_manifest import TOKENIZER_FILES

from tg_tinker import turns
from tg_tinker.errors import ChatTemplateError, TokenizerError
from tg_tinker.extras import need

if TYPE_CHECKING:
    from tg_tinker.chat_template import ChatTemplate, Message, Rendered

TOKENIZER = "tokenizer.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatTokens:
    """A conversation as token ids; ``assistant`` says of each whether the assistant wrote it."""

    ids: list[int]
    assistant: list[bool]


class Tokenizer:
    """A tokenizer from its files, such as :meth:`ServiceClient.get_tokenizer` fetches them. Any thread may use it.

    Args:
        files: content by name; ``tokenizer.json`` must be among them.
        now: the clock that a chat template may ask for the date.

    Raises:
        MissingExtraError: the ``data`` extra is not installed.
        TokenizerError: the files are no tokenizer that can be run here.
    """

    def __init__(self, files: Mapping[str, bytes], *, now: Callable[[], datetime] = datetime.now) -> None:
        library = need("tokenizers")
        if TOKENIZER not in files:
            raise TokenizerError(f"The model has no {TOKENIZER}, which alone can be run here.")
        self._config = {**_object(files, "special_tokens_map.json"), **_object(files, "tokenizer_config.json")}
        self._now = now
        try:
            self._tokenizer = library.Tokenizer.from_str(files[TOKENIZER].decode())
        except Exception as error:  # the library raises Exception itself
            raise TokenizerError(f"{TOKENIZER} is none that the installed library of tokenizers reads.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = {name: text for name in NAMED if (text := _content(self._config.get(name))) is not None}
        self._complete(library)
        self._template_source = _template_source(files, self._config)

    @classmethod
    def from_folder(cls, folder: Path | str, *, now: Callable[[], datetime] = datetime.now) -> Self:
        """A tokenizer from a model's folder.

        Raises:
            TokenizerError: the folder has none.
        """
        paths = [path for name in sorted(TOKENIZER_FILES) if (path := Path(folder) / name).is_file()]
        return cls({path.name: path.read_bytes() for path in paths}, now=now)

    def _complete(self, library: Any) -> None:
        """Add the tokens that the configuration names beyond those of tokenizer.json."""
        listed = self._config.get("added_tokens_decoder")
        added = [entry for _, entry in sorted((int(key), entry) for key, entry in listed.items())] if listed else []
        tokens = [library.AddedToken(**entry) for entry in added]
        special = [*self.special_tokens.values(), *_more_special_tokens(self._config)]
        tokens += [library.AddedToken(text, special=True) for text in dict.fromkeys(special)]
        self._tokenizer.add_tokens([token for token in tokens if self._id(token.content) is None])

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text; None if the model has none."""
        return self._id(self.special_tokens.get("bos_token"))

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text; None if the model has none."""
        return self._id(self.special_tokens.get("eos_token"))

    @property
    def pad_id(self) -> int:
        """The token that fills up rows; the end of a text, or 0, where the model has none of its own.

        It is never attended to, so any will do.
        """
        ids = (self._id(self.special_tokens.get("pad_token")), self.eos_id, 0)
        return next(each for each in ids if each is not None)

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be encoded."""
        return self._template_source is not None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text; with the special tokens that the model puts around texts, unless told not to."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def encode_all(self, texts: Iterable[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """The ids of several texts, on several cores."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [list(each.ids) for each in found]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def is_special(self, token: int) -> bool:
        """Whether an id is a special token, such as the end of a turn."""
        return token in self._special_ids

    def render_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **variables: Any) -> str:
        """A conversation as text, by the model's chat template (errors as for :meth:`apply_chat_template`)."""
        return self._render(messages, add_generation_prompt=add_generation_prompt, variables=variables).text

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **variables: Any
    ) -> list[int]:
        """A conversation as token ids, by the model's chat template.

        Args:
            messages: objects with ``role`` and ``content``.
            add_generation_prompt: end with the header of an answer, for sampling one.
            variables: what else this model's template reads, such as ``enable_thinking=False``.

        Raises:
            ChatTemplateError: the model has no chat template, or its template refuses these messages.
        """
        text = self.render_chat(messages, add_generation_prompt=add_generation_prompt, **variables)
        return self.encode(text, add_special_tokens=False)

    def chat_tokens(self, messages: Sequence[Message], **variables: Any) -> ChatTokens:
        """A whole conversation as token ids, and which of them the assistant wrote.

        A template that marks answers by ``{% generation %}`` is believed. Of any other, an answer is what stands
        between the header that the template writes before it and the end of its turn, the token that ends it included.

        Raises:
            ChatTemplateError: as for :meth:`apply_chat_template`; or it cannot be told where an answer begins.
        """
        rendered = self._render(messages, add_generation_prompt=False, variables=variables)
        encoded = self._tokenizer.encode(rendered.text, add_special_tokens=False)
        ids, assistant = list(encoded.ids), [False] * len(encoded.ids)
        for turn in self._turns(messages, rendered, variables):
            for index in turns.tokens_of(turn, encoded.offsets, [self.is_special(token) for token in ids]):
                assistant[index] = True
        return ChatTokens(ids, assistant)

    def _turns(self, messages: Sequence[Message], whole: Rendered, variables: Mapping[str, Any]) -> list[turns.Turn]:
        if self._template.marks_turns:
            return [turns.Turn(start, end) for start, end in whole.turns if end > start]

        def text_of(part: Sequence[Message], prompt: bool) -> str:  # noqa: FBT001 -- two lines up and down
            return self._render(part, add_generation_prompt=prompt, variables=variables).text

        return turns.find_turns(messages, whole.text, text_of)

    def _render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool, variables: Mapping[str, Any]
    ) -> Rendered:
        given = {**self.special_tokens, **variables, "add_generation_prompt": add_generation_prompt}
        return self._template.render(messages, given)

    @cached_property
    def _template(self) -> ChatTemplate:
        if self._template_source is None:
            raise ChatTemplateError("The model has no chat template.")
        template: ChatTemplate = need("tg_tinker.chat_template").ChatTemplate(self._template_source, self._now)
        return template

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(
            number for number, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        )

    def _id(self, text: str | None) -> int | None:
        return None if text is None else self._tokenizer.token_to_id(text)


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = json.loads(files.get(name, b"{}"))
    except ValueError as error:
        raise TokenizerError(f"{name} is no JSON.") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{name} is no JSON object.")
    return value


def _content(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _more_special_tokens(config: Mapping[str, Any]) -> list[str]:
    listed = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    tokens = listed.values() if isinstance(listed, dict) else listed
    return [text for token in tokens if (text := _content(token)) is not None]


def _template_source(files: Mapping[str, bytes], config: Mapping[str, Any]) -> str | None:
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode()
    source = config.get("chat_template")
    if isinstance(source, list):
        source = {each["name"]: each["template"] for each in source}.get("default")
    return source if isinstance(source, str) else None
