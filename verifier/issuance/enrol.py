"""Judge an enrolment: every proof that a device is who it says, and holds the key.

The order is that of the argument. A request is accepted only if

1. whatever it shows of an identity holds: the TLS connection was made with the very IDevID
   certificate in it, IDevID and IAK certificates lead to one trusted manufacturer and name one
   device, the endorsement key is vouched for; or the connection was made with the certificate that
   a known device was given,
2. its class wants nothing that it does not show (:mod:`verifier.issuance.enrolment_policy`),
3. initial trust holds: the TPM has given back what was wrapped to endorsement key and attestation
   key, the clouds have signed what they are said to have signed,
4. the nonce is ours, issued to this connection,
5. the IAK certified LDevID (and IDevID) keys for this nonce: they live in one TPM, which, where its
   maker is known by its EK certificate, runs no firmware that a published attack breaks,
6. the CSR is signed by that LDevID key,
7. evidence passes the same appraisal as ever after; a result that is shown is ours or a trusted
   verifier's, affirming, and names this device and key (:mod:`verifier.issuance.passport`).

What is shown and does not hold is refused even where the class could do without it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from attestation.errors import MalformedInput, VerificationError
from attestation.evidence import Evidence
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult
from attestation.wire.enrolment_codec import EnrolmentRequest
from verifier.appraisal.agent import AGENT_MATCHED, measured_aibom
from verifier.appraisal.appraise import appraise
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.freshness import Challenge, ForSubject, mark_seen
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.firmware import Version, require_firmware, version_from_quote
from verifier.issuance.agent_state import require_endorsed
from verifier.issuance.certification import require_certified
from verifier.issuance.contraindicated import evidence_refused
from verifier.issuance.csr import require_csr_by
from verifier.issuance.enrolment_case import Case, open_case, prove_trust
from verifier.issuance.enrolment_identity import (
    ClaimedIdentity,
    KnownDevice,
    device_id_from_serial,
)
from verifier.issuance.enrolment_policy import ProofKind
from verifier.issuance.enrolment_terms import (
    AcceptedEnrolment,
    Activations,
    EnrolmentTerms,
    enrolment_subject,
    issue_ldevid,
    require_id_free,
)
from verifier.issuance.passport import read_result

_OF_FILES: Final = frozenset({ProofKind.AIBOM, ProofKind.PROVIDER_ENDORSEMENT})

__all__ = [
    "AcceptedEnrolment",
    "EnrolmentTerms",
    "KnownDevice",
    "device_id_from_serial",
    "enrolment_subject",
    "issue_ldevid",
    "judge_enrolment",
    "require_id_free",
]


def judge_enrolment(
    request: EnrolmentRequest,
    *,
    presented: bytes | None,
    challenge: Challenge,
    terms: EnrolmentTerms,
    at: datetime,
    replays: ReplayCache | None = None,
    known: KnownDevice | None = None,
    activations: Activations | None = None,
) -> AcceptedEnrolment:
    """Judge one enrolment request.

    Args:
        request: As decoded from the wire.
        presented: DER of the TLS client certificate of the connection; None without one.
        challenge: Who judges the nonce; it was issued to :func:`enrolment_subject`, or without a
            client certificate to :func:`verifier.issuance.endorsement_key.ek_subject`.
        terms: What the owner asks.
        at: The moment of judgement (aware).
        replays: Remembers replayed logs.
        known: The device whose certificate of ours is presented; None if it is none of ours.
        activations: Where activations were begun.

    Returns:
        The accepted enrolment. Whether its device id is free: :func:`require_id_free`.

    Raises:
        Contraindicated: ``evidence-not-acceptable`` whose quote is authentic and fresh.
        VerificationError: Of the first proof that does not hold, or ``evidence-not-acceptable``.
        InputError: If something in the request is malformed.
    """
    case = open_case(request, presented, terms, at, known)
    trusted, identities = prove_trust(case, activations)
    for_us = ForSubject(challenge=challenge, subject=case.subject)
    for_us.open(case.nonce, "", at)
    runs = _require_one_tpm(request, case.claimed, case.nonce)
    if case.ek is not None:
        require_firmware(case.ek.manufacturer, runs, terms.sources.ek_rules.denials)
    enrolment, result = _appraised(case, for_us, replays)
    ldevid = case.claimed.ldevid
    return AcceptedEnrolment(
        enrolment=enrolment,
        hardware_serial=case.claimed.serial,
        idevid_sha256=case.claimed.idevid_sha256,
        ldevid_key=ldevid.key,
        ldevid_spki_sha256=hashlib.sha256(ldevid.spki_der).digest(),
        device_class=case.chosen,
        identities=identities,
        proofs=tuple(sorted((*trusted, *(kind.value for kind in _judged(case))))),
        nonce=case.nonce,
        result=result,
        evidence=case.evidence,
        shown_result=read_result(
            request.result, terms.result_signers, case.claimed.device, case.claimed.iak.name, at
        )
        if request.result
        else None,
    )


def _require_one_tpm(request: EnrolmentRequest, claimed: ClaimedIdentity, nonce: bytes) -> Version:
    """Proofs 5 and 6: the IAK certified the keys for this nonce; the LDevID key signed the CSR.

    Returns what firmware the TPM runs now, as it says itself under the IAK.
    """
    if request.ldevid_certify is None or (
        claimed.idevid is not None and request.idevid_certify is None
    ):
        raise MalformedInput(
            RefusalCode.REQUEST_INVALID,
            "the certification of a key is missing",
            structure="enrolment request",
        )
    if claimed.idevid is not None and request.idevid_certify is not None:
        require_certified(
            request.idevid_certify,
            claimed.iak,
            claimed.idevid,
            nonce=nonce,
            subject="idevid",
            other_key=RefusalCode.IDEVID_IAK_MISMATCH,
        )
    attest = require_certified(
        request.ldevid_certify,
        claimed.iak,
        claimed.ldevid,
        nonce=nonce,
        subject="ldevid",
        other_key=RefusalCode.CERTIFY_MISMATCH,
    )
    require_csr_by(request.csr, claimed.ldevid)
    return version_from_quote(attest.firmware_version)


def _appraised(
    case: Case, for_us: ForSubject, replays: ReplayCache | None
) -> tuple[Enrolment, AttestationResult | None]:
    """Proof 7: return what to remember, and the result of the evidence if there was any."""
    claimed, terms = case.claimed, case.terms
    enrolment = Enrolment(
        device=claimed.device,
        ak_public=case.request.iak_public,
        ak_name=claimed.iak.name,
        anchor_sha256=claimed.anchor_sha256,
        endorsed_from=claimed.endorsed_from,
        endorsed_until=claimed.endorsed_until,
        certificate_ids=claimed.certificate_ids,
        device_class=case.chosen.name,
    )
    if case.evidence is None:
        return enrolment, None
    result = appraise(
        case.evidence,
        challenge=for_us,
        enrolment=enrolment,
        anchors=terms.anchors,
        reference=terms.reference,
        policy=terms.policy,
        at=case.at,
        replays=replays,
    )
    return _require_acceptable(case, result, enrolment, case.evidence, for_us), result


def _judged(case: Case) -> frozenset[ProofKind]:
    """Return the proofs shown that were judged: the agent's files only where the class wants it."""
    return case.shown - (_OF_FILES - case.chosen.proofs)


