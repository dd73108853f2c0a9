"""Chat templates: Jinja in a sandbox, with the functions and settings that templates of the field are written for.

Rendered text is, character for character, what ``transformers.PreTrainedTokenizer.apply_chat_template`` renders. Only
import this module through :func:`tg_tinker.extras.need`: it needs Jinja.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, TypeAlias, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tg_tinker.errors import ChatTemplateError

Message: TypeAlias = Mapping[str, Any]
Span: TypeAlias = tuple[int, int]
_TURNS = "turns of the assistant"  # no template can name a variable with spaces in it
_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text; ``turns`` are the characters [start, end) that ``{% generation %}`` blocks wrote."""

    text: str
    turns: tuple[Span, ...]


@dataclass
class _Turns:
    """Where the text of a rendering has got to, and which parts of it a generation block wrote."""

    written: int = 0
    spans: list[Span] = field(default_factory=list)


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}``: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 -- as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_note", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _note(self, context: Context, caller: Macro) -> str:
        text = str(caller())
        turns = cast("_Turns", context.resolve(_TURNS))
        turns.spans.append((turns.written, turns.written + len(text)))
        return text


class _PlainNamespace(Namespace):
    """A namespace that keeps no names of Python's own, by which a template could leave the sandbox."""

    def __init__(self, /, *given: Any, **attributes: Any) -> None:
        names = dict(*given, **attributes)
        for name in names:
            _check_name(name)
        super().__init__(names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    # A function of the module: a namespace finds by its dot only what a template put into it.
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError("A namespace keeps no name that begins with an underscore.")


class ChatTemplate:
    """A compiled template; ``now`` is the clock of ``strftime_now``.

    Raises:
        ChatTemplateError: it is no template.
    """

    def __init__(self, source: str, now: Callable[[], datetime]) -> None:
        self._marks_turns = "generation" in source and "endgeneration" in source
        try:
            self._template = _environment(now).from_string(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateError("The model's chat template cannot be compiled.") from error

    @property
    def marks_turns(self) -> bool:
        """Whether the template says by itself what the assistant writes."""
        return self._marks_turns

    def render(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> Rendered:
        """A conversation as text.

        Raises:
            ChatTemplateError: the template refuses the messages. What it says about them is not repeated, since it may
                quote them.
        """
        turns = _Turns()
        given = {"tools": None, "documents": None, **variables, "messages": plain(messages), _TURNS: turns}
        pieces = []
        try:
            for piece in self._template.generate(given):
                pieces.append(piece)
                turns.written += len(piece)
        except Exception:  # noqa: BLE001 -- a template may fail in any way, and its words may quote the data
            raise ChatTemplateError("The model's chat template refuses these messages.") from None
        return Rendered("".join(pieces), tuple(turns.spans))


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: now().strftime(form),
        "namespace": _PlainNamespace,
    }
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 -- templates call it so
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 -- the same
) -> str:
    # Jinja's own filter escapes for HTML, which no prompt is.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as JSON values alone, without fields that are null; reasoning under each name that templates read it by.

    Raises:
        ChatTemplateError: there is no message, or one is no object of JSON values.
    """
    try:
        copied = json.loads(json.dumps([dict(message) for message in messages], allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ChatTemplateError("Messages are objects of JSON values.") from None
    if not copied:
        raise ChatTemplateError("A conversation has at least one message.")
    return [_with_reasoning({name: each for name, each in message.items() if each is not None}) for message in copied]


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    said = next((message[name] for name in _REASONING if name in message), None)
    return message if said is None else {"thinking": said, **message, "reasoning_content": said}
