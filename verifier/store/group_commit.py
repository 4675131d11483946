"""Two threads that decide on and commit judgements: the second commits many at once.

A commit costs an fsync; judgements that arrive while one is running share the next, and the
decision policy is evaluated meanwhile. Each caller gets its answer only after the transaction that
holds its judgement is on disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from attestation.refusals import RefusalCode
from verifier.errors import Unavailable
from verifier.ports import Judgement
from verifier.store.group_writer import stopping

MAX_GROUP: Final = 256
"""Judgements in one transaction."""

MAX_WAITING: Final = 4_096
"""Judgements waiting; more are refused with 503 rather than kept in memory."""

Settled = Future[Judgement | None]
"""The committed judgement; None if its device's row had moved on."""


@dataclass(frozen=True, slots=True)
class _Undecided:
    finish: Callable[[], Judgement]
    future: Settled


@dataclass(frozen=True, slots=True)
class _Decided:
    judgement: Judgement
    future: Settled


class GroupCommit:
    """Decides on judgements one by one and commits them in groups.

    Args:
        record: Writes a group in one transaction (``Store.record``).
        recorded: Called after each transaction that wrote something.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Judgement]], Sequence[bool]],
        recorded: Callable[[], None],
    ) -> None:
        self._record = record
        self._recorded = recorded
        self._undecided: queue.Queue[_Undecided | None] = queue.Queue(MAX_WAITING)
        self._decided: queue.SimpleQueue[_Decided | None] = queue.SimpleQueue()
        self._closing, self._closed = threading.Lock(), False
        self._threads = (
            threading.Thread(target=self._decide, name="decider", daemon=True),
            threading.Thread(target=self._write, name="store-writer", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def submit(self, finish: Callable[[], Judgement]) -> Settled:
        """Hand a judgement over.

        Args:
            finish: Called in the deciding thread; makes the judgement whole.

        Returns:
            A future; it fails with Unavailable if the store does.

        Raises:
            Unavailable: ``overloaded`` if too many are waiting, ``store-unavailable`` once closed.
        """
        future: Settled = Future()
        # From here on it cannot be cancelled: a caller that goes away must not end a thread.
        future.set_running_or_notify_cancel()
        try:
            with self._closing:  # nothing may come after the end of the queue: nobody would answer
                if self._closed:
                    raise stopping()
                self._undecided.put_nowait(_Undecided(finish, future))
        except queue.Full as error:
            raise Unavailable(
                RefusalCode.OVERLOADED, "too many results wait to be stored; try again shortly"
            ) from error
        return future

    @property
    def alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Decide and commit what waits, then end the threads."""
        with self._closing:
            self._closed = True
        self._undecided.put(None)
        for thread in self._threads:
            thread.join()

    def _decide(self) -> None:
        while True:
            item = self._undecided.get()
            if item is None:
                self._decided.put(None)
                return
            try:
                judgement = item.finish()
            except Exception as error:  # noqa: BLE001 - belongs to the caller, who gets it
                item.future.set_exception(error)
                continue
            self._decided.put(_Decided(judgement, item.future))

    def _write(self) -> None:
        while True:
            first = self._decided.get()
            if first is None:
                return
            group = [first]
            last = False
            while len(group) < MAX_GROUP and not self._decided.empty():
                item = self._decided.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit(group)
            if last:
                return

    def _commit(self, group: Sequence[_Decided]) -> None:
        try:
            verdicts = self._record([item.judgement for item in group])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            if len(group) > 1 and not isinstance(error, Unavailable):
                # One of them cannot be written; the others must not fail with it.
                for item in group:
                    self._commit((item,))
                return
            for item in group:
                item.future.set_exception(error)
            return
        for item, written in zip(group, verdicts, strict=True):
            item.future.set_result(item.judgement if written else None)
        self._recorded()
