"""A consumer with none of our code reads a ledger from Kafka, as the page says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from producers.engines.kafka import KafkaEngine
from producers.engines.port import Append, Commit
from tests.support.kafka import broker
from tests.support.ledgers import Ledger
from tests.support.pages import blocks
from tests.support.registry import registry

PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"
ADDRESSES = ("127.0.0.1:9092", "http://127.0.0.1:8081/apis/ccompat/v7", '"tg.ledger.acme"')


def test_a_plain_avro_consumer_reads_a_chain_and_finds_it_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(broker().config(), registry=registry().url)
    ledger = Ledger(tmp_path / "data")
    expected = ledger.events("acme")
    engine = KafkaEngine(config)
    epoch = engine.open_epoch()
    half = len(expected) // 2
    for part in (expected[:half], expected[half:]):
        engine.commit(Commit(epoch, [Append("acme", part[0].seq, [recorded.data for recorded in part])]))
    ledger.close()

    (code,) = (block.code for block in blocks(PAGE) if "AvroDeserializer" in block.code)
    there = (config.servers, registry().url, f'"{config.prefix}.ledger.acme"')
    for shown, real in zip(ADDRESSES, there, strict=True):
        assert code.count(shown) == 1
        code = code.replace(shown, real)
    capsys.readouterr()
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102 -- the page's own code
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed] == [[str(one.seq), one.meta.stream] for one in expected]
    engine.close()
