"""Enrol: judge every proof, issue the LDevID certificate, record device and result together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import serialization

from attestation.errors import NotFresh
from attestation.refusals import RefusalCode
from attestation.wire.enrolment_codec import decode_enrolment
from verifier.appraisal.policy import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.errors import Conflict
from verifier.issuance.enrol import (
    AcceptedEnrolment,
    EnrolmentTerms,
    issue_ldevid,
    judge_enrolment,
    require_id_free,
)
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.ports import DeviceRecord, Entropy, Store
from verifier.ports.credentials import IssuedCertificate
from verifier.services.attest import Attest, next_entry
from verifier.services.challenge import Nonces
from verifier.services.reference_values import ReferenceShelf

NEW: Final = 0
"""Row version of a device that is not there yet."""


class Enrol:
    """The use case.

    Args:
        store: Where the device is written.
        attest: Signs and decides on the enrolment's result.
        nonces: Whose nonces are answered.
        anchors: The manufacturers trusted.
        shelf: The reference library.
        policy: The appraisal policy.
        replays: Logs replayed before.
        issuer: The device CA.
        entropy: For serial numbers.
        trust_domain: Of issued identities.
        lifetime: Of issued certificates.
        enrolled: Called after each enrolment (counters, outbox).
    """

    def __init__(
        self,
        *,
        store: Store,
        attest: Attest,
        nonces: Nonces,
        anchors: TrustAnchors,
        shelf: ReferenceShelf,
        policy: AppraisalPolicy,
        replays: ReplayCache,
        issuer: Issuer,
        entropy: Entropy,
        trust_domain: str,
        lifetime: timedelta,
        enrolled: Callable[[], None],
    ) -> None:
        self._store = store
        self._attest = attest
        self._nonces = nonces
        self._anchors = anchors
        self._shelf = shelf
        self._policy = policy
        self._replays = replays
        self._issuer = issuer
        self._entropy = entropy
        self._trust_domain = trust_domain
        self._lifetime = lifetime
        self._enrolled = enrolled

    def enrol(self, message: bytes, presented: bytes, at: datetime) -> dict[str, object]:
        """Run the use case.

        Args:
            message: The enrolment request (CBOR).
            presented: DER of the TLS client certificate.
            at: Now.

        Raises:
            VerificationError: With the code of the first proof that does not hold.
            InputError: If something in the request is malformed.
            Conflict: If the device's row changed meanwhile.
        """
        request = decode_enrolment(message)
        accepted = judge_enrolment(
            request,
            presented=presented,
            challenge=self._nonces.current(),
            terms=EnrolmentTerms(
                anchors=self._anchors, reference=self._shelf.current(at), policy=self._policy
            ),
            at=at,
            replays=self._replays,
        )
        existing = self._store.device(accepted.device)
        require_id_free(accepted, existing.enrolment if existing else None)
        _require_newer(accepted, existing)
        certificate = issue_ldevid(
            accepted,
            self._issuer,
            trust_domain=self._trust_domain,
            serial=certificate_serial(self._entropy.take(SERIAL_ENTROPY_BYTES)),
            at=at,
            lifetime=self._lifetime,
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        issued = IssuedCertificate(
            sha256=hashlib.sha256(der).digest(),
            device=accepted.device,
            serial=certificate.serial_number,
            der=der,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        ear = self._write(accepted, existing, issued, request.evidence, at)
        self._enrolled()
        chain = certificate.public_bytes(serialization.Encoding.PEM)
        chain += self._issuer.certificate.public_bytes(serialization.Encoding.PEM)
        return {
            "device_id": accepted.device,
            "certificate_chain_pem": chain.decode(),
            "not_after": issued.not_after.isoformat().replace("+00:00", "Z"),
            "result": ear,
            "ima_next": next_entry(accepted.result, accepted.enrolment.progress),
        }

    def _write(
        self,
        accepted: AcceptedEnrolment,
        existing: DeviceRecord | None,
        issued: IssuedCertificate,
        evidence: bytes,
        at: datetime,
    ) -> str:
        """Write device, certificate and first result in one transaction; return the result."""
        record = DeviceRecord(
            enrolment=accepted.enrolment,
            hardware_serial=accepted.hardware_serial,
            idevid_sha256=accepted.idevid_sha256,
            certificate_sha256=issued.sha256,
            certificate_not_after=issued.not_after,
            enrolled_at=at,
            seq=existing.seq if existing else 0,
            version=existing.version if existing else NEW,
        )
        written = replace(record, version=record.version + 1)
        draft = self._attest.sign(written, accepted.result, accepted.evidence, evidence, at)
        judgement = self._attest.finish(draft)
        with self._store.work() as work:
            work.enrol(record, issued)
            if not all(work.record([judgement])):
                raise Conflict(
                    RefusalCode.CONFLICT, f"device {record.device} changed meanwhile; try again"
                )
        return draft.ear


def _require_newer(accepted: AcceptedEnrolment, existing: DeviceRecord | None) -> None:
    """Refuse an enrolment request that was answered before (its nonce is stateless).

    Raises:
        NotFresh: ``nonce-reused``.
    """
    before = existing.enrolment.last_seen if existing else None
    now = accepted.enrolment.last_seen
    if before is not None and (now is None or now.issued_us <= before.issued_us):
        raise NotFresh(
            RefusalCode.NONCE_REUSED,
            f"device {accepted.device} has answered this or a newer challenge before; "
            "ask for a new challenge",
            structure="nonce",
        )
