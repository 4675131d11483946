"""What the verifier remembers of one enrolled device, as far as appraisal needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from attestation.identity import DeviceId, KeyName
from attestation.logs.ima.progress import RuntimeProgress
from attestation.tpm.clock import TpmClock
from attestation.tpm.public import TpmPublic, parse_public


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """Where the device's TPM clock and nonces stood at its last accepted evidence.

    Attributes:
        clock: The TPM's own clock in that quote.
        issued_us: When the nonce it answered was issued, microseconds since 1970 UTC.
    """

    clock: TpmClock
    issued_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One device as it was accepted at enrolment.

    The attestation key is parsed once, when the value is made, so that keeping an enrolment in
    memory makes a repeated appraisal cheap.

    Attributes:
        device: The device's id.
        ak_public: TPMT_PUBLIC of its attestation key.
        ak_name: The key's Name as it was certified at enrolment.
        anchor_sha256: SHA-256 of the trust anchor's DER that endorsed it.
        endorsed_from: Start of the endorsement's validity (aware).
        endorsed_until: End of the endorsement's validity (aware).
        revoked: Whether an operator revoked the device.
        last_seen: Clock and nonce of the last accepted evidence; None before the first.
        device_class: What kind of device; chooses reference values and policy.
        progress: How far its IMA list is proven in this boot; None for not at all.
        certificate_ids: What revocation lists call the certificates that endorsed it, see
            :class:`verifier.endorsement.trust_anchors.Endorsement`; empty for devices enrolled
            before it was remembered.
        ak: ``ak_public`` parsed.

    Raises:
        InputError: If ``ak_public`` is not a TPMT_PUBLIC we take.
    """

    device: DeviceId
    ak_public: bytes
    ak_name: KeyName
    anchor_sha256: bytes
    endorsed_from: datetime
    endorsed_until: datetime
    revoked: bool = False
    last_seen: LastSeen | None = None
    device_class: str = "default"
    progress: RuntimeProgress | None = None
    certificate_ids: frozenset[bytes] = frozenset()
    ak: TpmPublic = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ak", parse_public(self.ak_public))

    def seen(self, last: LastSeen, progress: RuntimeProgress | None = None) -> Enrolment:
        """Return this enrolment with a newer last-seen mark; the parsed key is kept.

        Args:
            last: From :func:`verifier.appraisal.freshness.mark_seen`.
            progress: How far the IMA list is proven now; None for not at all.
        """
        news = {"last_seen": last, "progress": progress}
        copy = object.__new__(Enrolment)
        for name in Enrolment.__slots__:
            object.__setattr__(copy, name, news[name] if name in news else getattr(self, name))
        return copy
