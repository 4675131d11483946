"""An enrolment inside a PKCS#10 request: what EST carries (RFC 7030, 4.2).

What draft-ietf-lamps-csr-attestation-28 has a place for stands there, the rest in a map of ours:

===================================================  =============================================
in the request                                       is
===================================================  =============================================
statement ``tcg-attest-tpm-certify``                 TPM2_Certify of the requested key
the same, of the IDevID certificate's key            TPM2_Certify of the IDevID key
statement CMW, a collection                          the evidence message
statement CMW, a record of ``application/eat+jwt``   an attestation result (passport)
statement CMW, a record of ``…csr-proofs.v1+cbor``   ``iak-public``, ``nonce``, ``ek``, ``cloud``,
                                                     ``proofs``
``certs``                                            chains of IAK and IDevID, in any order
===================================================  =============================================

``signature`` is a TPMT_SIGNATURE and ``tpmTPublic`` is there: the key's Name is made of it.
Whatever is of another type is passed over, and proves nothing. Only form is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der
from attestation.certificates import (
    ATTESTATION_KEY_USAGE,
    ENDORSEMENT_KEY_USAGE,
    UNREADABLE,
    parse_certificate,
    spki_der,
)
from attestation.errors import MalformedInput
from attestation.evidence import Quote
from attestation.limits import (
    MAX_ATTESTED_CSR_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_PROOF_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from attestation.wire.cmw import CmwForm, CmwRecord, decode_record, encode_record, form_of
from attestation.wire.csr_attestation import (
    CMW,
    TPM_CERTIFY,
    Bundle,
    Statement,
    TpmCertify,
    build_request,
    cmw,
    read_bundle,
    read_cmw,
    read_tpm_certify,
    tpm_certify,
)
from attestation.wire.enrolment_codec import (
    EnrolmentRequest,
    decode_csr_proofs,
    encode_csr_proofs,
)
from attestation.wire.media_types import CSR_PROOFS, EAR_JWT

ECDSA_SHA256: Final = der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.2"))
"""AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758, 3.2)."""

ECDSA_SHA384: Final = der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.3"))
"""AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758, 3.2)."""

EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"
_SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
_STRUCTURE: Final = "CertificationRequest"
_BUNDLE: Final = "AttestationBundle"
_NOTHING: Final = EnrolmentRequest(
    idevid_chain=(),
    iak_chain=(),
    idevid_public=b"",
    iak_public=b"",
    ldevid_public=b"",
    idevid_certify=None,
    ldevid_certify=None,
    csr=b"",
    evidence=b"",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who a request asks to be; of a first enrolment the issuer decides.

    Attributes:
        subject: The subject.
        alternative: DER of the subjectAltName extension's value; empty for none.
    """

    subject: x509.Name
    alternative: bytes = b""


def names_of(certificate: x509.Certificate) -> Names:
    """Return what a request to renew a certificate must ask for (RFC 7030, 4.2.2)."""
    return Names(subject=certificate.subject, alternative=_alternative(certificate.extensions))


def names_asked(csr: bytes) -> Names:
    """Return who a request asks to be.

    Raises:
        MalformedInput: ``csr-malformed``.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        return Names(subject=request.subject, alternative=_alternative(request.extensions))
    except UNREADABLE as error:
        raise _malformed(f"names or extensions cannot be read: {str(error)[:120]}") from error


def requested_key(csr: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a request.

    Raises:
        MalformedInput: ``csr-malformed``.
    """
    try:
        key = x509.load_der_x509_csr(csr).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE as error:
        raise _malformed(f"not one PKCS#10 request: {str(error)[:120]}") from error


def read_attested_csr(csr: bytes, presented_idevid: bytes = b"") -> EnrolmentRequest:
    """Return the enrolment that a PKCS#10 request holds; what it does not hold is empty.

    Args:
        csr: The request, DER.
        presented_idevid: The TLS client certificate, DER, if it is a manufacturer's: it stands in
            for an IDevID certificate that is left out of ``certs``.

    Raises:
        InputError: ``csr-malformed`` if something is there twice or cannot be told apart, or what
            its parts raise (``certificate-malformed``, ``cbor-malformed``, …).
    """
    requested_key(csr)
    bundle = read_bundle(csr)
    certificates = bundle.certificates if bundle is not None else ()
    idevid_chain, iak_chain = _chains(certificates, presented_idevid)
    request = _with_messages(bundle) if bundle is not None else _NOTHING
    request = replace(request, csr=csr, idevid_chain=idevid_chain, iak_chain=iak_chain)
    return _with_certifications(request, bundle) if bundle is not None else request


def build_attested_csr(
    request: EnrolmentRequest,
    names: Names,
    *,
    spki: bytes,
    sign: Callable[[bytes], bytes],
    algorithm: bytes = ECDSA_SHA256,
) -> bytes:
    """Build the PKCS#10 request that holds an enrolment; the opposite of reading it.

    Args:
        request: What it shall hold; its ``csr`` is not looked at.
        names: Who it asks to be.
        spki: DER SubjectPublicKeyInfo of the key to certify.
        sign: Returns that key's signature over the given bytes.
        algorithm: DER AlgorithmIdentifier of the signature.
    """
    statements: list[Statement] = []
    for certify, public in (
        (request.ldevid_certify, request.ldevid_public),
        (request.idevid_certify, request.idevid_public),
    ):
        if certify is not None:
            value = TpmCertify(attest=certify.attest, signature=certify.signature, public=public)
            statements.append(tpm_certify(value))
    if request.evidence:
        statements.append(cmw(request.evidence))
    if request.result:
        statements.append(cmw(encode_record(CmwRecord(EAR_JWT, request.result.encode()))))
    proofs = encode_csr_proofs(request)
    if proofs:
        statements.append(cmw(encode_record(CmwRecord(CSR_PROOFS, proofs))))
    certificates = tuple(dict.fromkeys((*request.iak_chain, *request.idevid_chain)))
    return build_request(
        names.subject.public_bytes(),
        spki,
        Bundle(statements=tuple(statements), certificates=certificates) if statements else None,
        algorithm=algorithm,
        sign=sign,
        attributes=(_extension_request(names.alternative),) if names.alternative else (),
    )


