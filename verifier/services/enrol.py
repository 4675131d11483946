"""Enrol: judge every proof, issue the LDevID certificate, record device and result together."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import serialization

from attestation.errors import AttestationError
from attestation.identity import DeviceId
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.enrolment_codec import EnrolmentRequest, decode_enrolment
from verifier.appraisal.replay_cache import ReplayCache
from verifier.errors import Conflict, NotAuthorised, ServiceError, Unavailable
from verifier.issuance.certificate_profile import DEFAULT_PROFILES, Profiles
from verifier.issuance.contraindicated import Contraindicated
from verifier.issuance.enrol import (
    AcceptedEnrolment,
    EnrolmentTerms,
    KnownDevice,
    issue_ldevid,
    judge_enrolment,
    require_id_free,
)
from verifier.issuance.enrolment_terms import Activations
from verifier.issuance.passport import require_standing
from verifier.issuance.profiles import (
    SERIAL_ENTROPY_BYTES,
    Issuer,
    certificate_serial,
    spiffe_id,
)
from verifier.ports import DeviceIssuance, DeviceRecord, Entropy, Judgement, Store
from verifier.ports.credentials import (
    CredentialKind,
    IdentityClaim,
    IssuedCertificate,
)
from verifier.services.attest import Attest, next_entry
from verifier.services.challenge import Nonces
from verifier.services.contraindication import Contraindications
from verifier.services.decommission import lifetime_until, planned_end
from verifier.services.enrolled import Enrolled, Underway, Writer
from verifier.services.enrolment_record import enrolled_record, require_newer, spend_challenge
from verifier.services.issue import issued_entry, record_of
from verifier.services.workload_tokens import WorkloadTokens

_OURS: Final = b"spiffe://"
"""Stands in every certificate that we issue: it names its holder so. A question to the store less
for those that do not."""

JUDGED_AT_ONCE: Final = 2
"""Requests judged at the same time. More threads that compute gain nothing, and each takes turns
from the one that holds the store's lock."""

TURN_S: Final = 10.0
"""How long a request waits for its turn, in seconds: less than a device waits for an answer. What
holds the turns up (a store, a token that does not answer) must not take every thread in time."""

SOMEBODY_ELSES: Final = frozenset(
    {
        RefusalCode.DEVICE_ID_TAKEN,
        RefusalCode.IDENTITY_TAKEN,
        RefusalCode.KEY_ALREADY_CERTIFIED,
    }
)
"""Refusals of a device that claims to be another: an operator must hear of them."""


