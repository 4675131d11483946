"""One writer thread that commits many judgements at once.

A commit costs an fsync; requests that arrive while one is running share the next. Each caller
gets its answer only after the transaction that holds its judgement is on disk.
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

MAX_GROUP: Final = 256
"""Judgements in one transaction."""

MAX_WAITING: Final = 4_096
"""Judgements waiting for the writer; more are refused with 503 rather than kept in memory."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    finish: Callable[[], Judgement]
    future: Future[Judgement | None]


class GroupCommit:
    """Commits judgements in groups.

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
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, finish: Callable[[], Judgement]) -> Future[Judgement | None]:
        """Hand a judgement to the writer.

        Args:
            finish: Called in the writer thread; makes the judgement whole (the decision).

        Returns:
            The judgement once it is committed; None if its device's row had moved on. The future
            fails with Unavailable if the store does.

        Raises:
            Unavailable: If too many are waiting.
        """
        future: Future[Judgement | None] = Future()
        try:
            self._queue.put_nowait(_Waiting(finish, future))
        except queue.Full as error:
            raise Unavailable(
                RefusalCode.OVERLOADED, "too many results wait to be stored; try again shortly"
            ) from error
        return future

    @property
    def alive(self) -> bool:
        """Whether the writer thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Commit what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    self._commit(group)
                    return
                group.append(item)
            self._commit(group)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        ready: list[tuple[Judgement, Future[Judgement | None]]] = []
        for item in group:
            try:
                ready.append((item.finish(), item.future))
            except Exception as error:  # noqa: BLE001 - belongs to the caller, who gets it
                item.future.set_exception(error)
        if not ready:
            return
        try:
            verdicts = self._record([judgement for judgement, _ in ready])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for _, future in ready:
                future.set_exception(error)
            return
        for (judgement, future), written in zip(ready, verdicts, strict=True):
            future.set_result(judgement if written else None)
        self._recorded()
