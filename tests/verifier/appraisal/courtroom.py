"""A verifier's whole situation in one value: device, enrolment, policy, references, clock.

Everything is real but the TPM, whose keys are in software; tests change one thing and judge.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Evidence, Quote, qualifying_data
from attestation.identity import DeviceId, KeyName, Nonce
from attestation.logs.replay import ReplayedLog, replay
from attestation.logs.tcg import parse_firmware_log
from attestation.pcr import PcrBanks
from attestation.result import AttestationResult, Claim, TrustTier
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftManufacturer, SoftTpm
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import NonceAuthority, mark_seen
from verifier.appraisal.policy import AppraisalPolicy, load_policy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
DATA = Path(__file__).parents[2] / "data"
LOG_FILE = DATA / "google_go-eventlog/tpm/rhel8-uefi.bin"
DEVICE = DeviceId("box-0042")
SHA256 = HashAlgorithm.SHA256

_entropy = itertools.count(1)


@cache
def firmware_log(path: Path = LOG_FILE) -> bytes:
    return path.read_bytes()


@cache
def replayed_log(path: Path = LOG_FILE) -> ReplayedLog:
    return replay(parse_firmware_log(firmware_log(path)), (SHA256,))


@cache
def shipped_policy(name: str = "linux-server") -> AppraisalPolicy:
    text = (resources.files("verifier.policies") / f"{name}.toml").read_text()
    return load_policy(text, name)


@cache
def maker() -> SoftManufacturer:
    return SoftManufacturer()


class Courtroom:
    """One device that booted a real machine's firmware log, and the verifier that judges it."""

    def __init__(self, kind: str = "p256", *, log: Path = LOG_FILE) -> None:
        self.maker = maker()
        self.tpm = SoftTpm(serial="BOX-0042", manufacturer=self.maker, kind=kind)
        self.log: bytes | None = firmware_log(log)
        self.tpm.load_pcrs(replayed_log(log).pcrs)
        self.anchors = TrustAnchors.from_pem(self.maker.root_pem)
        self.authority = NonceAuthority(keys=(b"k" * 32,), ttl=timedelta(minutes=2))
        self.policy = shipped_policy()
        self.at = NOW
        self.replays: ReplayCache | None = None
        public = self.tpm.public_area(KeyRole.IAK)
        self.enrolment = Enrolment(
            device=DEVICE,
            ak_public=public,
            ak_name=KeyName(self.tpm.keys[KeyRole.IAK].name),
            anchor_sha256=hashlib.sha256(self.maker.root_der).digest(),
            endorsed_from=NOW - timedelta(days=365),
            endorsed_until=NOW + timedelta(days=365),
        )
        golden = learn(
            "box",
            replayed_log(log),
            self.tpm.read_pcrs(self.policy.selections),
            self.policy.selections,
            NOW,
        )
        self.reference = ReferenceLibrary(sets=(replace(golden, to_review=frozenset()),))

    def nonce(self, device: str = DEVICE) -> Nonce:
        return self.authority.issue(device, self.at, next(_entropy).to_bytes(16, "big"))

    def message(
        self,
        nonce: Nonce | None = None,
        *,
        values: PcrBanks | None = None,
        digest_only: bool = False,
    ) -> bytes:
        """Evidence bytes as an honest agent on this device would send them."""
        nonce = self.nonce() if nonce is None else nonce
        if values is None:
            values = self.tpm.read_pcrs(self.policy.selections)
        parts = encode_parts(values, self.log, digest_only, {"kernel": "6.1.0"})
        quote = self.tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        return encode_evidence(nonce, quote, parts)

    def evidence(self, nonce: Nonce | None = None, *, digest_only: bool = False) -> Evidence:
        return decode_evidence(self.message(nonce, digest_only=digest_only))

    def judge(self, evidence: Evidence | None = None) -> AttestationResult:
        return appraise(
            self.evidence() if evidence is None else evidence,
            challenge=self.authority,
            enrolment=self.enrolment,
            anchors=self.anchors,
            reference=self.reference,
            policy=self.policy,
            at=self.at,
            replays=self.replays,
        )

    def accept(self, result: AttestationResult) -> None:
        """Remember clock and nonce, as the service does, and let a second pass."""
        assert result.clock is not None
        self.enrolment = self.enrolment.seen(mark_seen(result.clock, result.nonce))
        self.at += timedelta(seconds=1)

    def requote(self, evidence: Evidence) -> Evidence:
        """Quote again over the parts as they now are, as a device that lies about them would."""
        wanted = qualifying_data(evidence.nonce, evidence.part_digests)
        quote = self.tpm.quote(self.policy.selections, wanted)
        return replace(evidence, quote=Quote(attest=quote.attest, signature=quote.signature))


def assert_refused(result: AttestationResult, code: str, *, step: int) -> None:
    """The result is contraindicated for this reason, found in this step."""
    seen = [(one.code, one.step) for one in result.findings if one.value >= 96]
    assert (code, step) in seen, result.findings
    assert result.status is TrustTier.CONTRAINDICATED


def assert_nothing_believed(result: AttestationResult) -> None:
    """Crypto, binding or nonce failed: 99 where a TPM verifier asserts, and nothing proven."""
    assert result.vector.as_claims() == {
        Claim.INSTANCE_IDENTITY: 99,
        Claim.HARDWARE: 99,
        Claim.EXECUTABLES: 99,
    }
    assert result.clock is None
    assert result.nonce == b""
