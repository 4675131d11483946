"""``verifier serve`` as a process: starts, ends gracefully, and survives being killed."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from attestation.wire.media_types import EVIDENCE
from tests.simulators.mosquitto import Mosquitto, mosquitto
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_process import Service
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.services.devices import Devices

__all__ = ["mosquitto"]
pytestmark = pytest.mark.system


@pytest.fixture
def service(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Service]:
    settings = mosquitto.settings(mosquitto.identity("service.verifier"))
    limits = "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"
    made = Service(VerifierSite(tmp_path / "site", SoftManufacturer(), extra=settings + limits))
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)


def test_termination_finishes_requests_and_empties_the_outbox(service: Service) -> None:
    service.start()
    device = service.site.device()
    assert device.enrol().status == 201
    for _ in range(5):
        device.attest()

    assert service.end(signal.SIGTERM) == 0

    assert "".join(service.lines).count("verifier_stopped") == 1
    store = service.store()
    assert store.waiting_count() == 0
    store.close()


def test_service_manager_is_told(service: Service, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(20)
        service.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
        said = [channel.recv(200).decode() for _ in range(4)]
        service.end(signal.SIGTERM)
        while said[-1] != "STOPPING=1":
            said.append(channel.recv(200).decode())

    assert "READY=1" in said
    assert "WATCHDOG=1" in said


@dataclass
class Attesting:
    """Devices that attest without pause, and what they were answered."""

    devices: list[SiteDevice]
    answered: dict[str, list[str]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        for device in self.devices:
            self.answered[device.device_id], self.sent[device.device_id] = [], 0
        self.threads = [
            threading.Thread(target=self.attest, args=(device, device.ask()))
            for device in self.devices
        ]
        for thread in self.threads:
            thread.start()
        while min(len(results) for results in self.answered.values()) < 8:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.join(30)

    def attest(self, device: SiteDevice, challenge: dict[str, object]) -> None:
        """Go on until the verifier is gone."""
        client = device.new_client()
        while True:
            message = device.evidence(challenge)
            self.sent[device.device_id] += 1
            try:
                answer = client.post("/attest/v1/evidence", message, EVIDENCE)
            except (OSError, http.client.HTTPException):
                return
            self.answered[device.device_id].append(answer.json["result"])
            challenge, device.log_known = answer.json["next"], answer.json["log_known"]


def test_killed_in_mid_request_loses_no_answered_result_and_invents_none(
    service: Service, mosquitto: Mosquitto
) -> None:
    service.start()
    devices = [service.site.device(f"SN-{number:04}") for number in range(4)]
    for device in devices:
        assert device.enrol().status == 201
    mosquitto.stop()
    with Attesting(devices) as attesting:
        service.end(signal.SIGKILL)

    store = service.store()
    for name, told in attesting.answered.items():
        kept = Devices(store).history(name, before=0, limit=10_000)
        ears = [result.ear for result in reversed(kept)][1:]  # without the enrolment's
        assert ears[: len(told)] == told
        assert len(told) <= len(ears) <= attesting.sent[name]
        assert [result.seq for result in kept] == list(range(len(kept), 0, -1))
    assert store.waiting_count() > 0

    mosquitto.start()
    service.start()
    deadline = time.monotonic() + 60
    while store.waiting_count():
        assert time.monotonic() < deadline, service.lines[-10:]
        time.sleep(0.1)
    for device in devices:
        device._client = None
        assert device.attest().json["status"] == "warning"
    assert service.end(signal.SIGTERM) == 0
    store.close()


def test_wrong_configuration_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "v.toml"
    config.write_text("[server]\nprot = 1\n")

    done = subprocess.run(
        [sys.executable, "-m", "verifier", "-c", str(config), "serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == (
        f"verifier: settings-invalid: server.prot in {config} is unknown; did you mean 'port'?\n"
    )
