"""The loop over a software TPM and a verifier in process, with a clock that runs by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.pcr import parse_selection
from device_agent import telemetry
from device_agent.collector import Sources
from device_agent.errors import (
    StateUnwritable,
    TpmUnavailable,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.lifecycle import (
    Credential,
    Phase,
)
from device_agent.loop import Clock, DaemonLoop
from device_agent.pacing import Pacing, Renewal
from device_agent.ports import KeyRole, Publisher
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.sources.ima_list import ImaListFile
from device_agent.state.files import SavedState, StateFile
from device_agent.transport.backoff import Backoff
from tests.simulators.ima_kernel import ImaKernel
from tests.simulators.soft_device import SoftManufacturer, SoftTpm
from tests.simulators.verifier_simulator import VerifierSimulator


class RunningClock:
    """Time passes only while the daemon waits; stops after so many seconds."""

    def __init__(self, lasts_s: float) -> None:
        self.now_s = 0.0
        self.start = datetime.now(UTC)
        self.lasts_s = lasts_s
        self.at: dict[float, Callable[[], None]] = {}

    def pause(self, seconds: float) -> bool:
        self.now_s += seconds
        for due in sorted(moment for moment in self.at if moment <= self.now_s):
            self.at.pop(due)()
        return self.now_s >= self.lasts_s

    def clock(self) -> Clock:
        return Clock(
            wall=lambda: self.start + timedelta(seconds=self.now_s),
            elapsed_s=lambda: self.now_s,
            jitter=lambda: 1.0,
            pause=self.pause,
        )


@dataclass
class Notes:
    """Implements Notifier; keeps what was said."""

    said: list[str] = field(default_factory=list)

    def ready(self) -> None:
        self.said.append("READY")

    def status(self, text: str) -> None:
        self.said.append(text)

    def watchdog(self) -> None:
        self.said.append("WATCHDOG")

    def stopping(self) -> None:
        self.said.append("STOPPING")


@dataclass
class Board:
    """Implements Publisher and Identity; keeps what was announced."""

    announced: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    used: list[str | None] = field(default_factory=list)
    fault: list[TpmUnavailable] = field(default_factory=list)

    def use(self, credential: Credential | None) -> Publisher | None:
        if self.fault and credential is not None:
            raise self.fault.pop()
        self.used.append(None if credential is None else credential.device_id)
        return None if credential is None else self

    def announce(self, state: str, detail: Mapping[str, object]) -> None:
        self.announced.append((state, detail))

    def connected(self) -> bool:
        return True

    def close(self) -> None:
        self.announced.append(("disconnected", {}))


@dataclass
class Journal:
    """Implements Log; keeps lines."""

    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def debug(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    info = warning = debug

    def events(self) -> list[str]:
        return [event for event, _ in self.lines if event != telemetry.WAIT_BEGUN]


class Bench:
    def __init__(self, folder: Path, *, lasts_s: float = 10) -> None:
        self.tpm = SoftTpm(SoftManufacturer())
        self.verifier = VerifierSimulator()
        self.clock = RunningClock(lasts_s)
        self.renewal = Renewal()
        self.notes, self.board, self.journal = Notes(), Board(), Journal()
        self.store = StateFile(folder / "state")
        log = folder / "log"
        log.write_bytes(b"firmware log")
        self.log_file = log
        self.kernel = ImaKernel(folder / "ima", self._extend, (HashAlgorithm.SHA256,))

    def _extend(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        for bank, digest in digests.items():
            self.tpm.extend(bank, pcr, digest)

    def loop(self) -> DaemonLoop:
        self.store.claim()
        return DaemonLoop(
            sources=Sources(
                tpm=self.tpm,
                firmware_log=FirmwareLogFile(self.log_file),
                host=HostFacts(agent_version="test"),
                ima_list=ImaListFile(self.kernel.path),
            ),
            verifier=self.verifier,
            identity=self.board,
            store=self.store,
            notifier=self.notes,
            clock=self.clock.clock(),
            pacing=Pacing(
                backoff=Backoff(base_s=1, cap_s=60),
                refused_s=600,
                interval_min_s=0.5,
                interval_max_s=100,
                renewal=self.renewal,
            ),
            log=self.journal,
            watchdog_s=3,
        )

    def run(self) -> DaemonLoop:
        loop = self.loop()
        loop.run()
        self.store.release()
        return loop


def test_a_new_device_enrols_and_attests_until_it_is_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=5)

    bench.run()

    assert bench.verifier.calls[:5] == [
        "enrolment_challenge",
        "enrol",
        "challenge",
        "submit",
        "submit",
    ]
    assert bench.verifier.calls.count("submit") == 5
    assert bench.board.used == ["dev-a"]
    assert bench.notes.said[0] == "READY"
    assert bench.notes.said[-1] == "STOPPING"
    assert "affirming, allowed" in bench.notes.said
    saved = bench.store.load()
    assert saved is not None
    assert saved.verdict is not None
    assert saved.verdict.status == "affirming"


def test_a_tampered_device_is_denied_in_words_and_goes_on_attesting(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=6)
    bench.clock.at[2.5] = lambda: bench.tpm.extend(HashAlgorithm.SHA256, 7, b"\x01" * 32)

    loop = bench.run()

    state, detail = next(
        item
        for item in bench.board.announced
        if item[1].get("attestation") and "contraindicated" in str(item[1])
    )
    assert state == "ready"
    assert detail["attestation"] == {
        "status": "contraindicated",
        "allow": False,
        "reasons": ["reference-mismatch: PCR 7 differs"],
        "at": detail["attestation"]["at"],  # type: ignore[index]
    }
    assert loop.state.phase is Phase.ATTESTING
    assert bench.verifier.calls.count("submit") == 6


def test_the_announced_numbers_only_grow_across_restarts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=3)
    bench.run()
    bench.clock.lasts_s = 6
    bench.run()

    numbers = [detail["seq"] for _, detail in bench.board.announced if "seq" in detail]
    assert numbers == sorted(numbers)  # type: ignore[type-var]
    assert bench.verifier.calls.count("enrol") == 1


def test_a_verifier_that_is_down_is_waited_for_without_losing_state(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=30)
    down = [VerifierUnreachable("down") for _ in range(4)]
    bench.verifier.fail("submit", *down[:1])
    bench.verifier.fail("challenge", *down[1:])

    loop = bench.run()

    assert bench.journal.events().count(telemetry.FAULT_OCCURRED) == 4
    assert loop.state.verdict is not None
    assert loop.state.fault is None
    assert bench.verifier.calls.count("enrol") == 1


def test_a_verifier_that_forgot_the_log_gets_it_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=4)
    bench.clock.at[1.5] = bench.verifier.known_logs.clear

    loop = bench.run()

    assert bench.verifier.known_logs
    assert "log-unknown" in str(bench.journal.lines)
    assert loop.state.fault is None


def test_a_verifier_that_forgot_the_device_enrols_it_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=4)

    def forget() -> None:
        bench.verifier.iak = None

    bench.clock.at[1.5] = forget

    loop = bench.run()

    assert bench.verifier.calls.count("enrol") == 2
    assert bench.board.used == ["dev-a", None, "dev-a"]
    assert loop.state.verdict is not None


def test_a_lost_ldevid_key_is_replaced_by_enrolling_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=4)
    bench.verifier.fail(
        "challenge", VerifierRefused("client-certificate-wrong", "x", http_status=0)
    )

    bench.run()

    assert bench.verifier.calls.count("enrol") == 2


def test_a_key_is_exchanged_while_the_device_goes_on_attesting(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=8)
    bench.renewal = Renewal(rotate_after=timedelta(seconds=4))

    loop = bench.run()

    assert bench.verifier.calls.count("enrol") == 2
    assert bench.verifier.calls.count("submit") >= 7
    assert KeyRole.LDEVID not in bench.tpm.keys
    assert (telemetry.KEY_RETIRED, {"slot": "ldevid"}) in bench.journal.lines
    assert loop.state.credential is not None
    assert loop.state.credential.slot is KeyRole.LDEVID_2
    # The broker's connection moved to the new certificate, and not by falling silent.
    assert bench.board.used == ["dev-a", "dev-a"]


def test_a_key_that_cannot_be_evicted_is_tried_again_with_the_next_judgement(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, lasts_s=7)
    bench.renewal = Renewal(rotate_after=timedelta(seconds=4))
    evict, faults = bench.tpm.evict_ldevid, [TpmUnavailable("busy")]

    def once_busy(slot: KeyRole) -> None:
        if slot is KeyRole.LDEVID and faults:
            raise faults.pop()
        evict(slot)

    bench.tpm.evict_ldevid = once_busy  # type: ignore[method-assign]

    loop = bench.run()

    assert not faults
    assert KeyRole.LDEVID not in bench.tpm.keys
    assert loop.state.retiring is None


def test_a_tpm_that_is_away_is_reported_and_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=20)
    bench.verifier.fail("submit", *(TpmUnavailable("no TPM") for _ in range(2)))

    loop = bench.run()

    assert any("tpm-unavailable" in line for line in bench.notes.said)
    assert loop.state.verdict is not None


def test_a_device_that_was_not_manufactured_waits_for_its_keys(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=2000)
    bench.tpm.certificates.clear()
    manufacturer = SoftManufacturer()

    def manufacture() -> None:
        for role, key in bench.tpm.keys.items():
            public = key.private.public_key()
            bench.tpm.certificates[role] = manufacturer.issue(role, public, "SN-1")

    bench.clock.at[700] = manufacture

    loop = bench.run()

    assert loop.state.verdict is not None


def test_a_damaged_state_file_is_set_aside_and_the_device_enrols_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=2)
    bench.store.path.parent.mkdir()
    bench.store.path.write_text("{ damaged")

    bench.run()

    assert telemetry.STATE_SET_ASIDE in bench.journal.events()
    assert (bench.store.path.parent / "state.json.corrupt").read_text() == "{ damaged"
    assert bench.store.load() is not None


class FullDisk(StateFile):
    full = True

    def save(self, state: SavedState) -> None:
        if self.full:
            raise StateUnwritable("No space left on device")
        super().save(state)


def test_a_full_disk_is_reported_once_and_does_not_stop_the_daemon(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=8)
    disk = FullDisk(tmp_path / "state")
    bench.store = disk

    def free() -> None:
        disk.full = False

    bench.clock.at[5] = free

    bench.run()

    events = bench.journal.events()
    assert events.count(telemetry.STATE_UNWRITABLE) == 1
    assert events.count(telemetry.STATE_WRITABLE) == 1
    assert bench.verifier.calls.count("submit") == 8
    assert disk.load() is not None


def test_a_broker_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=3)
    bench.board.fault.append(TpmUnavailable("busy"))

    bench.run()

    assert bench.board.used == ["dev-a"]
    assert bench.board.announced


def test_long_waits_feed_the_watchdog(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=100)
    bench.verifier.attest_in_s = 90

    bench.run()

    assert bench.notes.said.count("WATCHDOG") >= 90 / 3


def test_a_machine_that_slept_attests_as_soon_as_it_wakes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=5000)
    bench.verifier.attest_in_s = 100

    def sleep() -> None:
        bench.clock.now_s += 1000

    bench.clock.at[10] = sleep
    woken: list[float] = []
    submit = bench.verifier.submit
    bench.clock.lasts_s = 1050

    def watched(evidence: bytes) -> object:
        woken.append(bench.clock.now_s)
        return submit(evidence)

    bench.verifier.submit = watched  # type: ignore[assignment, method-assign]
    bench.run()

    assert woken[1] == pytest.approx(1010, abs=4)


def test_no_line_and_no_state_ever_holds_a_nonce(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=5)
    nonces: list[bytes] = []
    challenge = bench.verifier._challenge

    def spied(purpose: str) -> object:
        reply = challenge(purpose)
        nonces.append(reply.nonce)
        return reply

    bench.verifier._challenge = spied  # type: ignore[assignment, method-assign]
    bench.verifier.fail("submit", VerifierRefused("nonce-expired", "too late", http_status=400))
    bench.run()

    everything = str(bench.journal.lines) + str(bench.board.announced) + str(bench.notes.said)
    everything += bench.store.path.read_text()
    assert len(nonces) > 4
    for nonce in nonces:
        assert nonce.hex() not in everything
        assert repr(nonce)[2:-1] not in everything


def test_list_travels_entry_by_entry_and_whole_when_the_verifier_lost_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=7)
    bench.verifier.selections = parse_selection("sha256:0,7,10")
    bench.kernel.boot(bytes(32))
    bench.clock.at[1.5] = lambda: bench.kernel.measure(b"/bin/a", b"a" * 32)
    bench.clock.at[3.5] = bench.verifier.entries.clear

    bench.run()

    # Enrolment, first evidence, 1 s, 2 s (one entry more), 3 s; lost at 3.5 s.
    assert bench.verifier.offsets == [0, 0, 1, 1, 2, 2, 0, 2, 2]
    assert bench.verifier.entries == bench.kernel.entries
    assert bench.verifier.calls.count("challenge") == 2


def test_list_is_sent_whole_by_a_daemon_that_was_restarted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lasts_s=3)
    bench.verifier.selections = parse_selection("sha256:0,7,10")
    bench.kernel.boot(bytes(32))
    bench.run()
    bench.verifier.offsets.clear()
    bench.clock = RunningClock(lasts_s=2)

    bench.run()

    assert bench.verifier.offsets == [0, 1]
