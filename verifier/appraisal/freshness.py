"""Step 3, freshness: this quote answers our nonce, now, and the TPM's own clock agrees.

Nonces are stateless: ``u64 microseconds || 16 random bytes || HMAC-SHA256(key, domain || time ||
random || subject)``, 56 bytes. Any replica that holds the key can check one; none has to remember
it. What stops replay is the device: its last nonce's time and its TPM's clock, resetCount and
restartCount must go forward, evidence by evidence.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from attestation.errors import NotFresh
from attestation.evidence import qualifying_data
from attestation.identity import Nonce
from attestation.reader import pack
from attestation.refusals import RefusalCode
from attestation.tpm.clock import TpmClock
from verifier.appraisal.binding import BoundQuote
from verifier.appraisal.enrolment import LastSeen

NONCE_DOMAIN: Final = b"device-attestation/nonce/v1\x00"
"""Domain tag of the nonce's HMAC."""

ENTROPY_BYTES: Final = 16
"""Random bytes in a nonce (draft-ietf-rats-reference-interaction-models, 128 bits at least)."""

NONCE_BYTES: Final = 8 + ENTROPY_BYTES + 32
"""Length of a nonce: EAT takes 8 to 64 bytes (RFC 9711, 4.1)."""

MIN_KEY_BYTES: Final = 32
"""An HMAC-SHA256 key below this is refused."""

MAX_CLOCK_MS: Final = 2**63 - 1
"""What a store can remember of a TPM's clock; TPM2_ClockSet lets a device's owner go beyond."""

