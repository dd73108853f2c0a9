"""The logs of every process: one JSON object a line, and nothing of what an exception says."""

from __future__ import annotations

import json

import pytest

from producers.logs import PROCESS
from tests.support.ledgers import ROOT, python

CANARY = "the prompt of a tenant"
LOG_TWO_EXCEPTIONS = """
import logging, sys
import structlog
from producers import logs
logs.configure()
try:
    raise ValueError(sys.argv[1])
except ValueError:
    structlog.get_logger("ours").exception("ours_failed", part="a part")
    logging.getLogger("theirs").exception("theirs failed")
structlog.get_logger("ours").info("going_on")
logging.getLogger("theirs").info("chatter of a library")
"""
UNCAUGHT = """
import sys, threading
from producers import logs
logs.configure()
def fail():
    raise ValueError(sys.argv[1])
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
THREE_LEVELS = """
import structlog
from producers import logs
logs.configure()
log = structlog.get_logger()
log.debug("detail"); log.info("news"); log.warning("trouble")
"""
STDERR_EXCHANGED = """
import io, sys
import structlog
from producers import logs
real, sys.stderr = sys.stderr, io.StringIO()
logs.configure()
structlog.get_logger("early").info("into_the_stream_of_the_moment")
sys.stderr.close()
sys.stderr = real
structlog.get_logger("early").info("still_here")
"""


def test_a_logger_outlives_a_stream_that_stood_for_stderr_for_a_while() -> None:
    process = python(f"import sys; sys.stderr = sys.stdout\n{STDERR_EXCHANGED}")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["still_here"]


def test_an_exception_is_logged_by_its_type_and_place_alone() -> None:
    process = python(f"import sys; sys.stderr = sys.stdout\n{LOG_TWO_EXCEPTIONS}", CANARY)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert CANARY not in out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == ["ours_failed", "theirs failed", "going_on"]
    assert [(line.get("error"), line.get("part")) for line in lines[:2]] == [
        ("ValueError", "a part"),
        ("ValueError", None),
    ]
    assert all({"level", "timestamp"} <= line.keys() for line in lines)


def test_an_exception_that_ends_a_thread_or_the_process_is_logged_so_too() -> None:
    process = python(f"import sys; sys.stderr = sys.stdout\n{UNCAUGHT}", CANARY)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert [(line["event"], line["error"]) for line in map(json.loads, out.splitlines())] == [
        ("uncaught", "ValueError"),
        ("uncaught", "ValueError"),
    ]
    assert CANARY not in out


def test_every_line_names_the_process_that_a_supervisor_has_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESS, "sequencer-1")
    out, _ = python(f"import sys; sys.stderr = sys.stdout\n{LOG_TWO_EXCEPTIONS}", CANARY).communicate(timeout=20)
    assert [json.loads(line)["process"] for line in out.splitlines()] == ["sequencer-1"] * 3


def test_there_is_one_place_that_sets_logging_up() -> None:
    product = [
        path
        for room in ("producers", "processors", "projections", "api", "edge")
        for path in (ROOT / room).rglob("*.py")
    ]
    assert [path.name for path in product if "structlog.configure(" in path.read_text()] == ["logs.py"]


def test_the_level_is_set_by_the_environment_and_by_nothing_that_is_no_level() -> None:
    said = {}
    for level in ("debug", "info", "warning", "chatty"):
        process = python(
            f"import os, sys; os.environ['TG_LOG_LEVEL'] = '{level}'; sys.stderr = sys.stdout\n{THREE_LEVELS}"
        )
        out, _ = process.communicate(timeout=20)
        said[level] = [json.loads(line)["event"] for line in out.splitlines()]
    assert said["debug"] == ["detail", "news", "trouble"]
    assert said["warning"] == ["trouble"]
    assert said["chatty"] == said["info"] == ["news", "trouble"]
