"""Writing in groups: every caller gets its own outcome, and only once it is on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from attestation.refusals import RefusalCode
from tests.simulators.stored import a_device, a_judgement
from verifier.errors import Unavailable
from verifier.store.group_commit import GroupCommit
from verifier.store.group_writer import MAX_GROUP, MAX_WAITING, GroupWriter


class Ledger:
    """Writes words; holds up until it is let go, refuses what it is told to refuse."""

    def __init__(self, *, held: bool = False, breaks: str = "", away: bool = False) -> None:
        self.groups: list[tuple[str, ...]] = []
        self.go = threading.Event()
        self.breaks, self.away = breaks, away
        if not held:
            self.go.set()

    def write(self, words: Sequence[str]) -> list[str]:
        assert self.go.wait(10)
        if self.away:
            raise Unavailable(RefusalCode.STORE_UNAVAILABLE, "the store is away")
        if self.breaks in words and self.breaks:
            raise RuntimeError(self.breaks)
        self.groups.append(tuple(words))
        return [word.upper() for word in words]


def test_what_waits_is_written_in_groups_and_answered_one_by_one() -> None:
    ledger = Ledger(held=True)
    writer = GroupWriter[str, str](ledger.write, "test")
    futures = [writer.submit(f"w{number}") for number in range(2 * MAX_GROUP)]

    assert not any(future.done() for future in futures)
    ledger.go.set()

    assert [future.result(10) for future in futures] == [
        f"W{number}" for number in range(2 * MAX_GROUP)
    ]
    assert max(map(len, ledger.groups)) <= MAX_GROUP
    assert len(ledger.groups) < 2 * MAX_GROUP
    writer.close()
    assert not writer.alive


def test_a_group_waits_for_what_is_coming() -> None:
    ledger = Ledger()
    writer = GroupWriter[str, str](ledger.write, "test", linger_s=60)

    with writer.coming():
        first = writer.submit("first")
        time.sleep(0.05)
        second = writer.submit("second")
        time.sleep(0.05)
        assert not first.done()

    assert (first.result(10), second.result(10)) == ("FIRST", "SECOND")
    assert ledger.groups == [("first", "second")]
    writer.close()


def test_a_group_does_not_wait_for_ever_for_what_does_not_come() -> None:
    ledger = Ledger()
    writer = GroupWriter[str, str](ledger.write, "test")

    with pytest.raises(KeyError), writer.coming():
        raise KeyError
    with writer.coming():
        assert writer.submit("first").result(10) == "FIRST"
    writer.close()


def test_one_that_cannot_be_written_does_not_take_its_group_along() -> None:
    ledger = Ledger(held=True, breaks="bad")
    writer = GroupWriter[str, str](ledger.write, "test")
    first, bad, good = (writer.submit(word) for word in ("first", "bad", "good"))
    ledger.go.set()

    assert good.result(10) == "GOOD"
    assert first.result(10) == "FIRST"
    with pytest.raises(RuntimeError, match="bad"):
        bad.result(10)
    assert writer.alive
    writer.close()


def test_store_that_is_away_fails_everyone_and_the_writer_lives() -> None:
    ledger = Ledger(held=True, away=True)
    writer = GroupWriter[str, str](ledger.write, "test")
    futures = [writer.submit(word) for word in ("a", "b")]
    ledger.go.set()

    for future in futures:
        with pytest.raises(Unavailable):
            future.result(10)
    ledger.away = False
    assert writer.submit("c").result(10) == "C"
    writer.close()


def test_more_than_may_wait_are_refused() -> None:
    ledger = Ledger(held=True)
    writer = GroupWriter[str, str](ledger.write, "test")

    def crowd() -> None:
        for number in range(MAX_WAITING + MAX_GROUP + 2):
            writer.submit(str(number))

    with pytest.raises(Unavailable) as refused:
        crowd()

    assert refused.value.code is RefusalCode.OVERLOADED
    ledger.go.set()
    writer.close()


def test_closing_writes_what_waits() -> None:
    ledger = Ledger(held=True)
    writer = GroupWriter[str, str](ledger.write, "test")
    future = writer.submit("last")
    threading.Timer(0.05, ledger.go.set).start()

    writer.close()

    assert future.result(0) == "LAST"


def test_what_comes_after_the_end_is_refused_and_not_left_without_an_answer() -> None:
    ledger = Ledger()
    writer = GroupWriter[str, str](ledger.write, "test")
    committer = GroupCommit(lambda group: [True] * len(group), lambda: None)
    writer.close()
    committer.close()

    with pytest.raises(Unavailable, match="stopping"):
        writer.submit("late")
    with pytest.raises(Unavailable, match="stopping"):
        committer.submit(lambda: a_judgement(a_device()))
