"""A whole appraisal: evidence bytes in, signed result out; the log new, and the log known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from os import urandom
from pathlib import Path

from attestation.result import TrustTier
from attestation.wire.ear import VerifierIdentity, encode_ear
from attestation.wire.evidence_codec import decode_evidence
from bench.crypto import bare_verify_and_sign
from bench.inputs import LOGS, Machine, largest_firmware_log, machine
from bench.measure import MILLISECONDS, Bench, Line, compare, held_to, seconds_per_call
from verifier.appraisal.appraise import appraise
from verifier.appraisal.replay_cache import ReplayCache
from verifier.keys.ring import KeyRing

BUDGET_FIRST_SIGHT_MS = 1.0
_LONGER = LOGS / "keylime_keylime" / "create-mb-policy" / "binary_bios_measurements"
"""49 kB, 121 events, Secure Boot off."""
_IDENTITY = VerifierIdentity(developer="https://verifier.example", build="bench")


def whole_appraisal(
    subject: Machine,
    ring: KeyRing,
    evidence: bytes,
    replays: ReplayCache | None,
    status: TrustTier = TrustTier.AFFIRMING,
) -> Callable[[], str]:
    """Return a call that decodes, appraises and signs; checked once to end as it should."""
    at = datetime.now(UTC)

    def judge() -> str:
        return judged(subject, ring, evidence, replays, at, status)

    judge()
    return judge


def judged(
    subject: Machine,
    ring: KeyRing,
    evidence: bytes,
    replays: ReplayCache | None,
    at: datetime,
    status: TrustTier = TrustTier.AFFIRMING,
) -> str:
    """Decode, appraise and sign.

    Raises:
        RuntimeError: If the result is another than it should be: something else would be measured.
    """
    result = appraise(
        decode_evidence(evidence),
        challenge=subject.nonces,
        enrolment=subject.enrolment,
        anchors=subject.anchors,
        reference=subject.reference,
        policy=subject.policy,
        at=at,
        replays=replays,
    )
    if result.status is not status:
        raise RuntimeError(f"the bench's own evidence is refused: {result.reasons}")
    until = at + timedelta(minutes=5)
    claims = encode_ear(
        result,
        verifier=_IDENTITY,
        issued_at=at,
        expires_at=until,
        ak_name=subject.enrolment.ak_name,
    )
    return ring.sign_claims(claims)


def first_sight() -> Iterator[Line]:
    """Time the appraisal of the largest log, replayed each time; also against the bare crypto."""
    subject = machine(largest_firmware_log(trusted=True))
    evidence = subject.evidence(datetime.now(UTC), whole_log=True)
    with tempfile.TemporaryDirectory() as folder:
        judge = whole_appraisal(subject, ring_in(Path(folder)), evidence, None)
        value = seconds_per_call(judge, total_s=2) * MILLISECONDS
        yield held_to("appraisal_first_sight_ms", value, "ms", BUDGET_FIRST_SIGHT_MS, "≤")
        verify, sign = bare_verify_and_sign()
        _, _, ratio = compare(judge, lambda: (verify(), sign()))
    yield Line(
        name="appraisal_first_sight_vs_crypto",
        value=ratio,
        unit="ratio",
        vs="crypto_floor_us",
        ratio=ratio,
    )


def first_sight_49k() -> Iterator[Line]:
    """Time the appraisal of a longer log, of a boot that the policy does not affirm."""
    subject = machine(_LONGER.read_bytes())
    evidence = subject.evidence(datetime.now(UTC), whole_log=True)
    with tempfile.TemporaryDirectory() as folder:
        ring = ring_in(Path(folder))
        judge = whole_appraisal(subject, ring, evidence, None, TrustTier.WARNING)
        value = seconds_per_call(judge, total_s=2) * MILLISECONDS
    yield held_to("appraisal_first_sight_49k_ms", value, "ms", BUDGET_FIRST_SIGHT_MS, "≤")


def repeat() -> Iterator[Line]:
    """Time the appraisal of a log that was replayed before, against one verify and one sign."""
    subject = machine(largest_firmware_log(trusted=True))
    replays = ReplayCache()
    now = datetime.now(UTC)
    verify, sign = bare_verify_and_sign()
    with tempfile.TemporaryDirectory() as folder:
        ring = ring_in(Path(folder))
        whole_appraisal(subject, ring, subject.evidence(now, whole_log=True), replays)
        judge = whole_appraisal(subject, ring, subject.evidence(now, whole_log=False), replays)
        _, _, ratio = compare(judge, lambda: (verify(), sign()))
    yield Line(
        name="appraisal_repeat_vs_crypto",
        value=ratio,
        unit="ratio",
        vs="crypto_floor_us",
        ratio=ratio,
    )


def ring_in(folder: Path) -> KeyRing:
    """Return a new key ring in an empty folder."""
    return KeyRing.create(folder, datetime.now(UTC), urandom(32))


BENCHES = (
    Bench(names=("appraisal_first_sight_ms", "appraisal_first_sight_vs_crypto"), run=first_sight),
    Bench(names=("appraisal_first_sight_49k_ms",), run=first_sight_49k),
    Bench(names=("appraisal_repeat_vs_crypto",), run=repeat),
)
