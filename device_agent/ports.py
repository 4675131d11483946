"""What the daemon needs from the world: Protocols for adapters and for the tests' simulators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from attestation.algorithms import HashAlgorithm
from attestation.evidence import ClaimValue, ImaPart, Quote
from attestation.pcr import PcrBanks, PcrSelection


class KeyRole(StrEnum):
    """The keys a device holds in its TPM."""

    IDEVID = "idevid"
    """Manufacturer's identity key (IEEE 802.1AR); signs TLS during enrolment."""
    IAK = "iak"
    """Restricted attestation key (TCG); signs quotes and certifications only."""
    LDEVID = "ldevid"
    """Owner's identity key; signs TLS for attestation, MQTT and EAP-TLS."""
    LDEVID_2 = "ldevid-2"
    """The other slot for an LDevID: key rotation goes to and fro between the two."""

    @property
    def is_ldevid(self) -> bool:
        """Whether it is one of the two slots of the LDevID."""
        return self in LDEVID_SLOTS

    @property
    def other_slot(self) -> KeyRole:
        """The slot that a key in this one is exchanged into."""
        return KeyRole.LDEVID if self is KeyRole.LDEVID_2 else KeyRole.LDEVID_2


LDEVID_SLOTS: Final = (KeyRole.LDEVID, KeyRole.LDEVID_2)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A key outside the TPM's own memory, of use in this TPM only.

    Attributes:
        public: TPMT_PUBLIC.
        private: TPM2B_PRIVATE: the key encrypted by the storage root key.
    """

    public: bytes
    private: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmStatus:
    """TPM2_GetCapability facts for ``check`` and for claims.

    Attributes:
        manufacturer: Four letters, e.g. ``IBM``.
        firmware_version: 64-bit TPM2_PT_FIRMWARE_VERSION_1||2.
        in_lockout: Whether dictionary-attack lockout is in force.
        lockout_counter: Failed authorisations counted so far.
        max_auth_fail: Failures until lockout.
        banks: Allocated PCR banks with at least one PCR, e.g. ``("sha256",)``.
    """

    manufacturer: str
    firmware_version: int
    in_lockout: bool
    lockout_counter: int
    max_auth_fail: int
    banks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """What the TPM's maker says about it.

    Attributes:
        template: Which of the TCG's EK templates the key belongs to, e.g. ``L-2``.
        public: TPMT_PUBLIC of the endorsement key.
        certificate: Its certificate, DER; None if the TPM came without.
        chain: The certificates above it that the TPM holds, DER; mostly none.
    """

    template: str
    public: bytes
    certificate: bytes | None
    chain: tuple[bytes, ...] = ()


class Tpm(Protocol):
    """The TPM as the daemon uses it.

    All methods may raise ``TpmUnavailable``, ``TpmBusy``, ``TpmLockedOut``, ``TpmKeyMissing`` or
    ``TpmRefused`` (device_agent.errors).
    """

    def status(self) -> TpmStatus:
        """Read capability facts; never provokes the lockout."""
        ...

    def read_pcrs(self, selections: Sequence[PcrSelection]) -> PcrBanks:
        """Read the selected PCRs, all banks, from one pcrUpdateCounter."""
        ...

    def extend_pcr(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """TPM2_PCR_Extend of one PCR, every bank in ``digests`` in one command.

        After an error the PCR may have been extended or not: read it to know.
        """
        ...

    def quote(self, selections: Sequence[PcrSelection], qualifying: bytes) -> Quote:
        """TPM2_Quote by the IAK over the selected PCRs. ``qualifying`` is at most 32 bytes."""
        ...

    def certify(self, subject: KeyRole, qualifying: bytes) -> Quote:
        """TPM2_Certify of ``subject`` by the IAK."""
        ...

    def public_area(self, role: KeyRole) -> bytes:
        """Return the TPMT_PUBLIC of a key."""
        ...

    def has_key(self, role: KeyRole) -> bool:
        """Say whether the key is at its persistent handle."""
        ...

    def endorsement(self) -> Endorsement:
        """Return the endorsement key and its certificate."""
        ...

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """Unwrap a secret made for this TPM's endorsement key and IAK."""
        ...

    def create_iak(self) -> None:
        """Make the IAK from its TCG template and persist it; does nothing if it is there."""
        ...

    def create_ldevid(self, slot: KeyRole = KeyRole.LDEVID) -> None:
        """Make the LDevID key under the SRK and persist it; does nothing if it is there."""
        ...

    def evict_ldevid(self, slot: KeyRole) -> None:
        """Evict the key of an LDevID slot for good; does nothing if there is none."""
        ...

    def certificate(self, role: KeyRole) -> bytes | None:
        """Read the DER certificate of IDEVID or IAK from NV; None if the index is absent."""
        ...

    def sign_digest(self, role: KeyRole, digest: bytes) -> bytes:
        """Sign a digest with IDEVID or LDEVID; returns a DER ECDSA signature."""
        ...

    def csr(self, role: KeyRole, common_name: str, uris: Sequence[str]) -> bytes:
        """Make a PKCS#10 request signed by the key; returns DER."""
        ...


