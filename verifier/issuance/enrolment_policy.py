"""The enrolment policy as values: which class something is of, and what that class must show.

A device is put into the first class whose match fits; what the class wants is then held against
what was sent, and everything that is missing is told at once. What was sent is judged elsewhere
(:mod:`verifier.issuance.enrol`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from attestation.errors import IdentityMismatch, VerificationError
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from verifier.issuance.initial_trust import TrustExpression, TrustName, parse_trust


class ProofKind(StrEnum):
    """What a class may want shown beside initial trust."""

    POP = "pop"
    """A certificate request that the key to be certified has signed."""
    RESIDENCY = "residency"
    """TPM2_Certify of that key by the attestation key: both live in one TPM."""
    EVIDENCE = "evidence"
    """Fresh evidence that passes the appraisal policy (background check)."""
    RESULT = "result"
    """An affirming result, ours or a trusted verifier's, for this device and key (passport)."""
    AIBOM = "aibom"
    """Every file of the AI agent is as its AIBOM lists it; part of the evidence."""
    PROVIDER_ENDORSEMENT = "provider-endorsement"
    """The agent's provider has signed that AIBOM; part of the evidence."""
    OWNER_BINDING = "owner-binding"
    """The owner has signed the key's thumbprint, scope and expiry."""


class ProofsMissing(VerificationError):
    """Something that the class wants was not shown; ``missing`` names all of it.

    Attributes:
        missing: Proofs by name, and the initial trust expression if that was not met.
    """

    def __init__(self, code: RefusalCode, reason: str, missing: tuple[str, ...]) -> None:
        self.missing = missing
        super().__init__(code, reason, structure="enrolment request")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMatch:
    """Which devices a class is for; what is not given fits every device.

    Attributes:
        labels: EST labels; the empty text is the request without one.
        anchors: SHA-256 of the root that endorsed the device: its manufacturer's, its TPM maker's.
        serial: Pattern of the manufacturer's serial with ``*``, ``?`` and ``[…]``.
    """

    labels: frozenset[str] = frozenset()
    anchors: frozenset[bytes] = frozenset()
    serial: str = ""

    def fits(self, facts: DeviceFacts) -> bool:
        """Return whether a device is one of these."""
        return (
            (not self.labels or facts.label in self.labels)
            and (not self.anchors or not self.anchors.isdisjoint(facts.anchors))
            and (not self.serial or fnmatchcase(facts.serial, self.serial))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What is known of a device before its class is.

    Attributes:
        label: The EST label it came by.
        anchors: SHA-256 of the roots that endorsed what it has shown.
        serial: Its serial number; of a device without IDevID what its EK gives.
    """

    label: str
    anchors: frozenset[bytes]
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """One kind of device.

    Attributes:
        name: The class; results and decisions carry it.
        match: Which devices are of it.
        trust: Initial trust.
        proofs: What must be shown beside.
        accept: The worst status of fresh evidence that is let in.
        profile: The certificate profile.
        scope: What its owner may be asked to bind; empty for nothing.
        lifetime: How long a certificate lasts; None takes the settings' value.
        overlap: How long older certificates stay beside a new one.
        decommission: How long after its first enrolment a device ends; None for never.
    """

    name: str
    trust: TrustExpression
    proofs: frozenset[ProofKind]
    match: DeviceMatch = field(default_factory=DeviceMatch)
    accept: TrustTier = TrustTier.WARNING
    profile: str = "ldevid"
    scope: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    overlap: timedelta = timedelta(0)
    decommission: timedelta | None = None

    def require_shown(
        self, shown: Collection[ProofKind], trust: Collection[TrustName] | None
    ) -> None:
        """Check that everything wanted was sent; says nothing of its worth.

        Args:
            shown: The proofs in the request.
            trust: The names of initial trust in the request; None where trust was given before.

        Raises:
            ProofsMissing: ``proofs-missing``, or ``initial-trust-missing`` if that alone is.
            VerificationError: ``enrolment-denied`` if the class trusts nobody.
        """
        if not self.trust.ways:
            raise VerificationError(
                RefusalCode.ENROLMENT_DENIED,
                f"class {self.name} has an empty initial_trust: none of its devices may enrol",
                structure="enrolment policy",
            )
        missing = missing_proofs(self.proofs, shown)
        untrusted = trust is not None and not self.trust.holds(trust)
        if not missing and not untrusted:
            return
        told = (*missing, *((f"initial trust: {self.trust.text}",) if untrusted else ()))
        raise ProofsMissing(
            RefusalCode.PROOFS_MISSING if missing else RefusalCode.INITIAL_TRUST_MISSING,
            f"class {self.name} wants what was not sent: {'; '.join(told)}",
            told,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentMatch:
    """Which agents a class is for; what is not given fits every agent.

    Attributes:
        device_classes: Classes of the devices they run on.
        name: Pattern of the agent's name with ``*``, ``?`` and ``[…]``.
    """

    device_classes: frozenset[str] = frozenset()
    name: str = ""

    def fits(self, device_class: str, name: str) -> bool:
        """Return whether an agent is one of these."""
        return (not self.device_classes or device_class in self.device_classes) and (
            not self.name or fnmatchcase(name, self.name)
        )


class TokenProof(StrEnum):
    """How the key of a token is proven when a fresh one is asked for."""

    NONE = "none"
    DPOP = "dpop"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentClass:
    """One kind of AI agent.

    Attributes:
        name: The class.
        match: Which agents are of it.
        proofs: What must be shown.
        profile: The certificate profile.
        scope: What an agent may be given at most; whoever asks for more is refused.
        lifetime: How long a certificate lasts; None takes the settings' value.
        overlap: How long older certificates stay beside a new one.
        decommission: How long after its first enrolment an agent ends; None for never.
        token_proof: How whoever asks for a token of the agent proves the agent's key.
    """

    name: str
    proofs: frozenset[ProofKind]
    match: AgentMatch = field(default_factory=AgentMatch)
    profile: str = "agent"
    scope: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    overlap: timedelta = timedelta(0)
    decommission: timedelta | None = None
    token_proof: TokenProof = TokenProof.NONE

    def require_shown(self, shown: Collection[ProofKind]) -> None:
        """Check that everything wanted was sent; says nothing of its worth.

        Raises:
            ProofsMissing: ``proofs-missing``.
        """
        missing = missing_proofs(self.proofs, shown)
        if missing:
            raise ProofsMissing(
                RefusalCode.PROOFS_MISSING,
                f"class {self.name} wants what was not sent: {'; '.join(missing)}",
                missing,
            )


def missing_proofs(wanted: Collection[ProofKind], shown: Collection[ProofKind]) -> tuple[str, ...]:
    """Return the names of all proofs that are wanted and were not shown, in a fixed order."""
    return tuple(kind.value for kind in ProofKind if kind in wanted and kind not in shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsTrust:
    """Whose instance identity documents are believed.

    Attributes:
        certificates: Files with AWS's RSA-2048 certificates, by region.
        accounts: The owner's accounts.
    """

    certificates: tuple[tuple[str, str], ...]
    accounts: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureTrust:
    """Whose managed identity tokens are believed.

    Attributes:
        jwks: File with the signing keys (RFC 7517).
        issuers: ``iss``, one per tenant and endpoint version.
        audience: ``aud``.
        resources: Patterns of ``xms_mirid``, compared without case.
    """

    jwks: str
    issuers: frozenset[str]
    audience: str
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPolicy:
    """Everything an owner says of who may enrol.

    Attributes:
        id: Name of the policy.
        devices: Classes of devices in order; never empty.
        agents: Classes of agents in order; empty where no agent may enrol.
        ek_allow_list: File with digests of EK public keys; empty without one.
        ek_roots: Files with further TPM makers' certificates.
        packaged_roots: Whether the packaged TPM makers' roots are believed.
        accept_expired_ek: Whether an EK certificate past its end is taken.
        aws: None where no class names ``aws-iid``.
        azure: None where no class names ``azure-msi``.
    """

    id: str
    devices: tuple[DeviceClass, ...]
    agents: tuple[AgentClass, ...] = ()
    ek_allow_list: str = ""
    ek_roots: tuple[str, ...] = ()
    packaged_roots: bool = True
    accept_expired_ek: bool = False
    aws: AwsTrust | None = None
    azure: AzureTrust | None = None

    @property
    def trust_names(self) -> frozenset[TrustName]:
        """Every name that some class rests on."""
        return frozenset[TrustName]().union(*(one.trust.names for one in self.devices))

    @property
    def admits_strangers(self) -> bool:
        """Whether some class can be met without a TLS client certificate."""
        return any(TrustName.IDEVID not in way for one in self.devices for way in one.trust.ways)

    def device_class(self, facts: DeviceFacts) -> DeviceClass:
        """Return the first class that a device is of.

        Raises:
            IdentityMismatch: ``enrolment-class-unknown``.
        """
        for one in self.devices:
            if one.match.fits(facts):
                return one
        raise _classless("no class of devices in the enrolment policy matches this device")

    def device_class_named(self, name: str, label: str) -> DeviceClass:
        """Return the class that a known device was put in.

        Raises:
            IdentityMismatch: ``enrolment-class-unknown`` if it is gone, or not for this label.
        """
        for one in self.devices:
            if one.name == name and (not one.match.labels or label in one.match.labels):
                return one
        raise _classless(
            f"the device's class {name} is not, or not under this label, in the enrolment policy "
            "any more; enrol with the proofs of a new device"
        )

    def agent_class(self, device_class: str, name: str) -> AgentClass:
        """Return the first class that an agent is of.

        Args:
            device_class: Class of the device it runs on.
            name: Its name.

        Raises:
            IdentityMismatch: ``enrolment-class-unknown``.
        """
        chosen = self.agent_class_if_any(device_class, name)
        if chosen is not None:
            return chosen
        raise _classless(
            f"no class of agents in the enrolment policy matches agent {name} on a device of "
            f"class {device_class}"
        )

    def agent_class_if_any(self, device_class: str, name: str) -> AgentClass | None:
        """Return the same; None without one."""
        fitting = (one for one in self.agents if one.match.fits(device_class, name))
        return next(fitting, None)


def wanted_of_evidence(classes: Sequence[DeviceClass | AgentClass]) -> frozenset[ProofKind]:
    """Return the proofs that classes want and that only an appraisal policy can judge."""
    judged = {ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT}
    return frozenset(kind for one in classes for kind in one.proofs if kind in judged)


def _classless(reason: str) -> IdentityMismatch:
    return IdentityMismatch(
        RefusalCode.ENROLMENT_CLASS_UNKNOWN, reason, structure="enrolment policy"
    )


DEFAULT_POLICY: Final = EnrolmentPolicy(
    id="enrolment-default",
    devices=(
        DeviceClass(
            name="default",
            trust=parse_trust("idevid"),
            proofs=frozenset({ProofKind.POP, ProofKind.RESIDENCY, ProofKind.EVIDENCE}),
            overlap=timedelta(hours=1),
        ),
    ),
)
"""What the packaged file of that name says."""
