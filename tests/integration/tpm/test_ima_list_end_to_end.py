"""A measuring kernel, swtpm, the daemon and a verifier: the list from the first entry to a verdict.

The kernel is simulated (lists and extends by Linux's rule, SHA-1 and SHA-256 bank); TPM, TLS by the
TPM's key, collector, state machine, HTTP, store and judgement are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import parse_selection
from attestation.wire.enrolment_codec import decode_enrolment
from attestation.wire.evidence_codec import decode_evidence
from deploy.demo.swtpm import SoftwareTpm
from device_agent import telemetry
from device_agent.errors import VerifierRefused
from device_agent.loop import Clock, DaemonLoop
from device_agent.main import LdevidIdentity, assemble, pacing_of
from device_agent.notify import SystemdNotifier
from device_agent.ports import (
    ActivationReply,
    ChallengeReply,
    EnrolmentReply,
    EvidenceReply,
    KeyRole,
    VerifierClient,
)
from device_agent.settings import Settings, parse_settings
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators.ima_kernel import ImaKernel, split_entries
from tests.simulators.runtime_site import DENIED, POLICY, digest_of, know_files
from tests.simulators.swtpm import Manufactured
from tests.simulators.verifier_site import VerifierSite, boot_log
from verifier.store.tables import devices

pytestmark = pytest.mark.tpm

SHA1, SHA256 = HashAlgorithm.SHA1, HashAlgorithm.SHA256
KNOWN = tuple(b"/usr/bin/%d" % number for number in range(9))
BOTH_BANKS = POLICY.replace('"sha256:0,1', '"sha1:10+sha256:0,1')
"""Asks for PCR 10 in the old bank too: each bank has its own chain."""

Sent = tuple[int, int, str]
"""Offset, entries, and the verdict or the refusal."""


@dataclass
class Overheard:
    """A verifier client that passes everything on and notes which part of the list travelled."""

    behind: VerifierClient
    sent: list[Sent] = field(default_factory=list)

    def enrols_as(self) -> KeyRole | None:
        return self.behind.enrols_as()

    def begin_activation(self, message: bytes) -> ActivationReply:
        return self.behind.begin_activation(message)

    def enrolment_challenge(self) -> ChallengeReply:
        return self.behind.enrolment_challenge()

    def challenge(self) -> ChallengeReply:
        return self.behind.challenge()

    def enrol(self, message: bytes) -> EnrolmentReply:
        reply = self.behind.enrol(message)
        self._note(decode_enrolment(message).evidence, "enrolled")
        return reply

    def submit(self, evidence: bytes) -> EvidenceReply:
        try:
            reply = self.behind.submit(evidence)
        except VerifierRefused as refused:
            self._note(evidence, str(refused.code))
            raise
        first = reply.reasons[0].partition(":")[0] if reply.reasons else ""
        self._note(evidence, reply.status if reply.status == "affirming" else first)
        return reply

    def close(self) -> None:
        self.behind.close()

    def _note(self, evidence: bytes, end: str) -> None:
        part = decode_evidence(evidence).ima_list
        assert part is not None
        self.sent.append((part.offset, len(split_entries(part.content)), end))


class Machine:
    """Firmware, kernel and daemon of one machine with a software TPM."""

    def __init__(self, folder: Path, chip: SoftwareTpm, site: VerifierSite) -> None:
        self._folder, self._chip, self._site = folder, chip, site
        self._log = boot_log()
        (folder / "log").write_bytes(self._log)
        self.kernel = ImaKernel(folder / "ima", chip.extend, (SHA1, SHA256))

    def boot(self) -> None:
        """Measure what is booted; the kernel begins its list with the aggregate of PCR 0 to 9."""
        for event in parse_firmware_log(self._log).events:
            if event.type != EventType.NO_ACTION:
                digests = dict(event.digests)
                self._chip.extend(event.pcr, {bank: digests[bank] for bank in (SHA1, SHA256)})
        tpm = EsapiTpm(self._chip.tcti)
        values = tpm.read_pcrs(parse_selection("sha256:0,1,2,3,4,5,6,7,8,9"))[SHA256]
        tpm.close()
        self.kernel.boot(SHA256.digest(b"".join(values[index] for index in range(10))))

    def run(self, path: bytes) -> None:
        self.kernel.measure(path, digest_of(path))

    def attest_between(self, *acts: Callable[[], None]) -> list[Sent]:
        """Run the daemon: it attests, then after each act again; return what it sent."""
        settings = self._settings()
        tpm = EsapiTpm(settings.tpm.tcti)
        parts = assemble(settings, tpm)
        verifier = Overheard(parts.verifier)
        left = list(acts)
        passed = [0.0]

        def pause(seconds: float) -> bool:
            passed[0] += seconds
            if seconds and not left:
                return True
            if seconds:
                left.pop(0)()
            return False

        loop = DaemonLoop(
            sources=parts.sources,
            verifier=verifier,
            identity=LdevidIdentity(
                settings=settings,
                identities=parts.identities,
                verifier=parts.verifier,
                facts={},
                report=lambda _state, _reason: None,
            ),
            store=parts.store,
            notifier=SystemdNotifier({}),
            clock=Clock(
                wall=lambda: datetime.now(UTC) + timedelta(seconds=passed[0]),
                elapsed_s=lambda: passed[0],
                jitter=lambda: 1.0,
                pause=pause,
            ),
            pacing=pacing_of(settings),
            log=telemetry.open_log("error", "json", lambda: datetime.now(UTC)),
            intermediates=parts.intermediates,
        )
        parts.store.claim()
        try:
            loop.run()
        finally:
            parts.store.release()
            verifier.close()
            tpm.close()
        return verifier.sent

    def _settings(self) -> Settings:
        return parse_settings(
            f"""
            [tpm]
            tcti = "{self._chip.tcti}"
            [verifier]
            url = "https://localhost:{self._site.port}"
            ca_file = "{self._site.service_ca}"
            [evidence]
            firmware_log = "{self._folder / "log"}"
            ima_list = "{self.kernel.path}"
            [state]
            directory = "{self._folder / "state"}"
            """,
            "test.toml",
            {},
        )


@pytest.fixture
def site(manufactured: Manufactured, tmp_path: Path) -> Iterator[VerifierSite]:
    policy = tmp_path / "policy.toml"
    policy.write_text(BOTH_BANKS)
    with VerifierSite(tmp_path / "site", manufactured.manufacturer, policy=str(policy)) as running:
        know_files(running, KNOWN)
        yield running


@pytest.fixture
def machine(
    site: VerifierSite, manufactured_swtpm: SoftwareTpm, tmp_path: Path
) -> Iterator[Machine]:
    made = Machine(tmp_path, manufactured_swtpm, site)
    made.boot()
    return made


def lose_state(site: VerifierSite) -> None:
    with site.running.store._engine.begin() as connection:
        connection.execute(update(devices).values(progress=None, version=devices.c.version + 1))
    site.running.services.cache._by_fingerprint.clear()


def test_each_entry_travels_once_until_somebody_forgets(
    machine: Machine, site: VerifierSite
) -> None:
    machine.run(KNOWN[0])
    first = machine.attest_between(
        lambda: machine.run(KNOWN[1]),
        lambda: None,
        lambda: lose_state(site),
        lambda: machine.run(KNOWN[2]),
    )
    restarted = machine.attest_between(lambda: machine.run(KNOWN[3]))

    assert first == [
        (0, 2, "enrolled"),
        (2, 0, "affirming"),
        (2, 1, "affirming"),
        (3, 0, "affirming"),
        (3, 0, "ima-offset-unknown"),
        (0, 3, "affirming"),
        (3, 1, "affirming"),
    ]
    assert restarted == [(0, 4, "affirming"), (4, 1, "affirming")]


def test_list_that_runs_ahead_of_the_quote_is_sent_again(machine: Machine) -> None:
    path = KNOWN[1]
    machine.run(KNOWN[0])

    sent = machine.attest_between(
        lambda: machine.kernel.list_only(path, digest_of(path)),
        lambda: machine.kernel.extend_only(path, digest_of(path)),
        lambda: None,
    )

    assert sent == [
        (0, 2, "enrolled"),
        (2, 0, "affirming"),
        (2, 1, "affirming"),
        (2, 1, "affirming"),
        (3, 0, "affirming"),
    ]


def test_denied_file_stays_told_for_this_boot(
    machine: Machine, manufactured_swtpm: SoftwareTpm
) -> None:
    machine.run(KNOWN[0])
    before = machine.attest_between(
        lambda: machine.run(DENIED), lambda: machine.run(KNOWN[1]), lambda: None
    )
    restarted = machine.attest_between()
    manufactured_swtpm.power_cycle()
    machine.boot()
    machine.run(KNOWN[1])
    rebooted = machine.attest_between(lambda: machine.run(KNOWN[2]))

    assert before == [
        (0, 2, "enrolled"),
        (2, 0, "affirming"),
        (2, 1, "ima-file-denied"),
        (3, 1, "ima-file-denied"),
        (4, 0, "ima-file-denied"),
    ]
    assert restarted == [(0, 4, "ima-file-denied")]
    # Its certificate fell with the evidence: well again, the device gets another (ADR 0009).
    assert rebooted == [
        (0, 2, "affirming"),
        (2, 1, "certificate-revoked"),
        (0, 3, "enrolled"),
        (3, 0, "affirming"),
    ]


def test_entry_that_is_kept_from_the_verifier_is_missed(machine: Machine) -> None:
    def hide() -> None:
        machine.run(DENIED)
        machine.kernel.entries.pop()
        machine.kernel.write()

    machine.run(KNOWN[0])

    assert machine.attest_between(hide) == [
        (0, 2, "enrolled"),
        (2, 0, "affirming"),
        (2, 0, "ima-replay-mismatch"),
    ]
