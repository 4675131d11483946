"""EST (RFC 7030): what its door asks for, as calls of the use cases that every door has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography import x509

from attestation.certificates import parse_certificate
from attestation.refusals import RefusalCode
from attestation.wire.attested_csr import read_attested_csr
from attestation.wire.est import (
    NonceRequest,
    NonceResponse,
    certs_only,
    encode_nonce_response,
)
from verifier.appraisal.freshness import NONCE_BYTES
from verifier.errors import RequestRefused
from verifier.issuance.enrolment_policy import EnrolmentPolicy
from verifier.issuance.est import (
    classes_of,
    csr_attributes,
    require_bound,
    require_same_names,
    require_whole,
)
from verifier.services.challenge import Challenges
from verifier.services.enrol import Enrol
from verifier.services.enrolled import Enrolled


class Est:
    """The use cases.

    Args:
        enrol: Judges and issues.
        challenges: Makes nonces.
        policy: Returns the enrolment policy.
        authorities: Returns our CAs' certificates, those that issue and those above them.
    """

    def __init__(
        self,
        *,
        enrol: Enrol,
        challenges: Challenges,
        policy: Callable[[], EnrolmentPolicy],
        authorities: Callable[[], Sequence[x509.Certificate]],
    ) -> None:
        self._enrol = enrol
        self._challenges = challenges
        self._policy = policy
        self._authorities = authorities

    def authorities(self, label: str) -> bytes:
        """Return our CAs' certificates, each once, as certs-only PKCS#7 (RFC 7030, 4.1.3).

        Args:
            label: From the path; empty without one.

        Raises:
            MalformedInput: ``est-label-unknown``.
            Unavailable: If the CA cannot be asked.
        """
        classes_of(self._policy(), label)
        return certs_only(tuple(dict.fromkeys(self._authorities())))

    def attributes(self, label: str) -> bytes:
        """Return what a request by this label should hold, CsrAttrs (RFC 7030, 4.5.2).

        Raises:
            MalformedInput: ``est-label-unknown``.
        """
        return csr_attributes(classes_of(self._policy(), label))

    def nonce(self, label: str, presented: bytes, asked: NonceRequest, at: datetime) -> bytes:
        """Return a nonce for whoever holds the key of this certificate, as JSON.

        Args:
            label: From the path; empty without one.
            presented: DER of the TLS client certificate.
            asked: What was asked.
            at: Now (aware).

        Raises:
            MalformedInput: ``est-label-unknown``.
            RequestRefused: ``nonce-length-unsupported``: ours have one length.
        """
        classes_of(self._policy(), label)
        if asked.length not in (0, NONCE_BYTES):
            raise RequestRefused(
                RefusalCode.NONCE_LENGTH_UNSUPPORTED,
                f"a nonce of {asked.length} bytes was asked for, ours have {NONCE_BYTES}; leave "
                "'len' out",
            )
        challenge = self._challenges.enrolment_nonce(presented, at)
        return encode_nonce_response(
            NonceResponse(
                nonce=challenge.nonce,
                expires_in_s=int(challenge.expires_in_s),
                pcr_selection=challenge.pcr_selection,
            )
        )

    def enrol(
        self,
        label: str,
        csr: bytes,
        presented: bytes | None,
        at: datetime,
        *,
        tls_unique: bytes | None = None,
    ) -> Enrolled:
        """Take a PKCS#10 request (RFC 7030, 4.2.1).

        Args:
            label: From the path; empty without one.
            csr: The request, DER.
            presented: DER of the TLS client certificate; None without one.
            at: Now (aware).
            tls_unique: Of the connection (RFC 5929, 3); None where it has none.

        Raises:
            AttestationError: As :meth:`verifier.services.enrol.Enrol.accept`; ``proofs-missing``,
                ``est-label-unknown``, ``csr-channel-binding-wrong``.
            ServiceError: As that.
        """
        policy = self._policy()
        classes = classes_of(policy, label)
        known = self._enrol.known(presented, at) if presented is not None else None
        stranger = presented if known is None and presented is not None else b""
        request = read_attested_csr(csr, stranger)
        require_bound(csr, tls_unique)
        if known is not None:
            classes = (policy.device_class_named(known.enrolment.device_class, label),)
        require_whole(request, classes, is_known=known is not None)
        return self._enrol.accept(request, presented=presented, at=at, label=label)

    def renew(
        self,
        label: str,
        csr: bytes,
        presented: bytes,
        at: datetime,
        *,
        tls_unique: bytes | None = None,
    ) -> Enrolled:
        """Take a PKCS#10 request to renew the certificate of the connection (RFC 7030, 4.2.2).

        Args:
            label: From the path; empty without one.
            csr: The request, DER.
            presented: DER of the TLS client certificate: a device's LDevID.
            at: Now (aware).
            tls_unique: As :meth:`enrol`.

        Raises:
            AttestationError: ``csr-subject-changed``, or as :meth:`enrol`.
            ServiceError: As :meth:`enrol`.
        """
        classes_of(self._policy(), label)
        require_same_names(csr, parse_certificate(presented))
        return self.enrol(label, csr, presented, at, tls_unique=tls_unique)