REPLICA_SKEW: Final = timedelta(seconds=5)
"""How far the clocks of two verifier replicas may stand apart."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SKEW_US: Final = REPLICA_SKEW // _MICROSECOND


def microseconds(at: datetime) -> int:
    """Return ``at`` (aware) as microseconds since 1970 UTC."""
    return (at - _EPOCH) // _MICROSECOND


class OpenedNonce(NamedTuple):
    """A nonce that was proven to be ours, for this subject, and in time.

    Attributes:
        nonce: The nonce.
        issued_us: When it was issued, microseconds since 1970 UTC; None if that is not known.
    """

    nonce: Nonce
    issued_us: int | None


class Challenge(Protocol):
    """Whatever can say whether a nonce is the one that was asked."""

    def open(self, nonce: bytes, subject: str, at: datetime) -> OpenedNonce:
        """Return the nonce, proven; raises NotFresh."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceAuthority:
    """Makes and checks stateless nonces.

    Attributes:
        keys: HMAC keys shared by all replicas, newest first; all are accepted, the first issues.
        ttl: How long a nonce may be answered.

    Raises:
        ValueError: If there is no key, a key is below 32 bytes, or the lifetime is not positive.
    """

    keys: tuple[bytes, ...]
    ttl: timedelta
    ttl_us: int = field(init=False, repr=False, compare=False)
    """``ttl`` in microseconds."""
    _tagging: tuple[hmac.HMAC, ...] = field(init=False, repr=False, compare=False)
    """An HMAC begun with each key: to begin one costs more than to go on with a copy."""

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) < MIN_KEY_BYTES for key in self.keys):
            raise ValueError(f"at least one nonce key of {MIN_KEY_BYTES} bytes is needed")
        if self.ttl <= timedelta(0):
            raise ValueError("the nonce lifetime must be positive")
        object.__setattr__(self, "ttl_us", self.ttl // _MICROSECOND)
        begun = tuple(hmac.new(key, NONCE_DOMAIN, "sha256") for key in self.keys)
        object.__setattr__(self, "_tagging", begun)

    def issue(self, subject: str, at: datetime, entropy: bytes) -> Nonce:
        """Make a nonce for one subject.

        Args:
            subject: The device id, or what names an enrolling client.
            at: Now (aware).
            entropy: 16 fresh random bytes.

        Raises:
            ValueError: If ``entropy`` is not 16 bytes.
        """
        if len(entropy) != ENTROPY_BYTES:
            raise ValueError(f"a nonce takes {ENTROPY_BYTES} random bytes, got {len(entropy)}")
        head = pack(">Q", microseconds(at)) + entropy
        return Nonce(head + _tag(self._tagging[0], head, subject))

    def open(self, nonce: bytes, subject: str, at: datetime) -> OpenedNonce:
        """Prove that a nonce is ours, was issued to ``subject`` and may still be answered.

        Raises:
            NotFresh: ``nonce-malformed``, ``nonce-forged`` (also: another subject's) or
                ``nonce-expired``.
        """
        if len(nonce) != NONCE_BYTES:
            raise NotFresh(
                RefusalCode.NONCE_MALFORMED,
                f"the nonce is {len(nonce)} bytes, ours are {NONCE_BYTES}; ask for a challenge",
                structure="nonce",
            )
        head, tag = nonce[: 8 + ENTROPY_BYTES], nonce[8 + ENTROPY_BYTES :]
        # Every key is tried, whichever matches, so that timing tells nothing about key age.
        ours = [hmac.compare_digest(tag, _tag(begun, head, subject)) for begun in self._tagging]
        if not any(ours):
            raise NotFresh(
                RefusalCode.NONCE_FORGED,
                "the nonce was not issued by this verifier to this device; ask for a challenge",
                structure="nonce",
            )
        issued_us = int.from_bytes(head[:8], "big")
        age_us = microseconds(at) - issued_us
        if not -_SKEW_US <= age_us <= self.ttl_us:
            raise NotFresh(
                RefusalCode.NONCE_EXPIRED,
                f"the nonce is {age_us / 1e6:.1f} s old, it lives "
                f"{self.ttl.total_seconds():.0f} s; ask for a new challenge",
                structure="nonce",
            )
        return OpenedNonce(nonce=Nonce(nonce), issued_us=issued_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedNonce:
    """Exactly one nonce is accepted: for the offline commands, where a person says which."""

    nonce: bytes

    def open(self, nonce: bytes, subject: str, at: datetime) -> OpenedNonce:  # noqa: ARG002
        """Prove that the nonce is the expected one; subject and time do not matter offline.

        Raises:
            NotFresh: ``nonce-forged``.
        """
        if not hmac.compare_digest(nonce, self.nonce):
            raise NotFresh(
                RefusalCode.NONCE_FORGED,
                "the evidence answers another nonce than the one asked",
                structure="nonce",
            )
        return OpenedNonce(nonce=Nonce(nonce), issued_us=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForSubject:
    """A challenge whose nonces were issued to a given subject, whatever the device's id is."""

    challenge: Challenge
    subject: str

    def open(self, nonce: bytes, subject: str, at: datetime) -> OpenedNonce:  # noqa: ARG002
        """Prove that the nonce was issued to ``self.subject``; raises NotFresh."""
        return self.challenge.open(nonce, self.subject, at)


class FreshQuote(NamedTuple):
    """A bound quote that answers our nonce and whose clock went forward.

    Attributes:
        bound: The quote.
        opened: The nonce it answers.
        at: The moment of judgement (aware).
    """

    bound: BoundQuote
    opened: OpenedNonce
    at: datetime


def prove_fresh(
    bound: BoundQuote, challenge: Challenge, last_seen: LastSeen | None, at: datetime
) -> FreshQuote:
    """Prove that the quote was made for this challenge and is newer than all before it.

    Args:
        bound: From step 2.
        challenge: Who judges the nonce.
        last_seen: The device's last accepted evidence, if there was one.
        at: The moment of judgement (aware).

    Raises:
        NotFresh: If the nonce, the qualifying data, or the TPM's clock do not fit.
    """
    evidence = bound.authentic.evidence
    opened = challenge.open(evidence.nonce, bound.device, at)
    wanted = qualifying_data(evidence.nonce, evidence.part_digests)
    if not hmac.compare_digest(bound.authentic.attest.extra, wanted):
        raise NotFresh(
            RefusalCode.QUALIFYING_DATA_MISMATCH,
            "the quote was made for another nonce or for other evidence parts than those sent",
            structure="TPMS_ATTEST",
        )
    clock = bound.authentic.attest.clock
    if clock.clock_ms > MAX_CLOCK_MS:
        raise NotFresh(
            RefusalCode.VALUE_OUT_OF_RANGE,
            f"the TPM's clock stands at {clock.clock_ms} ms, which no powered time reaches: it was "
            "set. Clear the TPM, then enrol the device again",
            structure="TPMS_CLOCK_INFO",
        )
    if last_seen is not None:
        if opened.issued_us is not None and opened.issued_us <= last_seen.issued_us:
            raise NotFresh(
                RefusalCode.NONCE_REUSED,
                "the nonce is not newer than the last one this device answered; "
                "ask for a new challenge",
                structure="nonce",
            )
        _require_clock_forward(clock, last_seen.clock)
    return FreshQuote(bound=bound, opened=opened, at=at)


def mark_seen(fresh_clock: TpmClock, nonce: bytes) -> LastSeen:
    """Return what to remember after a result over a fresh quote.

    Args:
        fresh_clock: ``AttestationResult.clock``.
        nonce: ``AttestationResult.nonce``: one that :class:`NonceAuthority` issued.
    """
    return LastSeen(clock=fresh_clock, issued_us=int.from_bytes(nonce[:8], "big"))


def issued_at(nonce: bytes) -> datetime:
    """Return when a nonce of :class:`NonceAuthority` was issued (aware, UTC)."""
    return _EPOCH + int.from_bytes(nonce[:8], "big") * _MICROSECOND


def _tag(begun: hmac.HMAC, head: bytes, subject: str) -> bytes:
    tagging = begun.copy()
    tagging.update(head + subject.encode())
    return tagging.digest()


def _require_clock_forward(now: TpmClock, last: TpmClock) -> None:
    """Hold the TPM's clock against the last one seen (TPM 2.0 Part 1, 36)."""
    boots, boots_before = (
        (now.reset_count, now.restart_count),
        (
            last.reset_count,
            last.restart_count,
        ),
    )
    if boots < boots_before:
        raise NotFresh(
            RefusalCode.RESET_COUNT_WENT_BACK,
            f"the TPM reports reset {boots[0]} restart {boots[1]} after reset {boots_before[0]} "
            f"restart {boots_before[1]}: an old quote, or the TPM was cleared. "
            "After a clear, enrol the device again",
            structure="TPMS_CLOCK_INFO",
        )
    if boots > boots_before:
        return
    if now.clock_ms == last.clock_ms:
        raise NotFresh(
            RefusalCode.EVIDENCE_REPLAYED,
            "the TPM's clock stands where it stood in the last evidence: this is the same quote",
            structure="TPMS_CLOCK_INFO",
        )
    if now.clock_ms < last.clock_ms:
        raise NotFresh(
            RefusalCode.CLOCK_WENT_BACK,
            f"the TPM's clock went back by {last.clock_ms - now.clock_ms} ms within one boot: "
            "an older quote was sent",
            structure="TPMS_CLOCK_INFO",
        )
