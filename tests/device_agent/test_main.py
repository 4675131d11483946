"""The wired daemon: software TPM behind the real TLS seam, HTTPS, mosquitto, real time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.algorithms import HashAlgorithm
from attestation.identity import agent_name
from device_agent.agents import Wish
from device_agent.agents_kept import agent_shelf
from device_agent.errors import SettingsInvalid, TpmKeyMissing, TpmUnavailable, VerifierRefused
from device_agent.main import StopSignal, assemble, run_daemon
from device_agent.once import agents_tender, attest_now, enrol_now, examine_now, rotate_now
from device_agent.ports import KeyRole
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


def test_exchanging_the_key_by_hand_says_what_it_did_and_the_daemon_goes_on(
    bench: Bench,
) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)
    old = bench.tpm.keys[KeyRole.LDEVID]

    done = rotate_now(parts)

    assert done.before.slot is KeyRole.LDEVID
    assert done.after.slot is KeyRole.LDEVID_2
    assert done.reply.allowed
    assert not done.left_over
    assert KeyRole.LDEVID not in bench.tpm.keys
    new = bench.tpm.keys[KeyRole.LDEVID_2]
    assert new.public_area != old.public_area
    leaf = x509.load_pem_x509_certificate(done.after.certificate_chain_pem.encode())
    assert leaf.public_key() == new.private.public_key()
    stop = StopSignal()
    before = bench.simulator.calls.count("submit")
    player = in_background(
        stop, lambda: until(lambda: bench.simulator.calls.count("submit") >= before + 2)
    )
    run_daemon(bench.settings(), bench.tpm, stop)
    player.join()
    assert bench.simulator.calls.count("enrol") == 2


def test_enrolling_again_by_hand_keeps_to_the_slot_in_use(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)
    rotated = rotate_now(parts).after
    key = bench.tpm.keys[KeyRole.LDEVID_2]

    again = enrol_now(parts)

    assert again.slot is KeyRole.LDEVID_2
    assert again.key_since == (rotated.key_since or rotated.obtained_at)
    assert bench.tpm.keys[KeyRole.LDEVID_2] == key
    assert KeyRole.LDEVID not in bench.tpm.keys


def test_an_exchange_that_the_verifier_does_not_take_leaves_the_old_key_in_use(
    bench: Bench,
) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    credential = enrol_now(parts)
    bench.simulator.fail(
        "challenge", VerifierRefused("client-certificate-wrong", "not you", http_status=403)
    )

    with pytest.raises(VerifierRefused, match="not you"):
        rotate_now(parts)

    saved = bench.store.load()
    assert saved is not None
    assert saved.credential == credential
    assert (saved.candidate, saved.retiring) == (None, None)
    assert saved.renewal_fault is not None
    assert KeyRole.LDEVID_2 not in bench.tpm.keys
    assert attest_now(parts).allowed


def test_an_exchange_that_was_interrupted_is_gone_on_with(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)
    bench.simulator.fail("challenge", VerifierRefused("overloaded", "later", http_status=503))
    with pytest.raises(VerifierRefused, match="later"):
        rotate_now(parts)
    saved = bench.store.load()
    assert saved is not None
    assert saved.candidate is not None
    assert KeyRole.LDEVID in bench.tpm.keys

    done = rotate_now(parts)

    assert done.after.certificate_chain_pem == saved.candidate.certificate_chain_pem
    assert bench.simulator.calls.count("enrol") == 2
    assert KeyRole.LDEVID not in bench.tpm.keys


def test_attesting_by_hand_finishes_an_exchange_that_was_interrupted(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)
    bench.simulator.fail("challenge", VerifierRefused("overloaded", "later", http_status=503))
    with pytest.raises(VerifierRefused):
        rotate_now(parts)

    assert attest_now(parts).allowed

    saved = bench.store.load()
    assert saved is not None
    assert saved.credential is not None
    assert saved.credential.slot is KeyRole.LDEVID_2
    assert set(bench.tpm.keys) == {KeyRole.IDEVID, KeyRole.IAK, KeyRole.LDEVID_2}


class StuckTpm(SoftTpm):
    """Evicts nothing."""

    def evict_ldevid(self, slot: KeyRole) -> None:
        if slot in self.keys:
            raise TpmUnavailable("stuck")


def test_an_old_key_that_cannot_be_evicted_is_named(bench: Bench) -> None:
    bench.tpm = StuckTpm(MANUFACTURER)
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)

    done = rotate_now(parts)

    assert done.left_over == "tpm-unavailable: stuck"
    saved = bench.store.load()
    assert saved is not None
    assert saved.retiring is KeyRole.LDEVID


def test_a_device_that_is_not_enrolled_has_no_key_to_exchange(bench: Bench) -> None:
    with pytest.raises(TpmKeyMissing, match="enrol it first"):
        rotate_now(assemble(bench.settings(), bench.tpm))

    assert bench.simulator.calls == []


def test_the_daemon_exchanges_its_key_and_goes_on_attesting(bench: Bench) -> None:
    stop = StopSignal()

    def play() -> None:
        until(lambda: KeyRole.LDEVID_2 in bench.tpm.keys)
        until(lambda: KeyRole.LDEVID not in bench.tpm.keys)
        until(lambda: KeyRole.LDEVID in bench.tpm.keys)  # and back, with the next exchange
        before = bench.simulator.calls.count("submit")
        until(lambda: bench.simulator.calls.count("submit") >= before + 2)

    player = in_background(stop, play)

    run_daemon(bench.settings("[renewal]\nrotate_after_s = 0.6"), bench.tpm, stop)

    player.join()
    saved = bench.store.load()
    assert saved is not None
    assert saved.fault is None
    assert saved.renewal_fault is None


def test_the_daemon_gets_what_a_command_asked_for_and_keeps_it_fresh(bench: Bench) -> None:
    agents, planner = bench.simulator.agents, agent_name("planner")
    agents.life, agents.token_life = timedelta(seconds=5), timedelta(seconds=1.5)
    enrol_now(assemble(bench.settings(), bench.tpm))
    with agents_tender(bench.settings(), bench.tpm) as (_, tender):
        tender.add(planner, Wish(capabilities=("mail.read",)))
    shelf = agent_shelf(bench.settings())
    seen: list[str] = []
    stop = StopSignal()

    def play() -> None:
        until(lambda: shelf.load(planner).certified is not None)
        certified = shelf.load(planner).certified
        assert certified is not None
        seen.append(certified.token)
        until(lambda: "token planner" in agents.calls)
        until(lambda: agents.calls.count("enrol planner") >= 2)
        before = bench.simulator.calls.count("submit")
        until(lambda: bench.simulator.calls.count("submit") >= before + 2)

    player = in_background(stop, play)
    run_daemon(bench.settings(), bench.tpm, stop)
    player.join()

    certified = shelf.load(planner).certified
    assert certified is not None
    assert certified.token not in seen
    assert (shelf.place(planner) / "token").read_text() == certified.token
    saved = bench.store.load()
    assert saved is not None
    assert saved.fault is None


def test_a_phase_that_this_agent_does_not_know_is_no_reason_not_to_attest(bench: Bench) -> None:
    parts = assemble(bench.settings(), bench.tpm)
    enrol_now(parts)
    saved = bench.store.load()
    assert saved is not None
    bench.store.save(replace(saved, phase="a phase of tomorrow"))

    assert attest_now(parts).allowed


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
