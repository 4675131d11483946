"""The outbox worker: what was recorded is told, at least once, in order per device.

Rows are forgotten only after the broker has acknowledged them. A broker that is down, a verifier
that is killed: the rows stay and are told later. Telling twice is possible and harmless: the
messages are retained states, not events.
"""

from __future__ import annotations

import threading
from typing import Final

from verifier.errors import Unavailable
from verifier.ports import Clock
from verifier.ports.outbox import EventSink, OutboxStore
from verifier.telemetry import Logger, Metrics

BATCH: Final = 100
IDLE_S: Final = 1.0
"""How long the worker sleeps when nobody wakes it; finds what other processes recorded."""

BACKOFF_S: Final = 1.0


class OutboxWorker:
    """One thread that empties the outbox.

    Args:
        store: Where rows wait.
        sink: Where they are told.
        clock: Now.
        metrics: Counters.
        log: Where trouble goes.
    """

    def __init__(
        self,
        *,
        store: OutboxStore,
        sink: EventSink,
        clock: Clock,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._store = store
        self._sink = sink
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something was recorded."""
        self._wake.set()

    def stop(self, seconds: float) -> int:
        """Tell what waits, at most for ``seconds``; returns how many rows stay for next time."""
        self._stop.set()
        self._wake.set()
        self._thread.join(seconds)
        try:
            return self._store.waiting_count()
        except Unavailable:
            return -1

    def _run(self) -> None:
        while True:
            stopping = self._stop.is_set()
            try:
                progress = self._deliver_once()
            except Unavailable as error:
                self._log.warning("outbox_stalled", reason=error.reason)
                progress = False
            except Exception:  # noqa: BLE001 - the worker must live on; rows stay
                self._log.exception("outbox_failed")
                progress = False
            if progress:
                continue
            if stopping:
                return
            self._wake.wait(IDLE_S)
            self._wake.clear()

    def _deliver_once(self) -> bool:
        """Tell one batch; True if there may be more to do at once."""
        rows = self._store.waiting(BATCH)
        self._metrics.outbox_waiting.set(len(rows))
        if not rows:
            return False
        told = self._sink.deliver(rows, self._clock.now())
        if told:
            self._store.delivered(told)
        if len(told) < len(rows):
            self._log.warning("outbox_waits", waiting=len(rows) - len(told))
            self._stop.wait(BACKOFF_S)
            return bool(told)
        return True
