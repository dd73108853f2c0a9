"""The client's tokenizer gives what transformers gives, for texts and for conversations by many templates."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tg_tinker import errors
from tg_tinker.tokenizer import Tokenizer

from tests.sdk import templates
from tests.support.tiny_model import TEXT, build_tiny_tokenizer

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  What is in the mind?\n"},
    {"role": "assistant", "content": "A sea of troubles."},
    {"role": "user", "content": "And ünïcode — 東?"},
    {"role": "assistant", "content": "Arms against it.", "reasoning_content": "To be."},
]
CHATS = {
    "one question": TURNS[1:2],
    "question and answer": TURNS[1:3],
    "with a system message": TURNS[:3],
    "two rounds": TURNS[1:],
    "two rounds and a system message": TURNS,
    "null fields": [
        {"role": "user", "content": "To be", "tool_calls": None},
        {"role": "assistant", "content": "or not"},
    ],
    "reasoning by another name": [*TURNS[1:2], {"role": "assistant", "content": "Or not.", "reasoning": "Hm."}],
}
TEXTS = ["", "To be", TEXT, "ünïcode — 東京 \n\n tabs\t", "<|im_end|>a<|im_start|>", "  leading and trailing  "]


def _folder(path: Path, template: str | None = None, **changes: Any) -> Path:
    build_tiny_tokenizer(path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


def _reference(path: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 -- heavy

    return AutoTokenizer.from_pretrained(path, local_files_only=True)


CHAT_TOKENS = {"bos_token": "<s>", "extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}


@pytest.mark.parametrize("ends", [{}, {"add_bos_token": True}, {"add_bos_token": True, "add_eos_token": True}], ids=str)
def test_texts_become_the_tokens_of_transformers(tmp_path: Path, ends: dict[str, Any]) -> None:
    folder = _folder(tmp_path, **CHAT_TOKENS, **ends)
    ours, theirs = Tokenizer.from_folder(folder), _reference(folder)
    for text in TEXTS:
        for special in (True, False):
            ids = ours.encode(text, add_special_tokens=special)
            assert ids == theirs(text, add_special_tokens=special)["input_ids"]
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode_all(TEXTS) == [ours.encode(text) for text in TEXTS]
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert ours.vocabulary_size == len(theirs)


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("template", templates.ALL.values(), ids=templates.ALL)
def test_conversations_become_the_tokens_of_transformers(
    tmp_path: Path, template: str, chat: list[dict[str, Any]]
) -> None:
    folder = _folder(tmp_path, template, **CHAT_TOKENS)
    ours, theirs = Tokenizer.from_folder(folder), _reference(folder)
    for prompt in (True, False):
        assert ours.render_chat(chat, add_generation_prompt=prompt) == theirs.apply_chat_template(
            chat, add_generation_prompt=prompt, tokenize=False
        )
        ids = ours.apply_chat_template(chat, add_generation_prompt=prompt)
        assert ids == theirs.apply_chat_template(chat, add_generation_prompt=prompt)["input_ids"]


def test_a_template_that_marks_turns_is_believed_as_transformers_does(tmp_path: Path) -> None:
    folder = _folder(tmp_path, templates.MARKED, **CHAT_TOKENS)
    ours, theirs = Tokenizer.from_folder(folder), _reference(folder)
    for chat in CHATS.values():
        expected = theirs.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        found = ours.chat_tokens(chat)
        assert (found.ids, found.assistant) == (expected["input_ids"], [bool(m) for m in expected["assistant_masks"]])


WRITTEN = {
    "chatml": ["A sea of troubles.<|im_end|>\n", "Arms against it.<|im_end|>\n"],
    "marked": ["A sea of troubles.<|im_end|>", "Arms against it.<|im_end|>"],
    "brackets": [" A sea of troubles.<|end|>", " Arms against it.<|end|>"],
    "thinking": ["A sea of troubles.<|im_end|>", "<think>\nTo be.\n</think>\n\nArms against it.<|im_end|>\n"],
}


@pytest.mark.parametrize(("name", "written"), WRITTEN.items(), ids=WRITTEN)
def test_the_assistants_tokens_are_its_answers_and_the_ends_of_its_turns(
    tmp_path: Path, name: str, written: list[str]
) -> None:
    tokenizer = Tokenizer.from_folder(_folder(tmp_path, templates.ALL[name], **CHAT_TOKENS))
    tokens = tokenizer.chat_tokens(TURNS)
    parts, before = [], False
    for token, ours in zip(tokens.ids, tokens.assistant, strict=True):
        if ours and not before:
            parts.append([])
        if ours:
            parts[-1].append(token)
        before = ours
    assert [tokenizer.decode(part, skip_special_tokens=False) for part in parts] == written


def test_the_date_of_a_template_is_the_clocks(tmp_path: Path) -> None:
    from datetime import datetime  # noqa: PLC0415 -- used once

    folder = _folder(tmp_path, templates.DATED)
    then = Tokenizer.from_folder(folder, now=lambda: datetime(1999, 1, 1))  # noqa: DTZ001 -- a wall clock, as templates want
    assert then.render_chat(TURNS).startswith("Today is 1999.")


REFUSED = {
    "roles that do not alternate": (templates.BRACKETS, [TURNS[1], TURNS[3]]),
    "no message": (templates.CHATML, []),
    "a number for a message": (templates.CHATML, [7]),
    "a value without JSON": (templates.CHATML, [{"role": "user", "content": {1, 2}}]),
    "no content": (templates.MARKED, [{"role": "user"}]),
    "a way out of the sandbox": ("{{ messages.__class__.__mro__ }}", TURNS),
    "a name of Python's in a namespace": ("{% set n = namespace(__class__=1) %}{{ n }}", TURNS),
    "a loop without end": ("{% for i in range(999999999) %}x{% endfor %}", TURNS),
    "no template at all": (None, TURNS),
    "a broken template": ("{% if %}", TURNS),
}


@pytest.mark.parametrize(("template", "chat"), REFUSED.values(), ids=REFUSED)
def test_what_the_template_refuses_is_a_typed_error_without_a_word_of_the_data(
    tmp_path: Path, template: str | None, chat: Any
) -> None:
    tokenizer = Tokenizer.from_folder(_folder(tmp_path, template, **CHAT_TOKENS))
    with pytest.raises(errors.ChatTemplateError) as caught:
        tokenizer.apply_chat_template(chat)
    assert "mind" not in str(caught.value)
    assert caught.value.next_step


BROKEN = {
    "no tokenizer.json": {"tokenizer_config.json": b"{}"},
    "no JSON": {"tokenizer.json": b"{"},
    "another shape": {"tokenizer.json": b"{}"},
    "no UTF-8": {"tokenizer.json": b"\xff\xff"},
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_files_that_are_no_tokenizer_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(errors.TokenizerError):
        Tokenizer(files)


def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path) -> None:
    build_tiny_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(errors.TokenizerError):
        Tokenizer.from_folder(tmp_path)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'tensorguard\[data\]'"):
        Tokenizer({"tokenizer.json": b"{}"})


@pytest.mark.parametrize("family", ["GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "GemmaTokenizer"])
def test_each_familys_tokenizer_is_run_as_transformers_runs_it(tmp_path: Path, family: str) -> None:
    import transformers  # noqa: PLC0415 -- heavy

    trained = getattr(transformers, family)().train_new_from_iterator([TEXT] * 3, vocab_size=400, show_progress=False)
    trained.save_pretrained(tmp_path)
    ours, theirs = Tokenizer.from_folder(tmp_path), _reference(tmp_path)
    for text in [*TEXTS, "a<s>b</s>c<unk><bos>"]:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert (ours.bos_id, ours.eos_id, ours.vocabulary_size) == (theirs.bos_token_id, theirs.eos_token_id, len(theirs))
