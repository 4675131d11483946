"""sd_notify: tells systemd that we are ready, alive, and what we are about (sd_notify(3)).

Does nothing when ``NOTIFY_SOCKET`` is not set. A lost datagram is no reason to stop attesting.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

_MOST_STATUS_CHARS: Final = 200


class SystemdNotifier:
    """Implements :class:`device_agent.ports.Notifier` over an AF_UNIX datagram socket.

    Args:
        environment: Usually ``os.environ``; ``NOTIFY_SOCKET`` is a path or ``@abstract`` name.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def ready(self) -> None:
        """Say READY=1."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say STATUS=text, on one line."""
        self._send(f"STATUS={' '.join(text.split())[:_MOST_STATUS_CHARS]}")

    def watchdog(self) -> None:
        """Say WATCHDOG=1."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say STOPPING=1."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, line: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(line.encode(), self._address)
        except OSError:
            # systemd's own watchdog is the judge of lost notifications.
            return


def watchdog_interval_s(environment: Mapping[str, str], pid: int | None = None) -> float | None:
    """Return how often WATCHDOG=1 is wanted: half of WATCHDOG_USEC; None if it is not for us.

    Args:
        environment: ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` (sd_watchdog_enabled(3)).
        pid: Our process id; by default the real one.
    """
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        for_pid = int(environment.get("WATCHDOG_PID", "0"))
    except ValueError:
        return None
    if microseconds <= 0 or for_pid not in (0, os.getpid() if pid is None else pid):
        return None
    return microseconds / 2_000_000
