"""The demo's own processes: started with a log each, watched, and ended by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 5.0


class StoryBrokenError(Exception):
    """An expected step was not seen; the message says which and where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One started process.

    Attributes:
        name: For people.
        process: The process handle.
        log: Where its output goes.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Household:
    """Starts processes, notices when one dies, stops them all in reverse order."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Running] = []

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {running.name: running.process.pid for running in self._running}

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> Running:
        """Start one process in its own session with stdout and stderr in a log file."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        running = Running(name=name, process=process, log=log)
        self._running.append(running)
        return running

    def check_alive(self) -> None:
        """Raise if one of the processes ended by itself.

        Raises:
            StoryBrokenError: With the name, exit status and last lines of its log.
        """
        for running in self._running:
            status = running.process.poll()
            if status is not None:
                tail = running.log.read_text(errors="replace").splitlines()[-8:]
                raise StoryBrokenError(
                    f"{running.name} ended with status {status}:\n  " + "\n  ".join(tail)
                )

    def wait_for_port(self, port: int, *, name: str, within_s: float) -> None:
        """Wait until something listens on 127.0.0.1:port.

        Raises:
            StoryBrokenError: If nothing does within the time, or a process died meanwhile.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=0.5):
                    return
            except OSError:
                time.sleep(0.02)
        raise StoryBrokenError(f"{name} did not listen on port {port} within {within_s:.0f} s")

    def stop(self) -> None:
        """End one process after the other, the last started first; SIGKILL for those that stay."""
        deadline = time.monotonic() + _STOP_SECONDS
        for running in reversed(self._running):
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(timeout=max(0.5, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
        self._running.clear()


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    statuses: Collection[int] = (0,),
) -> str:
    """Run one command to its end and return its standard output.

    Raises:
        StoryBrokenError: If it exits with another status than one of ``statuses``.
    """
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )
    if done.returncode not in statuses:
        command = " ".join(argv[:4])
        raise StoryBrokenError(
            f"'{command} …' ended with status {done.returncode}: "
            f"{done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
