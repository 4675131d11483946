"""An enrolment before its keys and its state are judged: who it is, its class, initial trust."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from attestation.errors import UntrustedEndorsement, VerificationError
from attestation.evidence import Evidence
from attestation.refusals import RefusalCode
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.evidence_codec import decode_evidence
from verifier.issuance.cloud_aws import judge_aws
from verifier.issuance.cloud_azure import judge_azure
from verifier.issuance.endorsement_key import (
    EK_TRUST,
    JudgedEk,
    ek_subject,
    judge_endorsement_key,
)
from verifier.issuance.enrolment_identity import (
    ClaimedIdentity,
    Identity,
    KnownDevice,
    identify,
)
from verifier.issuance.enrolment_policy import DeviceClass, DeviceFacts, ProofKind
from verifier.issuance.enrolment_terms import (
    Activations,
    EnrolmentTerms,
    enrolment_subject,
)
from verifier.issuance.initial_trust import TrustName


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request whose identity holds and that shows everything its class wants.

    Attributes:
        request: As decoded.
        terms: What the owner asks.
        at: The moment of judgement (aware).
        is_known: Whether it came over the certificate of a known device.
        ek: The endorsement key, if the policy rests on one and it was shown.
        claimed: Who it claims to be.
        chosen: Its class.
        shown: The proofs in it.
        evidence: The evidence, decoded; None without.
        subject: To whom its nonce must have been issued.
    """

    request: EnrolmentRequest
    terms: EnrolmentTerms
    at: datetime
    is_known: bool
    ek: JudgedEk | None
    claimed: ClaimedIdentity
    chosen: DeviceClass
    shown: frozenset[ProofKind]
    evidence: Evidence | None
    subject: str

    @property
    def nonce(self) -> bytes:
        """The challenge that it answers."""
        return self.evidence.nonce if self.evidence is not None else self.request.nonce


def open_case(
    request: EnrolmentRequest,
    presented: bytes | None,
    terms: EnrolmentTerms,
    at: datetime,
    known: KnownDevice | None,
) -> Case:
    """Say who a request is from and of which class, and that nothing is missing.

    Args:
        request: As decoded.
        presented: DER of the TLS client certificate; None without one.
        terms: What the owner asks.
        at: The moment of judgement (aware).
        known: The device whose certificate of ours is presented; None if it is none of ours.

    Raises:
        VerificationError: If what it shows of an identity does not hold, its class is unknown or
            denied, or something is missing: ``proofs-missing``, ``initial-trust-missing``.
        InputError: If something is malformed.
    """
    ek = _endorsement_key(request, terms, at) if known is None else None
    claimed = identify(
        request, presented=presented, known=known, ek=ek, anchors=terms.anchors, at=at
    )
    chosen = _class_of(request, claimed, ek, known, terms)
    evidence = decode_evidence(request.evidence) if request.evidence else None
    shown = _shown_proofs(request, evidence)
    chosen.require_shown(shown, _shown_trust(request, ek) if known is None else None)
    if claimed is None:
        raise VerificationError(
            RefusalCode.INITIAL_TRUST_MISSING,
            "nothing in the request says which device it is",
            structure="enrolment request",
        )
    return Case(
        request=request,
        terms=terms,
        at=at,
        is_known=known is not None,
        ek=ek,
        claimed=claimed,
        chosen=chosen,
        shown=shown,
        evidence=evidence,
        subject=enrolment_subject(presented)
        if presented is not None
        else ek_subject(claimed.idevid_sha256, claimed.iak.name),
    )


def _endorsement_key(
    request: EnrolmentRequest, terms: EnrolmentTerms, at: datetime
) -> JudgedEk | None:
    wanted = terms.enrolment.trust_names & EK_TRUST
    if request.ek is None or not wanted:
        return None
    return judge_endorsement_key(
        request.ek.public, request.ek.chain, wanted=wanted, sources=terms.sources, at=at
    )


def _answers(request: EnrolmentRequest) -> bool:
    """Say whether a request answers a challenge by endorsement key; whether rightly is proven."""
    return request.ek is not None and bool(request.ek.activation)


def _class_of(
    request: EnrolmentRequest,
    claimed: ClaimedIdentity | None,
    ek: JudgedEk | None,
    known: KnownDevice | None,
    terms: EnrolmentTerms,
) -> DeviceClass:
    """Return the class of a device; one that is known keeps its class as long as that is there."""
    if known is not None:
        return terms.enrolment.device_class_named(known.enrolment.device_class, terms.label)
    anchors = {claimed.anchor_sha256} if claimed is not None else set()
    if ek is not None and (claimed is None or claimed.idevid is None or _answers(request)):
        anchors.add(ek.anchor_sha256)  # beside an IDevID only one that is proven, below
    serial = claimed.serial if claimed is not None else ""
    return terms.enrolment.device_class(
        DeviceFacts(label=terms.label, anchors=frozenset(anchors), serial=serial)
    )