def _require_acceptable(
    case: Case,
    result: AttestationResult,
    enrolment: Enrolment,
    evidence: Evidence,
    for_us: ForSubject,
) -> Enrolment:
    """Refuse evidence that failed a proof, or is worse than the owner lets in."""
    chosen = case.chosen
    if result.clock is None or result.status > chosen.accept:
        raise evidence_refused(result, chosen.accept, evidence, for_us)
    if _OF_FILES & chosen.proofs and all(one.code != AGENT_MATCHED for one in result.findings):
        raise VerificationError(
            RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
            "the evidence does not show the AI agent's files to be as an endorsed AIBOM lists "
            "them. " + "; ".join(dict.fromkeys(result.reasons)),
            structure="evidence",
        )
    if ProofKind.PROVIDER_ENDORSEMENT in chosen.proofs:
        _require_endorsed_files(case)
    return enrolment.seen(mark_seen(result.clock, result.nonce), result.progress)


def _require_endorsed_files(case: Case) -> None:
    """Check the provider's word for the AIBOM in force, whatever the appraisal policy wants."""
    log = case.evidence.agent_log if case.evidence is not None else None
    in_force = measured_aibom(log) if log is not None else None
    aibom = case.terms.reference.aiboms.get(in_force) if in_force is not None else None
    if aibom is None:
        raise VerificationError(
            RefusalCode.EVIDENCE_NOT_ACCEPTABLE,
            "the evidence names no AIBOM that this verifier holds",
            structure="evidence",
        )
    require_endorsed(aibom, case.terms.policy, case.at)
