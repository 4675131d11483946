"""A thread that writes what waits in groups: each commit costs an fsync, which a group shares."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from attestation.refusals import RefusalCode
from verifier.errors import Unavailable

MAX_GROUP: Final = 64
MAX_WAITING: Final = 4_096

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupWriter(Generic[Item, Outcome]):
    """Writes items in groups; each caller waits for the transaction that holds its item.

    Args:
        write: Writes a group in one transaction and returns an outcome for each item.
        name: Of the thread.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Sequence[Outcome]], name: str) -> None:
        self._write = write
        self._waiting: queue.Queue[tuple[Item, Future[Outcome]] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Outcome]:
        """Hand an item over.

        Returns:
            A future of its outcome, done once that is on disk; it fails as ``write`` does.

        Raises:
            Unavailable: ``overloaded`` if too many are waiting.
        """
        future: Future[Outcome] = Future()
        # From here on it cannot be cancelled: a caller that goes away must not end the thread.
        future.set_running_or_notify_cancel()
        try:
            self._waiting.put_nowait((item, future))
        except queue.Full as error:
            raise Unavailable(
                RefusalCode.OVERLOADED, "too many requests wait to be stored; try again shortly"
            ) from error
        return future

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Write what waits, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            first = self._waiting.get()
            if first is None:
                return
            group = [first]
            while len(group) < MAX_GROUP and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit(group)

    def _commit(self, group: Sequence[tuple[Item, Future[Outcome]]]) -> None:
        try:
            outcomes = self._write([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            if len(group) > 1 and not isinstance(error, Unavailable):
                # One of them cannot be written; the others must not fail with it.
                for one in group:
                    self._commit((one,))
                return
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), outcome in zip(group, outcomes, strict=True):
            future.set_result(outcome)