def _with_messages(bundle: Bundle) -> EnrolmentRequest:
    """Return what the CMW statements say."""
    evidence, result, proofs = b"", b"", b""
    for statement in bundle.of_type(CMW):
        content = read_cmw(statement)
        if form_of(content) is CmwForm.CBOR_COLLECTION:
            evidence = _once("evidence", evidence, content)
            continue
        record = decode_record(content, limit_bytes=MAX_ATTESTED_CSR_BYTES)
        if record.media_type == EAR_JWT:
            result = _once("an attestation result", result, record.value)
        elif record.media_type == CSR_PROOFS:
            proofs = _once("proofs", proofs, record.value)
    request = decode_csr_proofs(proofs) if proofs else _NOTHING
    return replace(request, evidence=evidence, result=_token(result))


def _with_certifications(request: EnrolmentRequest, bundle: Bundle) -> EnrolmentRequest:
    """Add the certifications: of the requested key, and of the IDevID certificate's.

    One of another key stands for the requested key's if there is no other: that it is of another
    key is then found where it is judged.
    """
    wanted = requested_key(request.csr)
    idevid = spki_der(parse_certificate(request.idevid_chain[0])) if request.idevid_chain else b""
    of_key: dict[bytes, TpmCertify] = {}
    for statement in bundle.of_type(TPM_CERTIFY):
        value = read_tpm_certify(statement)
        if not value.public:
            raise _malformed("tpmTPublic is left out of a certification; the key's Name needs it")
        key = parse_public(value.public).spki_der
        if key in of_key:
            raise _malformed("the attestation bundle holds a key's certification twice")
        of_key[key] = value
    own, makers = of_key.pop(wanted, None), of_key.pop(idevid, None)
    if own is None and len(of_key) == 1:
        own = of_key.popitem()[1]
    if makers is not None:
        certify = Quote(attest=makers.attest, signature=makers.signature)
        request = replace(request, idevid_certify=certify, idevid_public=makers.public)
    if own is not None:
        certify = Quote(attest=own.attest, signature=own.signature)
        request = replace(request, ldevid_certify=certify, ldevid_public=own.public)
    return request


def _once(what: str, before: bytes, found: bytes) -> bytes:
    if before:
        raise _malformed(f"the attestation bundle holds {what} twice")
    return found


def _token(raw: bytes) -> str:
    if len(raw) > MAX_PROOF_BYTES or not raw.isascii():
        raise _malformed(
            f"the attestation result is no JWT of at most {MAX_PROOF_BYTES} characters"
        )
    return raw.decode("ascii")


def _chains(
    certificates: Sequence[bytes], presented: bytes
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the chains of IDevID and IAK, each leaf first; empty where there is no leaf."""
    authorities: list[x509.Certificate] = []
    idevid = iak = None
    for certificate in map(parse_certificate, certificates):
        if _is_authority(certificate):
            authorities.append(certificate)
            continue
        usages = _usages(certificate)
        if ENDORSEMENT_KEY_USAGE in usages:
            continue  # of an endorsement key: that has a place of its own
        if ATTESTATION_KEY_USAGE in usages:
            iak = _one_leaf("IAK", iak, certificate)
        else:
            idevid = _one_leaf("IDevID", idevid, certificate)
    if idevid is None and presented:
        idevid = parse_certificate(presented)
    return _path(idevid, authorities), _path(iak, authorities)


def _one_leaf(
    what: str, before: x509.Certificate | None, found: x509.Certificate
) -> x509.Certificate:
    if before is not None:
        raise MalformedInput(
            RefusalCode.CSR_MALFORMED, f"two {what} certificates", structure=_BUNDLE
        )
    return found


def _path(
    leaf: x509.Certificate | None, authorities: Sequence[x509.Certificate]
) -> tuple[bytes, ...]:
    """Return a leaf and the authorities above it by name; nothing is verified."""
    found: list[bytes] = []
    left = list(authorities)
    while leaf is not None and len(found) < MAX_CHAIN_LENGTH:
        found.append(leaf.public_bytes(Encoding.DER))
        above = leaf.issuer
        leaf = next((one for one in left if one.subject == above), None)
        if leaf is not None:
            left.remove(leaf)
    return tuple(found)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(found.value)


def _alternative(extensions: x509.Extensions) -> bytes:
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return b""
    return found.value.public_bytes()


def _extension_request(alternative: bytes) -> bytes:
    """Return the attribute that asks for a subjectAltName (RFC 2985, 5.4.2)."""
    extension = der.write(
        der.SEQUENCE,
        der.write_oid(_SUBJECT_ALTERNATIVE_NAME),
        der.write(der.OCTET_STRING, alternative),
    )
    value = der.write(der.SET, der.write(der.SEQUENCE, extension))
    return der.write(der.SEQUENCE, der.write_oid(EXTENSION_REQUEST), value)


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CSR_MALFORMED, reason, structure=_STRUCTURE)