class Enrol:
    """The use case.

    Args:
        store: What is known, and where alarms go.
        writer: Writes what is issued.
        attest: Signs and decides on the enrolment's result.
        nonces: Whose nonces are answered.
        terms: What the owner asks at a moment, of a request without a label.
        replays: Logs replayed before.
        issuer: Returns the CA that signs now.
        entropy: For serial numbers.
        trust_domain: Of issued identities.
        lifetime: Of issued certificates whose class does not say.
        enrolled: Called after each enrolment (counters, outbox).
        tokens: Makes the token beside the certificate.
        profiles: Certificate profiles by name.
        activations: Where credential activations were begun; None where none can be.
        turn_s: How long a request waits for its turn, in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        attest: Attest,
        nonces: Nonces,
        terms: Callable[[datetime], EnrolmentTerms],
        replays: ReplayCache,
        issuer: Callable[[], Issuer],
        entropy: Entropy,
        trust_domain: str,
        lifetime: timedelta,
        enrolled: Callable[[], None],
        tokens: WorkloadTokens,
        profiles: Profiles = DEFAULT_PROFILES,
        activations: Activations | None = None,
        turn_s: float = TURN_S,
    ) -> None:
        self._store = store
        self._writer = writer
        self._attest = attest
        self._nonces = nonces
        self._terms = terms
        self._replays = replays
        self._issuer = issuer
        self._entropy = entropy
        self._trust_domain = trust_domain
        self._lifetime = lifetime
        self._enrolled = enrolled
        self._tokens = tokens
        self._profiles = profiles
        self._activations = activations
        self._turns, self._turn_s = threading.BoundedSemaphore(JUDGED_AT_ONCE), turn_s
        self._contraindications = Contraindications(store, attest)

    def enrol(self, message: bytes, presented: bytes | None, at: datetime) -> dict[str, object]:
        """Take an enrolment request as a device sends it, and answer it.

        Args:
            message: The enrolment request (CBOR).
            presented: DER of the TLS client certificate; None without one.
            at: Now.

        Raises:
            AttestationError: As :meth:`accept`.
            ServiceError: As :meth:`accept`.
        """
        enrolled = self.accept(decode_enrolment(message), presented=presented, at=at)
        chain = b"".join(
            one.public_bytes(serialization.Encoding.PEM)
            for one in (enrolled.certificate, *enrolled.chain)
        )
        end = enrolled.certificate.not_valid_after_utc
        token = self._tokens.issue(enrolled.stored, at)
        return {
            "device_id": enrolled.device,
            "device_uri": enrolled.stored.certificate.holder,
            **token.document(),
            "certificate_chain_pem": chain.decode(),
            "not_after": end.isoformat().replace("+00:00", "Z"),
            "result": enrolled.ear,
            "ima_next": enrolled.ima_next,
        }

    def accept(
        self, request: EnrolmentRequest, *, presented: bytes | None, at: datetime, label: str = ""
    ) -> Enrolled:
        """Judge a request, issue the certificate, record device and result.

        Args:
            request: What the device says of itself.
            presented: DER of the TLS client certificate, verified by TLS; None without one.
            at: Now (aware).
            label: The EST label that it came by; empty without one.

        Raises:
            VerificationError: With the code of the first proof that does not hold.
            InputError: If something in the request is malformed.
            Conflict: If the device's row changed meanwhile, or another device is this one already.
            NotAuthorised: If the client certificate is one of ours and was revoked, or
                ``device-decommissioned``.
            Unavailable: ``overloaded`` if its turn does not come.
        """
        try:
            with self._writer.coming(), self._turn():
                underway = self._submit(request, presented, at, label)
        except Contraindicated as error:
            self._contraindications.record(error.against, request.evidence, at)
            raise
        with self._telling_of_impostors(underway.device, at):
            enrolled = underway.arrived()
        self._enrolled()
        return enrolled

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=self._turn_s):
            raise Unavailable(
                RefusalCode.OVERLOADED,
                "too many enrolments are being judged, or what judges them does not answer; try "
                "again shortly",
            )
        try:
            yield
        finally:
            self._turns.release()

    def _submit(
        self, request: EnrolmentRequest, presented: bytes | None, at: datetime, label: str
    ) -> Underway:
        """Do everything but wait for the disk."""
        # Whatever the request says that it is: one root may be the maker's and ours.
        known = self.known(presented, at) if _OURS in (presented or b"") else None
        accepted = judge_enrolment(
            request,
            presented=presented,
            challenge=self._nonces.current(),
            terms=replace(self._terms(at), label=label),
            at=at,
            replays=self._replays,
            known=known,
            activations=self._activations,
        )
        existing = self._store.device(accepted.device)
        if known is not None:
            self.known(presented, at)  # again: what is revoked from here on moves the row on
        with self._telling_of_impostors(accepted.device, at):
            require_id_free(accepted, existing.enrolment if existing else None)
            require_newer(accepted, existing)
            self._hold_shown(accepted, existing)
            if accepted.result is None:
                spend_challenge(self._store, accepted.nonce, self._nonces.current().ttl, at)
            return self._issue(accepted, existing, request, at)

    def known(self, presented: bytes | None, at: datetime) -> KnownDevice | None:
        """Return the device that was given this certificate by us; None if it is not ours.

        Raises:
            NotAuthorised: ``client-certificate-wrong`` if it is an AI agent's,
                ``certificate-revoked``, ``device-revoked``.
        """
        stored = self._store.certificate(hashlib.sha256(presented or b"").digest())
        if stored is None:
            return None
        if stored.certificate.kind is not CredentialKind.DEVICE:
            raise NotAuthorised(
                RefusalCode.CLIENT_CERTIFICATE_WRONG,
                "the client certificate is an AI agent's; a device enrols with its own",
            )
        record = self._store.device(stored.certificate.device)
        if record is None:
            return None
        if record.enrolment.revoked:
            raise NotAuthorised(
                RefusalCode.DEVICE_REVOKED,
                f"device {record.device} is revoked: {record.revoked_reason}",
            )
        if stored.revoked_at is not None:
            raise NotAuthorised(
                RefusalCode.CERTIFICATE_REVOKED,
                f"the client certificate was revoked ({stored.revoked_reason}); enrol with the "
                "manufacturer's identity",
            )
        if at >= stored.certificate.not_after:
            raise NotAuthorised(
                RefusalCode.CERTIFICATE_EXPIRED,
                "the client certificate has ended; enrol with the manufacturer's identity",
            )
        return KnownDevice(
            enrolment=record.enrolment,
            hardware_serial=record.hardware_serial,
            idevid_sha256=record.idevid_sha256,
        )

    def _hold_shown(self, accepted: AcceptedEnrolment, existing: DeviceRecord | None) -> None:
        """Hold a result that was shown against what is known of the device now."""
        if accepted.shown_result is None:
            return
        newest = self._store.newest_result(accepted.device)
        require_standing(
            accepted.shown_result,
            accepted.enrolment.ak_name,
            existing.enrolment if existing else None,
            (TrustTier(newest.status), newest.at) if newest else None,
        )

    @contextmanager
    def _telling_of_impostors(self, device: DeviceId, at: datetime) -> Iterator[None]:
        """Tell the operator of a device that claims to be another."""
        try:
            yield
        except (AttestationError, ServiceError) as error:
            if error.code in SOMEBODY_ELSES:
                with self._store.work() as work:
                    work.raise_alarm(error.code.value, device, error.reason, at)
            raise

    def _issue(
        self,
        accepted: AcceptedEnrolment,
        existing: DeviceRecord | None,
        request: EnrolmentRequest,
        at: datetime,
    ) -> Underway:
        issuer, chosen = self._issuer(), accepted.device_class
        profile, ends = (
            self._profiles[chosen.profile],
            planned_end(existing, chosen.decommission, at),
        )
        certificate = issue_ldevid(
            accepted,
            issuer,
            trust_domain=self._trust_domain,
            serial=certificate_serial(self._entropy.take(SERIAL_ENTROPY_BYTES)),
            at=at,
            lifetime=lifetime_until(
                chosen.lifetime or self._lifetime,
                ends,
                at,
                shortest=profile.shortest,
                device=accepted.device,
            ),
            profile=profile,
        )
        issued = record_of(
            certificate,
            device=accepted.device,
            holder=spiffe_id(self._trust_domain, accepted.device),
            profile=chosen.profile,
            issuer=issuer.certificate,
        )
        record = enrolled_record(accepted, existing, issued, ends, at)
        judgement = self._judgement(accepted, record, request.evidence, at)
        return Underway(
            device=accepted.device,
            certificate=certificate,
            chain=(issuer.certificate, *issuer.chain),
            issued=issued,
            ear=judgement.result.ear if judgement else request.result,
            number=self._write(accepted, record, issued, judgement, request, at),
            ima_next=next_entry(accepted.result, record.enrolment.progress)
            if accepted.result
            else 0,
        )

    def _judgement(
        self, accepted: AcceptedEnrolment, record: DeviceRecord, evidence: bytes, at: datetime
    ) -> Judgement | None:
        """Return what is to be recorded of the evidence; None if there was none."""
        if accepted.result is None or accepted.evidence is None:
            return None
        written = replace(record, version=record.version + 1)
        draft = self._attest.sign(written, accepted.result, accepted.evidence, evidence, at)
        return self._attest.finish(draft)

    def _write(
        self,
        accepted: AcceptedEnrolment,
        record: DeviceRecord,
        issued: IssuedCertificate,
        judgement: Judgement | None,
        request: EnrolmentRequest,
        at: datetime,
    ) -> Future[int | Conflict]:
        """Have device, certificate and first result written together."""
        ear = judgement.result.ear if judgement else request.result
        entry = issued_entry(
            issued, ear=ear.encode(), evidence=request.evidence, proofs=accepted.proofs
        )
        issuance = DeviceIssuance(
            record=record,
            claims=tuple(
                IdentityClaim(kind=one.kind, value=one.value) for one in accepted.identities
            ),
            certificate=issued,
            entry=entry,
            older_end=at + accepted.device_class.overlap,
            judgement=judgement,
            at=at,
        )
        return self._writer.submit(issuance)
