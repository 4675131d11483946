"""The AI agent measured into a real (software) TPM, killed at the worst moments, and judged."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.identity import DeviceId, KeyName
from attestation.logs.cel import decode_cel
from attestation.result import AttestationResult, TrustTier
from attestation.tpm.public import parse_public
from attestation.wire.evidence_codec import decode_evidence
from deploy.demo.swtpm import SoftwareTpm
from device_agent.collector import Sources, collect
from device_agent.measure.build import measured_agent
from device_agent.measure.register import Watch
from device_agent.ports import KeyRole
from device_agent.settings import AgentSettings, Settings, StateSettings
from device_agent.sources.firmware_log import FirmwareLogFile
from device_agent.sources.host import HostFacts
from device_agent.tpm.adapter import EsapiTpm
from tests.simulators import soft_agent
from tests.simulators.soft_provider import SoftProvider
from tests.simulators.swtpm import Manufactured
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import NonceAuthority, mark_seen
from verifier.appraisal.policy import load_policy
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.reference_values.aibom import load_aibom, pack_aibom
from verifier.reference_values.model import ReferenceLibrary

pytestmark = pytest.mark.tpm

POLICY = """
id = "agent/1"
description = "What the AI agent consists of, in two banks."
[quote]
selection = "sha256:13+sha1:13"
[[pcrs]]
indices = [13]
claim = "executables"
known = 3
unknown = 96
missing = 96
match = "log"
[agent]
providers = ["acme"]
"""


class Killed(EsapiTpm):
    """The process dies right before or right after an extend, as if by SIGKILL."""

    moment = "before"
    left = 0

    def extend_pcr(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        if self.left == 0 and self.moment == "before":
            os._exit(9)
        super().extend_pcr(pcr, digests)
        if self.left == 0:
            os._exit(9)
        self.left -= 1


class Device:
    """A device with an AI agent on its disk and a verifier that knows both."""

    def __init__(self, folder: Path, software: SoftwareTpm, made: Manufactured) -> None:
        self.root, self.document = soft_agent.install(folder)
        self.software = software
        self.tpm = EsapiTpm(software.tcti)
        self.told: list[str] = []
        self.settings = Settings(
            agent=AgentSettings(root=str(self.root), aibom=str(self.document)),
            state=StateSettings(directory=str(folder / "state")),
        )
        self.policy = load_policy(POLICY, "test")
        self.authority = NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(minutes=2))
        self.anchors = TrustAnchors.from_pem(made.manufacturer.root_pem)
        self.at = datetime.now(UTC)
        public = self.tpm.public_area(KeyRole.IAK)
        self.enrolment = Enrolment(
            device=DeviceId("sim-0001"),
            ak_public=public,
            ak_name=KeyName(parse_public(public).name),
            anchor_sha256=hashlib.sha256(made.manufacturer.root_der).digest(),
            endorsed_from=self.at - timedelta(days=1),
            endorsed_until=self.at + timedelta(days=1),
        )
        provider = SoftProvider()
        text = self.document.read_bytes()
        stored = pack_aibom(text.decode(), json.dumps(provider.endorse(text)))
        bom = load_aibom(stored, "test", {"acme": provider.pem})
        self.library = ReferenceLibrary(aiboms={bom.sha256: bom})
        self._entropy = itertools.count(1)
        self.daemon()

    def daemon(self, tpm: EsapiTpm | None = None) -> None:
        """Start the daemon's measuring anew."""
        watch = Watch(report=self.told.append)
        agent = measured_agent(
            self.settings, tpm or self.tpm, "boot-1", lambda: datetime.now(UTC), watch
        )
        assert agent is not None
        self.agent = agent

    def attest(self) -> AttestationResult:
        self.at += timedelta(seconds=1)
        nonce = self.authority.issue(
            self.enrolment.device, self.at, next(self._entropy).to_bytes(16, "big")
        )
        sources = Sources(
            tpm=self.tpm,
            firmware_log=FirmwareLogFile(None),
            host=HostFacts(agent_version="test"),
            agent_log=self.agent,
        )
        message = collect(sources, nonce=nonce, selections=self.policy.selections, whole_log=True)
        evidence = decode_evidence(message)
        result = appraise(
            evidence,
            challenge=self.authority,
            enrolment=self.enrolment,
            anchors=self.anchors,
            reference=self.library,
            policy=self.policy,
            at=self.at,
        )
        if result.clock is not None:
            self.enrolment = self.enrolment.seen(mark_seen(result.clock, result.nonce))
        return result

    def killed(self, moment: str, *, after: int) -> None:
        """Measure in a process of its own that dies at one extend."""
        self.tpm.close()
        child = os.fork()
        if child == 0:
            tpm = Killed(self.software.tcti)
            tpm.moment, tpm.left = moment, after
            self.daemon(tpm)
            self.agent.read()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        self.daemon()


