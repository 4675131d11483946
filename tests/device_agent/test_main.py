"""The wired daemon: software TPM behind the real TLS seam, HTTPS, mosquitto, real time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.algorithms import HashAlgorithm
from device_agent.errors import SettingsInvalid, TpmUnavailable
from device_agent.main import StopSignal, assemble, attest_now, enrol_now, examine_now, run_daemon
from device_agent.settings import Settings, parse_settings
from device_agent.state.files import StateFile, StateHeld
from tests.simulators.broker import Mosquitto
from tests.simulators.soft_device import SoftManufacturer, SoftTpm
from tests.simulators.verifier_simulator import VerifierSimulator, https_verifier


class Bench:
    def __init__(self, folder: Path, url: str, simulator: VerifierSimulator) -> None:
        self.folder = folder
        self.url = url
        self.simulator = simulator
        self.tpm = SoftTpm(MANUFACTURER)
        (folder / "ca.pem").write_bytes(simulator.authority.pem)
        (folder / "log").write_bytes(b"firmware log")

    def settings(self, more: str = "") -> Settings:
        text = f"""
            [verifier]
            url = "{self.url}"
            ca_file = "{self.folder / "ca.pem"}"
            [evidence]
            firmware_log = "{self.folder / "log"}"
            ima_list = ""
            interval_min_s = 0.05
            [retry]
            base_s = 0.05
            [state]
            directory = "{self.folder / "state"}"
            [log]
            format = "json"
            {more}
        """
        return parse_settings(text, "test.toml", {})

    @property
    def store(self) -> StateFile:
        return StateFile(self.folder / "state")


MANUFACTURER = SoftManufacturer(intermediate=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    simulator = VerifierSimulator(attest_in_s=0.1)
    anchors = (
        MANUFACTURER.root_pem
        + MANUFACTURER.issuer.public_bytes(Encoding.PEM)
        + simulator.authority.pem
    )
    with https_verifier(simulator, tmp_path, client_anchors=anchors) as url:
        yield Bench(tmp_path, url, simulator)


def in_background(stop: StopSignal, play: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            play()
        finally:
            stop.stop()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(question: Callable[[], bool], *, within_s: float = 15) -> None:
    end = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_daemon_enrols_and_attests_with_keys_that_only_sign_digests(bench: Bench) -> None:
    stop = StopSignal()
    player = in_background(stop, lambda: until(lambda: bench.simulator.calls.count("submit") >= 3))

    run_daemon(bench.settings(), bench.tpm, stop)

    player.join()
    saved = bench.store.load()
    assert saved is not None
    assert saved.verdict is not None
    assert saved.verdict.status == "affirming"


def test_sigterm_ends_the_daemon_cleanly(bench: Bench) -> None:
    stop = StopSignal()

    def play() -> None:
        until(lambda: bench.simulator.calls.count("submit") >= 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)

    player = in_background(stop, play)
    begun = signal.getsignal(signal.SIGTERM)

    run_daemon(bench.settings(), bench.tpm, stop)

    player.join()
    assert signal.getsignal(signal.SIGTERM) == begun
    bench.store.claim()


@pytest.mark.mqtt
def test_the_broker_sees_the_device_fall(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    with Mosquitto(folder, bench.simulator.authority) as broker:
        watcher = broker.watcher()
        stop = StopSignal()
        seen: list[dict[str, object]] = []

        def play() -> None:
            seen.append(watcher.wait_for("ready"))
            bench.tpm.extend(HashAlgorithm.SHA256, 7, b"\x01" * 32)
            begun = time.monotonic()
            while True:
                document = watcher.wait_for("ready")
                if document["attestation"]["status"] == "contraindicated":
                    break
            assert time.monotonic() - begun < 2
            seen.append(document)

        player = in_background(stop, play)
        more = f"""
            [mqtt]
            enabled = true
            host = "localhost"
            port = {broker.port}
            ca_file = "{broker.ca_file}"
        """
        run_daemon(bench.settings(more), bench.tpm, stop)
        player.join()
        watcher.wait_for("disconnected")
        watcher.close()

    affirming, fallen = seen
    assert affirming["attestation"]["allow"] is True  # type: ignore[index]
    assert affirming["boot_id"]
    assert fallen["attestation"]["reasons"] == ["reference-mismatch: PCR 7 differs"]  # type: ignore[index]
    assert fallen["seq"] > affirming["seq"]  # type: ignore[operator]


def test_enrolling_and_attesting_by_hand(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)

    credential = enrol_now(parts)
    reply = attest_now(parts)

    assert credential.device_id == "dev-a"
    assert reply.allowed is True
    saved = bench.store.load()
    assert saved is not None
    assert saved.credential == credential
    assert saved.verdict is not None


def test_by_hand_waits_for_no_daemon(bench: Bench) -> None:
    other = bench.store
    other.claim()

    with pytest.raises(StateHeld):
        enrol_now(assemble(bench.settings(), bench.tpm))
    other.release()


class BrokenTpm(SoftTpm):
    """Signs nothing for TLS."""

    def sign_digest(self, role: object, digest: bytes) -> bytes:  # noqa: ARG002
        raise TpmUnavailable("unplugged")


def test_a_tpm_that_fails_within_the_handshake_is_named(bench: Bench) -> None:
    bench.tpm = BrokenTpm(MANUFACTURER)

    with pytest.raises(TpmUnavailable, match="unplugged"):
        enrol_now(assemble(bench.settings(), bench.tpm))


def test_a_healthy_device_passes_every_check(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)

    checks = {check.name: check.grade.value for check in examine_now(parts)}

    assert set(checks.values()) == {"ok"}
    assert set(checks) >= {
        "tpm",
        "tpm lockout",
        "tpm banks",
        "key idevid",
        "certificate idevid",
        "key iak",
        "certificate iak",
        "key ldevid",
        "firmware log",
        "state directory",
        "tls seam",
        "verifier",
        "enrolment",
        "mqtt",
    }


def test_settings_that_cannot_work_are_refused_at_the_start(bench: Bench) -> None:
    (bench.folder / "ca.pem").write_text("nothing")

    with pytest.raises(SettingsInvalid, match=r"verifier\.ca_file"):
        run_daemon(bench.settings(), bench.tpm, StopSignal())
