from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.notify import SystemdNotifier, watchdog_interval_s


@pytest.fixture
def systemd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(2)
        yield receiver


def say_all(address: str) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.status("affirming,\nallowed")
    notifier.watchdog()
    notifier.stopping()
    notifier.close()


def heard(receiver: socket.socket) -> list[bytes]:
    return [receiver.recv(4096) for _ in range(4)]


SAID = [b"READY=1", b"STATUS=affirming, allowed", b"WATCHDOG=1", b"STOPPING=1"]


def test_systemd_hears_us_on_a_path(systemd: socket.socket, tmp_path: Path) -> None:
    systemd.bind(str(tmp_path / "notify"))

    say_all(str(tmp_path / "notify"))

    assert heard(systemd) == SAID


def test_systemd_hears_us_on_an_abstract_name(systemd: socket.socket) -> None:
    name = f"device-agent-test-{os.getpid()}"
    systemd.bind(f"\0{name}")

    say_all(f"@{name}")

    assert heard(systemd) == SAID


def test_nothing_happens_without_systemd_or_when_it_went_away(tmp_path: Path) -> None:
    say_all("")
    say_all(str(tmp_path / "nobody"))


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "4711"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval_s(environment, pid=4711) == seconds
