"""Enrolment by EST (RFC 7030) over the verifier's connections: same proofs, inside the CSR.

The request that the device builds for our own door is put into a PKCS#10 request
(:mod:`attestation.wire.attested_csr`) that the new key signs in the TPM. What comes back is the
certificate alone; its issuers are fetched from ``cacerts``.

A device that holds a certificate renews it over that (``simplereenroll``, RFC 7030, 4.2.2); one
that does not, or whose certificate is no longer believed, enrols as its manufacturer knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.certificates import spki_der
from attestation.errors import AttestationError
from attestation.identity import device_id
from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from attestation.wire.attested_csr import (
    ECDSA_SHA256,
    ECDSA_SHA384,
    Names,
    build_attested_csr,
    names_of,
)
from attestation.wire.enrolment_codec import EnrolmentRequest, decode_enrolment
from attestation.wire.est import (
    LABEL,
    PATH,
    decode_body,
    decode_nonce_response,
    encode_body,
    read_certs_only,
)
from attestation.wire.media_types import EST_NONCE, PKCS7, PKCS10, PROBLEM
from device_agent.errors import CertificateUnusable, SettingsInvalid, TpmRefused
from device_agent.lifecycle import Credential
from device_agent.ports import (
    LDEVID_SLOTS,
    ActivationReply,
    ChallengeReply,
    EnrolmentReply,
    KeyRole,
    Tpm,
)
from device_agent.settings import EnrolmentSettings
from device_agent.transport.answers import read_document, strange
from device_agent.transport.connection import Answer

_OK: Final = 200
_NAMES: Final = Names(subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")]))
"""The verifier names the device; what a first request says is not believed."""


class Asks(Protocol):
    """Whatever sends requests as one of the device's identities."""

    def ask(
        self,
        role: KeyRole,
        method: str,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        again: bool,
    ) -> Answer:
        """Send one request; raises DeviceAgentError."""
        ...


class EstEnroller:
    """Implements :class:`device_agent.ports.Enroller` by EST, as the IDevID or the LDevID.

    Args:
        https: The verifier's connections.
        tpm: Holds the keys.
        label: The EST label; empty for none.
        current: Returns the certificate that the device speaks with as the LDevID, which is then
            renewed; None to enrol as the IDevID.

    Raises:
        SettingsInvalid: If the label is no path segment of unreserved characters.
    """

    def __init__(
        self,
        https: Asks,
        tpm: Tpm,
        label: str = "",
        current: Callable[[], Credential | None] = lambda: None,
    ) -> None:
        if label and not LABEL.fullmatch(label):
            raise SettingsInvalid(f"{label[:64]!r} is no EST label: 1 to 64 of A-Z a-z 0-9 . _ ~ -")
        self._https = https
        self._tpm = tpm
        self._path = f"{PATH}/{label}" if label else PATH
        self._current = current

    def enrols_as(self) -> KeyRole:
        """Return LDEVID if there is a certificate to renew, else IDEVID."""
        return KeyRole.IDEVID if self._current() is None else KeyRole.LDEVID

    def begin_activation(self, message: bytes) -> ActivationReply:
        """Refuse: EST knows no challenge by endorsement key.

        Raises:
            SettingsInvalid: Always.
        """
        raise SettingsInvalid(
            f"EST has no challenge by endorsement key ({len(message)} bytes were to be sent); "
            'enrol without --est, or set enrolment.initial_trust = "idevid"'
        )

    def enrolment_challenge(self) -> ChallengeReply:
        """Ask for a nonce (draft-ietf-lamps-attestation-freshness, 5.1)."""
        answer = self._ask("GET", "nonce", EST_NONCE, again=True)
        try:
            return read_nonce(answer.body)
        except AttestationError as error:
            raise strange(f"is no nonce with the PCRs to quote ({error.reason})") from error

    def enrol(self, message: bytes) -> EnrolmentReply:
        """Send an enrolment request as a CSR (RFC 7030, 4.2.1 and 4.2.2)."""
        request = decode_enrolment(message)
        renewed = self._current()
        csr = attested_csr(
            self._tpm, request, None if renewed is None else renewed.certificate_chain_pem
        )
        operation = "simpleenroll" if renewed is None else "simplereenroll"
        answer = self._ask("POST", operation, PKCS7, encode_body(csr), again=False)
        issued = _certificates(answer)
        above = _certificates(self._ask("GET", "cacerts", PKCS7, again=True))
        if len(issued) != 1 or spki_der(issued[0]) != parse_public(request.ldevid_public).spki_der:
            raise strange("holds no certificate for the key that was asked for")
        return _reply(issued[0], _issuers(issued[0], above))

    def _ask(
        self, method: str, operation: str, accept: str, body: bytes = b"", *, again: bool
    ) -> Answer:
        answer = self._https.ask(
            self.enrols_as(),
            method,
            f"{self._path}/{operation}",
            body=body,
            headers={
                "Accept": f"{accept}, {PROBLEM}",
                **({"Content-Type": PKCS10} if body else {}),
            },
            again=again,
        )
        if answer.status == _OK:
            return answer
        read_document(answer)  # raises what the problem says
        raise strange(f"is HTTP {answer.status}, wanted {_OK}")


