"""A thread that writes what waits in groups: each commit costs an fsync, which a group shares.

Where more is known to be coming the thread waits for it a moment, as PostgreSQL's ``commit_delay``
does; whoever is alone waits for nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from attestation.refusals import RefusalCode
from verifier.errors import Unavailable

MAX_GROUP: Final = 64
MAX_WAITING: Final = 4_096
LINGER_S: Final = 0.05
"""How long a group waits for what is coming."""
_GLANCE_S: Final = 0.002
"""Within that a group sees that nothing more is coming."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupWriter(Generic[Item, Outcome]):
    """Writes items in groups; each caller waits for the transaction that holds its item.

    Args:
        write: Writes a group in one transaction and returns an outcome for each item.
        name: Of the thread.
        linger_s: How long a group waits for what is coming, in seconds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Outcome]],
        name: str,
        linger_s: float = LINGER_S,
    ) -> None:
        self._write = write
        self._linger_s = linger_s
        self._waiting: queue.Queue[tuple[Item, Future[Outcome]] | None] = queue.Queue(MAX_WAITING)
        self._coming = 0
        self._counting = threading.Lock()
        self._closing, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Outcome]:
        """Hand an item over.

        Returns:
            A future of its outcome, done once that is on disk; it fails as ``write`` does.

        Raises:
            Unavailable: ``overloaded`` if too many are waiting, ``store-unavailable`` once closed.
        """
        future: Future[Outcome] = Future()
        # From here on it cannot be cancelled: a caller that goes away must not end the thread.
        future.set_running_or_notify_cancel()
        try:
            with self._closing:  # nothing may come after the end of the queue: nobody would answer
                if self._closed:
                    raise stopping()
                self._waiting.put_nowait((item, future))
        except queue.Full as error:
            raise Unavailable(
                RefusalCode.OVERLOADED, "too many requests wait to be stored; try again shortly"
            ) from error
        return future

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Say that an item is likely to be handed over before this ends."""
        with self._counting:
            self._coming += 1
        try:
            yield
        finally:
            with self._counting:
                self._coming -= 1

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._closing:
            self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            first = self._waiting.get()
            if first is None:
                return
            group = [first]
            until = time.monotonic() + self._linger_s
            while len(group) < MAX_GROUP:
                patient = self._coming > 0 and time.monotonic() < until
                try:
                    item = self._waiting.get(timeout=_GLANCE_S if patient else 0)
                except queue.Empty:
                    if patient:
                        continue
                    break
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


def stopping() -> Unavailable:
    """Return the refusal of what comes too late to be written."""
    return Unavailable(RefusalCode.STORE_UNAVAILABLE, "the verifier is stopping; ask again")
