"""sd_notify: tell systemd that we are ready, alive, stopping (sd_notify(3)).

Does nothing outside systemd. The watchdog thread reports only while ``healthy`` says so.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping


class ServiceNotifier:
    """One datagram socket to the service manager.

    Args:
        environment: ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` are read from it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environment.get("WATCHDOG_USEC", "")
        self._interval_s = int(usec) / 2_000_000 if usec.isdigit() else 0.0
        self._stop = threading.Event()

    def ready(self) -> None:
        """Say READY=1."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """Say STATUS=text."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """Say STOPPING=1 and end the watchdog."""
        self._stop.set()
        self._tell("STOPPING=1")

    def watch(self, healthy: Callable[[], bool]) -> None:
        """Say WATCHDOG=1 at half the interval, as long as ``healthy`` is true."""
        if self._interval_s > 0:
            threading.Thread(
                target=self._watch, args=(healthy,), name="watchdog", daemon=True
            ).start()

    def _watch(self, healthy: Callable[[], bool]) -> None:
        while not self._stop.wait(self._interval_s):
            if healthy():
                self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.sendto(text.encode(), self._address)
        except OSError:
            return  # A manager that is gone must not stop us.
