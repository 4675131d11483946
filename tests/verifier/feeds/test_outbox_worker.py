"""Rows are forgotten when the broker has acknowledged them, and not before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from paho.mqtt.properties import Properties

from tests.simulators.stored import AT, a_device, a_judgement, put_enrolment
from verifier.feeds.mqtt import Broker, ResultSink
from verifier.feeds.outbox import OutboxWorker
from verifier.feeds.topics import Topics
from verifier.ports.outbox import OutboxRow
from verifier.settings import MqttSettings
from verifier.sources import SystemClock
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store
from verifier.telemetry import Metrics, logger


class FussySink:
    """Acknowledges only rows of some sequence numbers."""

    def __init__(self, *accepted: int) -> None:
        self.accepted = set(accepted)
        self.offered: list[int] = []

    def deliver(self, rows: Sequence[OutboxRow], at: datetime) -> Sequence[int]:  # noqa: ARG002 - the port
        self.offered += [row.result.seq for row in rows]
        return [row.number for row in rows if row.result.seq in self.accepted]


class SlowBroker:
    """Takes messages, acknowledges those to some topics."""

    def __init__(self, refused_topic: str) -> None:
        self.sent: list[tuple[str, bytes, int | None]] = []
        self._refused_topic = refused_topic

    def publish(self, topic: str, payload: bytes, properties: Properties, *, retain: bool) -> int:
        assert retain
        self.sent.append((topic, payload, getattr(properties, "MessageExpiryInterval", None)))
        return len(self.sent) - 1

    def settle(self, numbers: Sequence[int], seconds: float) -> frozenset[int]:  # noqa: ARG002
        refused = self._refused_topic
        return frozenset(
            number for number in numbers if not refused or self.sent[number][0] != refused
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    opened = open_store(url, with_outbox=True)
    for name in ("sn-0001", "sn-0002"):
        with opened.work() as work:
            put_enrolment(work, a_device(name))
    yield opened
    opened.close()


def worker_over(store: SqlStore, sink: FussySink) -> OutboxWorker:
    return OutboxWorker(
        store=store, sink=sink, clock=SystemClock(), metrics=Metrics(), log=logger("test")
    )


def eventually(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_acknowledged_rows_are_forgotten(store: SqlStore) -> None:
    for seq in (1, 2, 3):
        store.record([a_judgement(seq=seq, based_on=seq)])
    sink = FussySink(1, 3)
    worker = worker_over(store, sink)

    worker.start()
    eventually(lambda: store.waiting_count() == 1)

    assert worker.stop(5) == 1
    assert [row.result.seq for row in store.waiting(9)] == [2]


def test_refused_rows_are_offered_again(store: SqlStore) -> None:
    store.record([a_judgement()])
    sink = FussySink()
    worker = worker_over(store, sink)
    worker.start()
    eventually(lambda: len(sink.offered) >= 2)
    assert store.waiting_count() == 1

    sink.accepted = {1}

    eventually(lambda: store.waiting_count() == 0)
    assert worker.stop(5) == 0


def test_nothing_counts_after_an_unacknowledged_row_of_the_same_device(store: SqlStore) -> None:
    store.record([a_judgement()])
    store.record([a_judgement("sn-0002")])
    store.record([a_judgement(seq=2, based_on=2)])
    rows = store.waiting(9)
    broker = SlowBroker("att/v1/sn-0001/result")

    told = ResultSink(broker, Topics("att/v1")).deliver(rows, AT)  # type: ignore[arg-type]

    assert told == [rows[1].number]


def test_result_that_has_expired_is_taken_away(store: SqlStore) -> None:
    store.record([a_judgement()])
    broker = SlowBroker("")
    sink = ResultSink(broker, Topics("att/v1"))  # type: ignore[arg-type]

    sink.deliver(store.waiting(9), AT + timedelta(minutes=4))
    sink.deliver(store.waiting(9), AT + timedelta(minutes=6))

    fresh, expired = broker.sent[0], broker.sent[2]
    assert fresh == ("att/v1/sn-0001/result", b"e.a.r", 60)
    assert expired == ("att/v1/sn-0001/result", b"", None)


def test_message_that_nobody_acknowledged_is_not_settled() -> None:
    broker = Broker(MqttSettings(host="localhost"), logger("test"), "test")
    properties = Properties(3)

    number = broker.publish("att/v1/x/result", b"x", properties, retain=True)

    assert broker.settle([number], 0.05) == frozenset()
