"""Commands that could not be decided: looked at, tried again, removed."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.cli.main import run
from tensorguard.ledger.envelope import SignedCommand

from api.dead_letters import DEAD_LETTER, describe, printable, retry
from producers.deciders import engine as judge
from producers.engines.errors import NoDeadLetterError
from producers.engines.port import ACCEPTED, REFUSED, REJECTED, Commit, Quarantined, Reply
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tensorguard.ledger.envelope import Envelope

UNREADABLE = b"\x00\xff no signed command"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def signed(ledger: Ledger, envelope: Envelope) -> bytes:
    return ledger.authority.sign([envelope.to_bytes()])[0].to_bytes()


def set_aside(ledger: Ledger, *commands: bytes) -> list[int]:
    """Dead letters as a sequencer leaves them that could not decide these commands; their submitters were told so."""
    positions = ledger.engine.submit(commands)
    letters = [Quarantined(position, "undecidable", ledger.clock()) for position in positions]
    refusals = [_refusal(SignedCommand.from_bytes(data).envelope()) for data in commands if data != UNREADABLE]
    commit = Commit(ledger.engine.epoch(), (), refusals, positions[-1], letters)
    ledger.engine.commit(commit)
    return list(positions)


def _refusal(envelope: Envelope) -> Reply:
    digest = sha256(envelope.body).digest()
    return Reply(envelope.command_id, REFUSED, envelope.chain, None, None, "undecidable", "", digest)


def outcome_of(ledger: Ledger, envelope: Envelope) -> str | None:
    reply = ledger.engine.reply(envelope.command_id, envelope.chain)
    return reply.outcome if reply else None


def test_a_retry_that_can_be_decided_takes_the_place_of_the_refusal(ledger: Ledger) -> None:
    asked = ledger.issue()
    position = set_aside(ledger, signed(ledger, asked))[0]
    assert outcome_of(ledger, asked) == REFUSED
    retried = retry(ledger.engine, ledger.submitter, position)
    assert (retried.outcome, retried.decided, outcome_of(ledger, asked)) == (ACCEPTED, True, ACCEPTED)
    assert list(ledger.engine.quarantined()) == []
    command = next(at for at in ledger.events("acme") if at.meta.cause == asked.command_id)
    assert signed(ledger, asked) in command.data  # the very same bytes
    ledger.verify()


def test_a_retry_after_the_commands_time_is_rejected_on_the_ledger(ledger: Ledger) -> None:
    asked = ledger.issue(ttl=1)
    position = set_aside(ledger, signed(ledger, asked))[0]
    retried = retry(ledger.engine, ledger.submitter, position)
    assert (retried.outcome, retried.code, retried.decided) == (REJECTED, "expired", True)
    assert ledger.names("acme").count("CommandRejected") == 1


def test_a_retry_of_what_nobody_can_read_is_refused_and_gone(ledger: Ledger) -> None:
    position = set_aside(ledger, UNREADABLE)[0]
    retried = retry(ledger.engine, ledger.submitter, position)
    assert (retried.outcome, retried.code, retried.decided) == (REFUSED, "malformed", False)
    assert list(ledger.engine.quarantined()) == []


def test_a_command_that_was_decided_meanwhile_is_not_decided_again(ledger: Ledger) -> None:
    asked = ledger.issue()
    position = set_aside(ledger, signed(ledger, asked))[0]
    ledger.submitter.submit_signed(signed(ledger, asked), asked)
    ledger.submitter.wait_decided(position + 1)
    size = ledger.engine.size("acme")
    assert retry(ledger.engine, ledger.submitter, position).outcome == ACCEPTED
    assert ledger.engine.size("acme") == size


def test_what_still_cannot_be_decided_is_set_aside_again_and_blocks_nobody(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, other = ledger.issue(), ledger.issue()
    position = set_aside(ledger, signed(ledger, poison))[0]
    decide = judge.judge

    def stumble(presented: judge.Presented, *args: Any, **kwargs: Any) -> judge.Verdict:
        if presented.envelope.command_id == poison.command_id:
            raise ZeroDivisionError
        return decide(presented, *args, **kwargs)

    monkeypatch.setattr(judge, "judge", stumble)
    ledger.submit(other)
    retried = retry(ledger.engine, ledger.submitter, position)
    assert (retried.outcome, retried.decided) == (DEAD_LETTER, False)
    assert [letter.position for letter in ledger.engine.quarantined()] == [retried.new_position]
    assert (outcome_of(ledger, poison), outcome_of(ledger, other)) == (REFUSED, ACCEPTED)
    assert ledger.engine.dead_letter(retried.new_position or 0) == signed(ledger, poison)


def test_what_is_no_dead_letter_is_not_retried(ledger: Ledger) -> None:
    with pytest.raises(NoDeadLetterError):
        retry(ledger.engine, ledger.submitter, 10_000)


def test_a_dead_letter_is_described_without_its_body(ledger: Ledger) -> None:
    asked = ledger.issue()
    data = signed(ledger, asked)
    set_aside(ledger, data)
    letter = ledger.engine.quarantined()[0]
    said = describe(ledger.engine, letter, ledger.clock())
    assert said is not None
    claims = said["claims"]
    assert (claims["command"], claims["chain"], claims["command_id"]) == (
        "IssueApiKey",
        "acme",
        asked.command_id.hex(),
    )
    assert claims["signed_by"] == ledger.authority.key_id.hex()
    assert (said["size_bytes"], said["sha256"], said["expired"]) == (len(data), sha256(data).hexdigest(), False)
    assert said["answer"] == {"outcome": REFUSED, "code": "undecidable"}
    assert (b"\x07" * 32).hex() not in json.dumps(said)


CLAIMS: dict[str, dict[str, Any]] = {
    "a type nobody knows": {"command_type": "\x1b[2J"},
    "a chain of control characters": {"chain": "\x1b]0;title\x07"},
    "a stream that turns the line around": {"stream": "api-key/\u202egnp.exe"},
    "a time that no calendar has": {"issued_at": 1 << 62, "expires_at": -(1 << 62)},
    "a stream without end": {"stream": "s" * 100_000},
}


@pytest.mark.parametrize("changes", CLAIMS.values(), ids=CLAIMS.keys())
def test_no_claim_can_harm_a_terminal(ledger: Ledger, changes: dict[str, Any]) -> None:
    asked = ledger.issue()
    claimed = type(asked)(**{**{name: getattr(asked, name) for name in asked.__slots__}, **changes})
    set_aside(ledger, signed(ledger, claimed))
    said = describe(ledger.engine, ledger.engine.quarantined()[0], ledger.clock())
    assert said is not None
    for value in said["claims"].values():
        assert str(value).isprintable()
        assert len(str(value)) < 1000


def test_a_strangers_text_is_cut_to_what_is_printed() -> None:
    assert printable("run/a") == "run/a"
    assert printable("a\nb") == "a\\nb"
    assert len(printable("a" * 1000)) == 128


def command(capsys: pytest.CaptureFixture[str], ledger: Ledger, *arguments: str | Path) -> tuple[int, Any, str]:
    """A command's exit code, what it printed for programs, and its errors; the ledger is free for it meanwhile."""
    words = ["ledger", "dead-letters", *map(str, arguments), "--data-dir", str(ledger.folder), "--json"]
    status = run(words)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


