"""What the measurements are made with: real logs of ``tests/data``, software TPMs, enrolments."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError
from attestation.evidence import qualifying_data
from attestation.identity import device_id
from attestation.limits import MAX_FIRMWARE_LOG_BYTES
from attestation.logs.replay import replay
from attestation.logs.tcg import parse_firmware_log
from attestation.result import TrustTier, tier_of
from attestation.tpm.public import parse_public
from attestation.wire.evidence_codec import encode_evidence, encode_parts
from bench.measure import Unable
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_manufacturer import SoftManufacturer
from verifier.appraisal.boot_rules import judge_boot
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import NonceAuthority
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import judge_log
from verifier.endorsement.trust_anchors import ChainProfile, TrustAnchors
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary

ROOT: Final = Path(__file__).resolve().parent.parent
LOGS: Final = ROOT / "tests" / "data"
LINUX_SERVER: Final = ROOT / "verifier" / "policies" / "linux-server.toml"


@cache
def largest_firmware_log(*, trusted: bool = False, bootable: bool = False) -> bytes:
    """Return the largest crypto-agile firmware log of ``tests/data``.

    Args:
        trusted: Only logs of boots that the policy linux-server takes (Secure Boot on, …).
        bootable: Only logs that an emulated TPM can be brought to: begun at locality 0, with
            SHA-256 digests.

    Raises:
        Unable: If there is none.
    """
    files = [path for path in LOGS.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: -path.stat().st_size):
        content = path.read_bytes()
        if (
            len(content) <= MAX_FIRMWARE_LOG_BYTES
            and _fits(content, bootable=bootable)
            and (_trusted(content) or not trusted)
        ):
            return content
    raise Unable(f"no firmware log below {LOGS.relative_to(ROOT)}")


def _fits(content: bytes, *, bootable: bool) -> bool:
    try:
        log = parse_firmware_log(content)
    except AttestationError:
        return False
    emulated = log.startup_locality == 0 and HashAlgorithm.SHA256 in log.banks
    return log.crypto_agile and (emulated or not bootable)


def _trusted(content: bytes) -> bool:
    """Say whether the policy linux-server has nothing against this boot."""
    judged = judge_log(content, (HashAlgorithm.SHA256,))
    rules = linux_server().boot
    if judged.missing_banks or rules is None:
        return False
    facts = judged.boot_facts(HashAlgorithm.SHA256, frozenset(range(16)))
    return all(tier_of(one.value) < TrustTier.WARNING for one in judge_boot(facts, rules))


def linux_server() -> AppraisalPolicy:
    """Return the packaged policy linux-server.

    Raises:
        Unable: If it is not there.
    """
    if not LINUX_SERVER.exists():
        raise Unable("the packaged policy linux-server is not there")
    return load_policy(LINUX_SERVER.read_text(encoding="utf-8"), LINUX_SERVER.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One emulated machine as it stands after its boot, and what the verifier knows of it.

    Attributes:
        tpm: Its TPM, in software.
        log: Its firmware log.
        enrolment: As accepted when it enrolled.
        anchors: The manufacturer's root.
        policy: The packaged policy for Linux servers.
        reference: What a machine with this log measures.
        nonces: Who makes and judges its challenges.
    """

    tpm: SoftTpm
    log: bytes
    enrolment: Enrolment
    anchors: TrustAnchors
    policy: AppraisalPolicy
    reference: ReferenceLibrary
    nonces: NonceAuthority

    def evidence(self, at: datetime, *, whole_log: bool, boot_id: str = "") -> bytes:
        """Return fresh evidence, as the device would send it."""
        nonce = self.nonces.issue(self.enrolment.device, at, os.urandom(16))
        values = self.tpm.read_pcrs(self.policy.selections)
        claims = {"kernel": "6.1.0-amd64", "boot_id": boot_id}
        parts = encode_parts(values, self.log, not whole_log, claims)
        quote = self.tpm.quote(self.policy.selections, qualifying_data(nonce, parts.digests))
        return encode_evidence(nonce, quote, parts)


def boot(tpm: SoftTpm, log: bytes) -> None:
    """Bring a software TPM's PCRs to where the log leads."""
    tpm.load_pcrs(replay(parse_firmware_log(log)).pcrs)


def machine(log: bytes) -> Machine:
    """Make a machine with this firmware log, known good.

    Raises:
        Unable: If the packaged policy is not there.
    """
    maker = SoftManufacturer()
    tpm = SoftTpm(maker)
    boot(tpm, log)
    policy = linux_server()
    now = datetime.now(UTC)
    anchors = TrustAnchors.from_pem(maker.root_pem)
    endorsement = anchors.validate((tpm.certificates[KeyRole.IAK],), now, ChainProfile.IAK)
    public = parse_public(tpm.public_area(KeyRole.IAK))
    golden = learn(
        "golden",
        replay(parse_firmware_log(log)),
        tpm.read_pcrs(policy.selections),
        policy.selections,
        now,
    )
    return Machine(
        tpm=tpm,
        log=log,
        enrolment=Enrolment(
            device=device_id("sn-0001"),
            ak_public=public.raw,
            ak_name=public.name,
            anchor_sha256=endorsement.anchor_sha256,
            endorsed_from=endorsement.not_before,
            endorsed_until=endorsement.not_after,
        ),
        anchors=anchors,
        policy=policy,
        reference=ReferenceLibrary(sets=(replace(golden, to_review=frozenset()),)),
        nonces=NonceAuthority(keys=(os.urandom(32),), ttl=timedelta(hours=1)),
    )