def est_door(
    given: EnrolmentSettings, https: Asks, tpm: Tpm, current: Callable[[], Credential | None]
) -> EstEnroller:
    """Return the door of a device whose settings say EST.

    Raises:
        SettingsInvalid: If what the device shows of itself cannot be shown there, or the label is
            none.
    """
    if given.initial_trust != "idevid":
        raise SettingsInvalid(
            f'enrolment.door = "est" with initial_trust = "{given.initial_trust}": EST has no '
            'challenge by endorsement key; set one of them to "cbor" or "idevid"'
        )
    return EstEnroller(https, tpm, given.est_label, current)


def read_nonce(content: bytes) -> ChallengeReply:
    """Return the challenge in an answer to ``nonce``.

    Raises:
        InputError: If it is no nonce, or does not name the PCRs to quote.
    """
    given = decode_nonce_response(content)
    return ChallengeReply(
        nonce=given.nonce,
        selections=parse_selection(given.pcr_selection),
        expires_in_s=float(given.expires_in_s),
    )


def attested_csr(tpm: Tpm, request: EnrolmentRequest, renewed: str | None) -> bytes:
    """Return the PKCS#10 request of an enrolment, signed by its LDevID key.

    Args:
        tpm: Holds the key.
        request: What the CSR shall hold.
        renewed: The certificate that it renews (PEM, leaf first), whose names it asks for; None for
            a first one.

    Raises:
        TpmRefused: If the key is in neither slot, or of another kind than P-256 and P-384.
        TpmError: If the TPM fails.
        CertificateUnusable: If the certificate to renew cannot be read.
    """
    public = parse_public(request.ldevid_public)
    algorithm, digest = _signs_with(public.key)
    slot = _slot_of(tpm, request.ldevid_public)
    return build_attested_csr(
        request,
        _names_for(renewed),
        spki=public.spki_der,
        sign=lambda signed: tpm.sign_digest(slot, digest(signed)),
        algorithm=algorithm,
    )


def _slot_of(tpm: Tpm, public: bytes) -> KeyRole:
    for slot in LDEVID_SLOTS:
        if tpm.has_key(slot) and tpm.public_area(slot) == public:
            return slot
    raise TpmRefused("the key that the request is for is in neither slot of the LDevID")


def _names_for(renewed: str | None) -> Names:
    """Return what a request must ask for: of a renewal the names that are there (4.2.2)."""
    if renewed is None:
        return _NAMES
    try:
        return names_of(x509.load_pem_x509_certificate(renewed.encode()))
    except ValueError as error:
        raise CertificateUnusable(
            RefusalCode.CERTIFICATE_MALFORMED,
            "the certificate to renew cannot be read; it is wanted as PEM",
        ) from error


def _signs_with(key: object) -> tuple[bytes, Callable[[bytes], bytes]]:
    """Return AlgorithmIdentifier and hash of a key's signatures (RFC 5758, 3.2)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return ECDSA_SHA256, lambda content: hashlib.sha256(content).digest()
        if isinstance(key.curve, ec.SECP384R1):
            return ECDSA_SHA384, lambda content: hashlib.sha384(content).digest()
    raise TpmRefused("enrolment by EST is for LDevID keys on P-256 and P-384")


def _certificates(answer: Answer) -> tuple[x509.Certificate, ...]:
    try:
        return read_certs_only(decode_body(answer.body))
    except AttestationError as error:
        raise strange(f"holds no certificates ({error.reason})") from error


def _issuers(
    leaf: x509.Certificate, above: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return the authorities between a certificate and its root, whose signatures hold."""
    found: list[x509.Certificate] = []
    last = leaf
    while len(found) < len(above):
        issuer = next((one for one in above if _is_issued_by(last, one)), None)
        if issuer is None and not found:
            raise strange("holds a certificate that none of its authorities has issued")
        if issuer is None or issuer.issuer == issuer.subject:
            break
        found.append(issuer)
        last = issuer
    return tuple(found)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _reply(leaf: x509.Certificate, issuers: Sequence[x509.Certificate]) -> EnrolmentReply:
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        (name,) = (device_id(str(one.value)) for one in names)
    except (ValueError, AttestationError) as error:
        raise strange("holds a certificate that names no device") from error
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, *issuers))
    return EnrolmentReply(
        device_id=name,
        certificate_chain_pem=chain.decode("ascii"),
        not_after=leaf.not_valid_after_utc,
        not_before=leaf.not_valid_before_utc,
    )