@pytest.fixture
def device(
    tmp_path: Path, manufactured_swtpm: SoftwareTpm, manufactured: Manufactured
) -> Iterator[Device]:
    made = Device(tmp_path, manufactured_swtpm, manufactured)
    yield made
    made.tpm.close()


def codes(result: AttestationResult) -> set[str]:
    return {one.code for one in result.findings if one.value >= 32}


def test_measured_agent_is_affirmed_again_and_again(device: Device) -> None:
    first, second = device.attest(), device.attest()

    assert codes(first) == codes(second) == set()
    assert first.status is TrustTier.AFFIRMING
    assert device.told == []


def test_every_allocated_bank_is_extended(device: Device) -> None:
    log = device.agent.read()
    assert log is not None

    banks = decode_cel(log).banks

    assert {bank.label for bank in map(HashAlgorithm, banks)} == set(device.tpm.status().banks)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "model changed": (
        lambda root: (root / "models/tiny.onnx").write_bytes(b"poisoned"),
        "agent-file-changed",
    ),
    "file added": (lambda root: (root / "evil.py").write_bytes(b"x"), "agent-file-unlisted"),
    "file deleted": (lambda root: (root / "agent.py").unlink(), "agent-file-missing"),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES.keys())
def test_change_between_two_attestations_is_named(
    device: Device, change: Callable[[Path], object], code: str
) -> None:
    assert device.attest().status is TrustTier.AFFIRMING
    change(device.root)

    assert codes(device.attest()) == {code}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("after", [0, 2, 4])
def test_daemon_killed_at_an_extend_leaves_a_log_that_proves_the_pcr(
    device: Device, moment: str, after: int
) -> None:
    device.killed(moment, after=after)

    assert device.attest().status is TrustTier.AFFIRMING
    assert device.told == []


def test_daemon_killed_while_a_change_was_recorded_still_tells_it(device: Device) -> None:
    device.attest()
    (device.root / "agent.py").write_bytes(b"evil")
    device.killed("before", after=0)
    (device.root / "agent.py").write_bytes(soft_agent.FILES["agent.py"][1])

    result = device.attest()

    assert "agent-file-changed" in codes(result)
    assert "earlier in this boot" in str([one.reason for one in result.findings])


def test_somebody_elses_extend_is_refused_until_the_machine_restarts(device: Device) -> None:
    device.attest()
    device.software.extend(13, {HashAlgorithm.SHA256: bytes(32)})
    refused = device.attest()
    device.tpm.close()
    device.software.power_cycle()
    device.daemon()

    assert "agent-replay-mismatch" in codes(refused)
    assert device.attest().status is TrustTier.AFFIRMING


def test_state_directory_emptied_by_an_attacker_is_refused(device: Device) -> None:
    (device.root / "agent.py").write_bytes(b"evil")
    device.attest()
    (device.root / "agent.py").write_bytes(soft_agent.FILES["agent.py"][1])
    for path in Path(device.settings.state.directory).iterdir():
        path.unlink()
    device.daemon()

    assert "agent-replay-mismatch" in codes(device.attest())
    assert "no log of ours explains" in device.told[0]