class AgentKeys(Protocol):
    """The TPM as it serves AI agents: keys under the SRK, kept wrapped, loaded for each use.

    All methods may raise as those of :class:`Tpm`; ``TpmRefused`` also for a key that is not of
    this TPM, or of this owner's storage root key.
    """

    def create_wrapped(self) -> WrappedKey:
        """Make a P-256 signing key that cannot leave this TPM."""
        ...

    def certify_wrapped(self, key: WrappedKey, qualifying: bytes) -> Quote:
        """TPM2_Certify of the key by the IAK."""
        ...

    def sign_wrapped(self, key: WrappedKey, digest: bytes) -> bytes:
        """Sign a digest; returns a DER ECDSA signature."""
        ...

    def csr_wrapped(self, key: WrappedKey, common_name: str, uris: Sequence[str]) -> bytes:
        """Make a PKCS#10 request signed by the key; returns DER."""
        ...


class MeasurementLog(Protocol):
    """The firmware event log."""

    def read(self) -> bytes | None:
        """Return the whole log, bounded, or None if the platform has none.

        Raises:
            SourceUnreadable: If it exists but cannot be read or is too large.
        """
        ...


class ImaList(Protocol):
    """The running kernel's IMA measurement list (binary form)."""

    def read_from(self, entry: int) -> ImaPart | None:
        """Return the entries from number ``entry`` on, bounded; None if the kernel has no list.

        If the list holds fewer entries than that (another boot), it is returned whole, offset 0.

        Raises:
            SourceUnreadable: If it exists but cannot be read or is too large.
        """
        ...


class AgentLog(Protocol):
    """The AI agent's own measurements."""

    @property
    def pcr(self) -> int:
        """The PCR that they extend."""
        ...

    def read(self) -> bytes | None:
        """Measure what changed, extend the PCR, and return the whole log (canonical event log).

        None if no agent is configured.

        Raises:
            SourceUnreadable: If a file that must be measured cannot be read.
            TpmError: If the TPM fails.
        """
        ...


class HostClaims(Protocol):
    """Host facts that travel as claims."""

    def read(self) -> Mapping[str, ClaimValue]:
        """Return kernel release, boot id, machine id digest, agent version and the like."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeReply:
    """The verifier's challenge.

    Attributes:
        nonce: To be answered once.
        selections: The PCRs to quote.
        expires_in_s: Seconds the nonce lives.
    """

    nonce: bytes
    selections: tuple[PcrSelection, ...]
    expires_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationReply:
    """The verifier's challenge by endorsement key.

    Attributes:
        activation: Its id, to be sent with the answer.
        credential: TPM2B_ID_OBJECT.
        seed: TPM2B_ENCRYPTED_SECRET.
        challenge: The challenge that the enrolment answers.
    """

    activation: bytes = field(repr=False)
    credential: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    challenge: ChallengeReply


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentReply:
    """What an accepted enrolment gives.

    Attributes:
        device_id: The id the verifier gave.
        certificate_chain_pem: LDevID certificate first, then its issuers.
        not_after: When the certificate ends (aware).
        not_before: When it begins; None if that is not known.
        ima_next: The first IMA entry that the verifier wants next time.
    """

    device_id: str
    certificate_chain_pem: str
    not_after: datetime
    ima_next: int = 0
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReply:
    """What the verifier answers to evidence.

    Attributes:
        status: ``affirming``, ``warning``, ``contraindicated`` or ``none``.
        allowed: The PDP's decision.
        reasons: ``code: reason`` lines; empty when affirming.
        result: The EAR as JWT.
        next: The next challenge.
        log_known: Whether the log may be sent as a digest from now on.
        attest_in_s: When the verifier wants the next evidence, seconds.
        ima_next: The first IMA entry that the verifier wants next time.
    """

    status: str
    allowed: bool
    reasons: tuple[str, ...]
    result: str
    next: ChallengeReply
    log_known: bool
    attest_in_s: float
    ima_next: int = 0


class Enroller(Protocol):
    """A door of the verifier to enrol by; raises as :class:`VerifierClient` does."""

    def enrols_as(self) -> KeyRole | None:
        """Say whose certificate the next enrolment shows: IDEVID, LDEVID, or None for none."""
        ...

    def enrolment_challenge(self) -> ChallengeReply:
        """Ask for an enrolment challenge, as :meth:`enrols_as` says."""
        ...

    def begin_activation(self, message: bytes) -> ActivationReply:
        """Ask to be challenged by endorsement key (CBOR), as :meth:`enrols_as` says."""
        ...

    def enrol(self, message: bytes) -> EnrolmentReply:
        """Send an enrolment request (CBOR), as :meth:`enrols_as` says."""
        ...


class VerifierClient(Enroller, Protocol):
    """The verifier's API.

    Methods raise ``VerifierUnreachable``, ``VerifierUntrusted`` or ``VerifierRefused`` (with the
    problem's code, reason and HTTP status).
    """

    def challenge(self) -> ChallengeReply:
        """Ask for an attestation challenge; TLS client key is the LDevID."""
        ...

    def submit(self, evidence: bytes) -> EvidenceReply:
        """Send evidence (CMW); TLS client key is the LDevID."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class Publisher(Protocol):
    """The device's own MQTT presence."""

    def announce(self, state: str, detail: Mapping[str, object]) -> None:
        """Publish the retained status document; never blocks, never raises on a lost broker."""
        ...

    def connected(self) -> bool:
        """Say whether the broker is reached."""
        ...

    def close(self) -> None:
        """Publish ``disconnected`` and leave."""
        ...


class Notifier(Protocol):
    """sd_notify (systemd)."""

    def ready(self) -> None:
        """Say READY=1."""
        ...

    def status(self, text: str) -> None:
        """Say STATUS=text."""
        ...

    def watchdog(self) -> None:
        """Say WATCHDOG=1."""
        ...

    def stopping(self) -> None:
        """Say STOPPING=1."""
        ...