def _shown_trust(request: EnrolmentRequest, ek: JudgedEk | None) -> set[TrustName]:
    """Return by which names the request asks to be trusted."""
    shown = set()
    if request.idevid_chain:
        shown.add(TrustName.IDEVID)
    if ek is not None and request.ek is not None and _answers(request):
        shown.add(TrustName.EK_ALLOW_LIST)
        if request.ek.chain:
            shown.add(TrustName.TPM_EK)
    if request.cloud.aws_iid:
        shown.add(TrustName.AWS_IID)
    if request.cloud.azure_msi:
        shown.add(TrustName.AZURE_MSI)
    return shown


def _shown_proofs(request: EnrolmentRequest, evidence: Evidence | None) -> frozenset[ProofKind]:
    """Return which proofs the request shows: such as are judged, so that none counts by name."""
    has_agent_log = evidence is not None and evidence.agent_log is not None
    there = {
        ProofKind.POP: bool(request.csr),
        ProofKind.RESIDENCY: request.ldevid_certify is not None,
        ProofKind.EVIDENCE: evidence is not None,
        ProofKind.RESULT: bool(request.result),
        ProofKind.AIBOM: has_agent_log,
        ProofKind.PROVIDER_ENDORSEMENT: has_agent_log,
    }
    return frozenset(kind for kind, shown in there.items() if shown)


def prove_trust(
    case: Case, activations: Activations | None
) -> tuple[frozenset[TrustName], tuple[Identity, ...]]:
    """Prove initial trust.

    Args:
        case: From :func:`open_case`.
        activations: Where activations were begun; None if none can have been.

    Returns:
        The names that hold, and what only this device may be.

    Raises:
        VerificationError: If a name that is shown does not hold, or too few do.
        InputError: If a cloud's word is malformed.
    """
    claimed, chosen, request = case.claimed, case.chosen, case.request
    identities = list(claimed.identities)
    if case.is_known:
        return frozenset(), tuple(identities)
    names = chosen.trust.names
    # A key that is only named is nobody's: it and its certificate are no secrets.
    held = {TrustName.IDEVID} if claimed.idevid is not None else set()
    refusal = None
    if case.ek is not None and _answers(request):
        held |= _activated(case, case.ek, activations)
        identities.append(Identity("ek", case.ek.sha256))
    if case.ek is not None and names & EK_TRUST:
        refusal = case.ek.refusal
    sources = case.terms.sources
    if TrustName.AWS_IID in names and request.cloud.aws_iid and sources.aws is not None:
        instance = judge_aws(request.cloud.aws_iid, sources.aws)
        identities.append(Identity("aws-instance", instance.digest))
        held.add(TrustName.AWS_IID)
    if TrustName.AZURE_MSI in names and request.cloud.azure_msi and sources.azure is not None:
        resource = judge_azure(request.cloud.azure_msi, sources.azure, case.at)
        identities.append(Identity("azure-resource", resource.digest))
        held.add(TrustName.AZURE_MSI)
    if not chosen.trust.holds(held):
        raise refusal or _untrusted(case, held)
    return frozenset(held), tuple(identities)


def _activated(case: Case, ek: JudgedEk, activations: Activations | None) -> frozenset[TrustName]:
    """Prove that the attestation key lives in the TPM of the endorsement key."""
    statement = case.request.ek
    if statement is None or activations is None:
        return frozenset()
    activations.redeem(
        statement.activation,
        statement.answer,
        ek_sha256=ek.sha256,
        ak_name=case.claimed.iak.name,
        subject=case.subject,
        at=case.at,
    )
    return ek.held


def _untrusted(case: Case, held: set[TrustName]) -> VerificationError:
    if TrustName.EK_ALLOW_LIST in case.chosen.trust.names and TrustName.EK_ALLOW_LIST not in held:
        return UntrustedEndorsement(
            RefusalCode.EK_NOT_LISTED,
            f"class {case.chosen.name} wants a listed endorsement key, and this one is not",
            structure="endorsement key",
        )
    return VerificationError(
        RefusalCode.INITIAL_TRUST_MISSING,
        f"class {case.chosen.name} rests on {case.chosen.trust.text}; what holds is "
        + (", ".join(sorted(held)) or "nothing"),
        structure="enrolment request",
    )