def test_dead_letters_are_listed_shown_retried_and_dropped_by_command(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = signed(ledger, ledger.issue())
    first, second = set_aside(ledger, data, UNREADABLE)
    status, rows, _ = command(capsys, ledger, "list")
    assert (status, [row["position"] for row in rows], rows[1]["claims"]) == (0, [first, second], None)
    kept = tmp_path / "kept"
    status, row, _ = command(capsys, ledger, "show", str(first), "--out", kept)
    assert (status, row) == (0, rows[0])
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (data, 0o600)
    status, retried, _ = command(capsys, ledger, "retry", str(first))
    assert (status, retried[0]["outcome"]) == (0, ACCEPTED)
    status, dropped, _ = command(capsys, ledger, "drop", "--all", "--yes")
    assert (status, dropped) == (0, {"dropped": [second]})
    assert command(capsys, ledger, "list")[1] == []


def test_a_retry_without_a_decision_ends_with_an_error(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(ledger, UNREADABLE)
    status, rows, errors = command(capsys, ledger, "retry", "--all")
    assert (status, rows[0]["outcome"], json.loads(errors)["code"]) == (1, REFUSED, "not_decided")


def test_lines_for_people_name_each_dead_letter(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = set_aside(ledger, signed(ledger, ledger.issue()), UNREADABLE)
    for words in (["list"], ["show", str(first)], ["show", str(second)]):
        assert run(["ledger", "dead-letters", *words, "--data-dir", str(ledger.folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("IssueApiKey") == 2
    assert "claims: cannot be read" in printed


WRONG: dict[str, tuple[Sequence[str], int, str]] = {
    "nothing to show": (("show", "10000"), 1, "no_dead_letter"),
    "nothing to retry": (("retry", "10000"), 1, "no_dead_letter"),
    "nothing to drop": (("drop", "10000", "--yes"), 1, "no_dead_letter"),
    "one that is there and one that is not": (("drop", "{there}", "10000", "--yes"), 1, "no_dead_letter"),
    "no position": (("retry",), 2, "usage"),
    "a position and all": (("drop", "{there}", "--all", "--yes"), 2, "usage"),
    "nobody to ask": (("drop", "{there}"), 2, "usage"),
    "a file that is there": (("show", "{there}", "--out", os.devnull), 2, "usage"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_changes_nothing_and_says_what_to_do(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, status, code = WRONG[name]
    there = set_aside(ledger, UNREADABLE)[0]
    done, printed, errors = command(capsys, ledger, *(word.format(there=there) for word in arguments))
    problem = json.loads(errors.splitlines()[-1])
    assert (done, printed, problem["code"], bool(problem["next_step"])) == (status, None, code, True)
    assert [letter.position for letter in ledger.engine.quarantined()] == [there]


@pytest.mark.parametrize("position", ["-1", "9" * 30, "one"])
def test_what_is_no_position_is_wrong_usage(ledger: Ledger, position: str) -> None:
    assert run(["ledger", "dead-letters", "show", position, "--data-dir", str(ledger.folder)]) == 2
