"""Attestation results as values, in AR4SI words (draft-ietf-rats-ar4si, section 2.3).

A result says what was concluded (status and trustworthiness vector), why (findings), and how
(the numbered steps). Worst wins: the status is never better than the worst claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import Final

from attestation.boot.facts import BootFacts
from attestation.identity import DeviceId
from attestation.logs.ima.progress import RuntimeProgress
from attestation.tpm.clock import TpmClock


class TrustTier(IntEnum):
    """The four tiers with their CBOR numbers (AR4SI 2.3.2; EAR ``ear_status``)."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96

    @property
    def label(self) -> str:
        """The text form used in JSON: ``affirming``."""
        return _LABELS[self]


_LABELS: Final = {tier: tier.name.lower() for tier in TrustTier}


class Claim(StrEnum):
    """The eight trustworthiness claims by their JSON keys (AR4SI 2.3.4)."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILE_SYSTEM = "file-system"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    STORAGE_OPAQUE = "storage-opaque"
    SOURCED_DATA = "sourced-data"

    @property
    def attribute(self) -> str:
        """The field of :class:`TrustVector` that holds this claim."""
        return self.value.replace("-", "_")


_ATTRIBUTES: Final = {claim.value: claim.attribute for claim in Claim}
_VALUES_OF: Final[Callable[[object], tuple[int, ...]]] = attrgetter(*_ATTRIBUTES.values())

CRYPTO_FAILED: Final = 99
"""Claim value: cryptographic validation of the evidence failed (all claims, AR4SI 2.3.3)."""


_TIERS: Final = {
    value: tier
    for tier, values in (
        (TrustTier.NONE, range(-1, 2)),
        (TrustTier.AFFIRMING, (*range(2, 32), *range(-32, -1))),
        (TrustTier.WARNING, (*range(32, 96), *range(-96, -32))),
        (TrustTier.CONTRAINDICATED, (*range(96, 128), *range(-128, -96))),
    )
    for value in values
}
"""Tier of each int8 claim value."""

_GOOD: Final = frozenset(value for value, tier in _TIERS.items() if tier <= TrustTier.AFFIRMING)


def tier_of(value: int) -> TrustTier:
    """Return the tier of a claim value (AR4SI 2.3.2).

    Raises:
        ValueError: If the value is outside -128..127.
    """
    try:
        return _TIERS[value]
    except KeyError as error:
        raise ValueError(f"claim value {value} is not an int8") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustVector:
    """The trustworthiness vector: one AR4SI claim value each; 0 makes no assertion.

    Attributes:
        status: The worst tier of all claims (EAR: the status is never better than that).
    """

    instance_identity: int = 0
    configuration: int = 0
    executables: int = 0
    file_system: int = 0
    hardware: int = 0
    runtime_opaque: int = 0
    storage_opaque: int = 0
    sourced_data: int = 0
    status: TrustTier = field(init=False, repr=False, compare=False)
    _claims: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = _VALUES_OF(self)
        claims = {name: value for name, value in zip(_ATTRIBUTES, values, strict=True) if value}
        object.__setattr__(self, "status", max(tier_of(value) for value in values))
        object.__setattr__(self, "_claims", claims)

    def as_claims(self) -> dict[str, int]:
        """Return ``{"instance-identity": 2, …}`` with unasserted claims left out."""
        return dict(self._claims)

    @classmethod
    def from_claims(cls, claims: Mapping[str, int]) -> TrustVector:
        """Build a vector from JSON keys; unknown keys are ignored (EAR: extensions)."""
        return cls(
            **{_ATTRIBUTES[name]: value for name, value in claims.items() if name in _ATTRIBUTES}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found, with the claim it decides.

    Attributes:
        code: Stable code; a refusal code, or ``ok`` words of the policy such as
            ``reference-matched``.
        claim: The claim this finding speaks to.
        value: The AR4SI value it gives.
        reason: Seen and wanted, in words a person can act on.
        step: Number of the appraisal step that found it.
        pcr: The PCR concerned, if one is.
        bank: Its bank, e.g. ``sha256``.
        rule: Key of the policy's rule that gave the value, e.g. ``boot.secure_boot`` or
            ``pcrs[4]``; empty where no policy decides.
    """

    code: str
    claim: Claim
    value: int
    reason: str
    step: int
    pcr: int | None = None
    bank: str | None = None
    rule: str = ""


class StepVerdict(StrEnum):
    """How one appraisal step ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered appraisal step, for ``verifier appraise --explain``."""

    number: int
    name: str
    verdict: StepVerdict
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What the verifier concluded about one device from one evidence (RFC 9334 8.4).

    Attributes:
        device: Whose evidence this was.
        vector: Claims by the policy; the status follows from it.
        findings: Everything found, in step order.
        steps: The numbered steps with their verdicts.
        policy_id: The appraisal policy applied.
        at: The moment of judgement (aware).
        evidence_digest: SHA-256 of the evidence message.
        nonce: The nonce that was answered (for ``eat_nonce``); empty if it was not proven ours.
        clock: The TPM's clock, if the quote was authentic.
        firmware_version: TPM firmware version of an authentic quote.
        reference_set: Name of the reference set that matched, if one did.
        boot: What the firmware log proves about the boot; None if nothing was proven.
        progress: How far the IMA list is proven now; None if there is none.
    """

    device: DeviceId
    vector: TrustVector
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    policy_id: str
    at: datetime
    evidence_digest: bytes
    nonce: bytes = field(repr=False, default=b"")
    clock: TpmClock | None = None
    firmware_version: int | None = None
    reference_set: str | None = None
    boot: BootFacts | None = None
    progress: RuntimeProgress | None = None

    @property
    def status(self) -> TrustTier:
        """The result's tier: the worst claim's."""
        return self.vector.status

    @property
    def reasons(self) -> tuple[str, ...]:
        """``code: reason`` for each finding that is not affirming, worst first, in step order."""
        bad = [finding for finding in self.findings if finding.value not in _GOOD]
        if not bad:
            return ()
        bad.sort(key=lambda finding: -tier_of(finding.value))
        return tuple(f"{finding.code}: {finding.reason}" for finding in bad)


def worst_vector(findings: Iterable[Finding]) -> TrustVector:
    """Fold findings into a vector: per claim the value of the worst tier, first found wins ties."""
    chosen: dict[str, int] = {}
    for finding in findings:
        seen = chosen.get(finding.claim.attribute)
        if seen is None or tier_of(finding.value) > tier_of(seen):
            chosen[finding.claim.attribute] = finding.value
    return TrustVector(**chosen)
