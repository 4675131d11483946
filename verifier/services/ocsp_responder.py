"""OCSP: what the store says of a certificate at this moment, signed for the CA that issued it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import InputError
from verifier.errors import ServiceError
from verifier.issuance.ocsp import OcspRequest, parse_ocsp_request
from verifier.issuance.ocsp_answer import (
    RESPONDER_LIFETIME,
    Good,
    OcspFailure,
    Responder,
    Revoked,
    Status,
    names,
    ocsp_answer,
    ocsp_failure,
    responder_certificate,
)
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.ports import Entropy, Store
from verifier.ports.authority import CertificateAuthority
from verifier.ports.credentials import StoredCertificate
from verifier.services.revocation_lists import issuer_digest
from verifier.telemetry import logger

RESPONDER: Final = "responder"
"""The kind of a responder's entry in the issuance log."""


class OcspResponder:
    """The use case.

    Args:
        store: What was issued and revoked.
        authority: The CAs.
        entropy: For serial numbers.
        new_key: Makes a P-256 key.
    """

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        entropy: Entropy,
        new_key: Callable[[], ec.EllipticCurvePrivateKey],
    ) -> None:
        self._store = store
        self._authority = authority
        self._entropy = entropy
        self._new_key = new_key
        self._responders: dict[bytes, Responder] = {}
        self._delegating = threading.Lock()
        self._log = logger("ocsp")

    def answer(self, message: bytes, at: datetime) -> bytes:
        """Return the answer to a request, whatever it is: failures are answers too (RFC 6960, 2.3).

        Args:
            message: The request as received.
            at: Now.
        """
        try:
            request = parse_ocsp_request(message)
        except InputError:
            return ocsp_failure(OcspFailure.MALFORMED_REQUEST)
        try:
            issuer = self._issuer(request)
            if issuer is None:
                return ocsp_failure(self._silence(request))
            return self._signed(issuer, request, at)
        except ServiceError as error:
            self._log.warning("ocsp_unanswered", code=error.code.value, reason=error.reason)
            return ocsp_failure(OcspFailure.TRY_LATER)

    def _issuer(self, request: OcspRequest) -> Issuer | None:
        """Return the CA of the first certificate that is one of ours: it answers for all."""
        issuers = self._authority.issuers()
        for one in request.certificates:
            for issuer in issuers:
                if names(issuer.certificate, one):
                    return issuer
        return None

    def _silence(self, request: OcspRequest) -> OcspFailure:
        """Say why nobody answers: none of ours is asked about, or one whose key is out of reach."""
        mute = [one for one, _ in self._authority.keyless()]
        asked = any(names(one, cert_id) for one in mute for cert_id in request.certificates)
        return OcspFailure.TRY_LATER if asked else OcspFailure.UNAUTHORIZED

    def _signed(self, issuer: Issuer, request: OcspRequest, at: datetime) -> bytes:
        digest = issuer_digest(issuer.certificate)
        responder = self._responder(issuer, digest, at)
        ours = {
            number: one
            for number, one in enumerate(request.certificates)
            if names(issuer.certificate, one)
        }
        stored = self._store.certificates_by_serial({one.serial for one in ours.values()})
        statuses = {number: _status(stored.get(one.serial), digest) for number, one in ours.items()}
        return ocsp_answer(responder, request.certificates, statuses, nonce=request.nonce, at=at)

    def _responder(self, issuer: Issuer, digest: bytes, at: datetime) -> Responder:
        """Return who signs for a CA; a new one when half of the last one's time is over.

        Raises:
            Unavailable: If the CA's key cannot sign, or the store cannot record it.
        """
        with self._delegating:
            kept = self._responders.get(digest)
            if kept is None or at >= kept.certificate.not_valid_after_utc - RESPONDER_LIFETIME / 2:
                kept = self._delegate(issuer, at)
                self._responders[digest] = kept
            return kept

    def _delegate(self, issuer: Issuer, at: datetime) -> Responder:
        key = self._new_key()
        serial = certificate_serial(self._entropy.take(SERIAL_ENTROPY_BYTES))
        certificate = responder_certificate(issuer, key.public_key(), serial=serial, at=at)
        entry = {
            "certificate": issuer_digest(certificate).hex(),
            "serial": f"{serial:x}",
            "issuer": issuer_digest(issuer.certificate).hex(),
        }
        with self._store.work() as work:
            work.append_log(RESPONDER, entry, at)
        return Responder(certificate=certificate, key=key)


def _status(stored: StoredCertificate | None, issuer_sha256: bytes) -> Status:
    """Return a certificate's status; None for one that this CA did not issue."""
    if stored is None or stored.certificate.issuer_sha256 != issuer_sha256:
        return None
    if stored.revoked_at is None:
        return Good()
    return Revoked(stored.revoked_at, stored.revoked_code)
