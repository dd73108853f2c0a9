"""Logs of every process of the platform: one JSON object a line on stderr, without the text of foreign exceptions.

A traceback or a foreign exception's text may quote a prompt or a path of a request, so both are reduced to the type and
the place of the exception.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence


LEVEL = "TG_LOG_LEVEL"
PROCESS = "TG_PROCESS"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def configure(default: int = logging.INFO) -> None:
    """Send structlog's and the standard library's logs to stderr; call it once a process.

    ``TG_LOG_LEVEL`` says from which level on. It is read here, before any other setting, since reading those may have
    to be logged; that then refuses a level that there is not. ``TG_PROCESS`` is the name that a supervisor gave to the
    process: lines of several that write to one stderr are told apart by it.
    """
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_processors(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(os.environ.get(LEVEL, ""), default)),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_processors(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = lambda _kind, error, _trace: _uncaught(error)
    threading.excepthook = lambda thrown: _uncaught(thrown.exc_value)


class _Stderr:
    """What stderr is at the moment of each line: loggers outlive a stream that was put in its place for a while."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _uncaught(error: BaseException | None) -> None:
    """What ends a process or a thread is logged as every other exception is."""
    if error is not None and not isinstance(error, SystemExit):
        structlog.get_logger(__name__).critical("uncaught", exc_info=error)


def _processors() -> Sequence[Any]:
    return (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_named(os.environ[PROCESS])] if PROCESS in os.environ else ()),
        place_of_exception,
    )


def _named(process: str) -> Any:
    """Say in every line which of a server's processes it is of."""
    return lambda _logger, _method, event: {**event, "process": process}


def place_of_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its type and where it was raised."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    return event if not isinstance(error, BaseException) else {**event, **place_of(error)}


def place_of(error: BaseException) -> dict[str, str]:
    """The type of an exception and where it was raised, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
    return {"error": type(error).__name__, "at": place}
