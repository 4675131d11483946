"""Root and issuing CA: what stands in their certificates, and which are taken.

The root (P-384, pathLenConstraint 1) signs only CA certificates and revocation lists; an issuing CA
(P-256 or P-384, pathLenConstraint 0) signs end entities (RFC 5280, 4.2.1.9). There are no name
constraints: the trust domain is a setting that may change, and clients disagree about those on
URIs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused
from verifier.issuance.profiles import BACKDATE, Issuer, PrivateKey, PublicKey, signing_digest

ROOT_LIFETIME: Final = timedelta(days=7305)
ISSUING_LIFETIME: Final = timedelta(days=1826)
ISSUING_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
MAX_NAME_CHARS: Final = 40
"""With role and key id behind it, a common name stays within 64 (RFC 5280, A.1)."""

_ID_CHARS: Final = 16


def key_id(key: PublicKey) -> str:
    """Return the id of a CA: the first 16 hexadecimal digits of SHA-256 over its key (SPKI)."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()[:_ID_CHARS]


def ca_name(name: str, role: str, key: PublicKey) -> x509.Name:
    """Return a subject that no other CA has: name, role and the key's id.

    Raises:
        RequestRefused: ``profile-invalid`` if the name is empty, too long or not printable.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise RequestRefused(
            RefusalCode.PROFILE_INVALID,
            f"the authority's name {name[:MAX_NAME_CHARS]!r} must be 1 to {MAX_NAME_CHARS} "
            "printable characters",
        )
    text = f"{name} {role} {key_id(key)[:8]}"
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def root_certificate(name: str, key: PrivateKey, *, serial: int, at: datetime) -> x509.Certificate:
    """Sign a root's own certificate, of twenty years."""
    public = key.public_key()
    subject = ca_name(name, "root CA", public)
    builder = _ca(subject, subject, public, 1, serial, at, at + ROOT_LIFETIME)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    builder = builder.add_extension(authority, critical=False)
    return builder.sign(key, signing_digest(key))


def issuing_request(name: str, key: PrivateKey) -> x509.CertificateSigningRequest:
    """Sign the PKCS#10 request of a new issuing CA (RFC 2986)."""
    subject = ca_name(name, "issuing CA", key.public_key())
    return (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, signing_digest(key))
    )


def issuing_certificate(
    request: x509.CertificateSigningRequest,
    root: Issuer,
    *,
    serial: int,
    at: datetime,
    lifetime: timedelta = ISSUING_LIFETIME,
) -> x509.Certificate:
    """Sign the certificate of an issuing CA. Of the request only subject and key are taken.

    Raises:
        RequestRefused: If the request does not hold, its key is none for a CA of ours, or the
            root's certificate is not valid at this moment.
    """
    key = request.public_key()
    if not request.is_signature_valid:
        raise _refused("the request is not signed by its own key; make it by: verifier ca request")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ISSUING_CURVES):
        raise _refused("an issuing CA has a key on P-256 or P-384")
    if not request.subject.rdns or request.subject == root.certificate.subject:
        raise _refused("the request's subject is empty, or the root's own")
    if not root.certificate.not_valid_before_utc <= at < root.certificate.not_valid_after_utc:
        raise RequestRefused(
            RefusalCode.CA_EXPIRED,
            f"the root is valid from {root.certificate.not_valid_before_utc} to "
            f"{root.certificate.not_valid_after_utc}, not now ({at})",
        )
    end = min(at + lifetime, root.certificate.not_valid_after_utc)
    builder = _ca(request.subject, root.certificate.subject, key, 0, serial, at, end)
    own = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    builder = builder.add_extension(authority, critical=False)
    return builder.sign(root.key, root.digest)


def root_list(
    root: Issuer,
    revoked: Sequence[tuple[int, datetime]],
    *,
    number: int,
    at: datetime,
    next_update: datetime,
) -> x509.CertificateRevocationList:
    """Sign the root's revocation list: the issuing CAs that are not to be believed (RFC 5280, 5).

    Args:
        root: The root.
        revoked: Serial number and moment of each; the reason is cACompromise.
        number: cRLNumber, above that of every list before.
        at: Now.
        next_update: Until when it may be relied on.
    """
    own = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(at)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
        )
    )
    reason = x509.CRLReason(x509.ReasonFlags.ca_compromise)
    for serial, moment in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment)
        builder = builder.add_revoked_certificate(
            entry.add_extension(reason, critical=False).build()
        )
    return builder.sign(root.key, root.digest)


def judge_root_list(
    found: x509.CertificateRevocationList, roots: Sequence[x509.Certificate], at: datetime
) -> tuple[x509.Certificate, int]:
    """Return the root that signed a list, and the list's number.

    Raises:
        RequestRefused: ``ca-certificate-wrong`` if none of the roots did, or it has no number or
            end; ``ca-expired`` if it is not to be relied on now.
    """
    root = next((one for one in roots if _lists(one, found)), None)
    if root is None:
        raise _refused("the revocation list is not signed by a root of ours")
    try:
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError) as error:
        raise _refused("the revocation list has no number") from error
    if found.next_update_utc is None or not found.last_update_utc <= at < found.next_update_utc:
        raise RequestRefused(
            RefusalCode.CA_EXPIRED,
            f"the revocation list holds from {found.last_update_utc} to {found.next_update_utc}",
        )
    return root, number


def judge_root(certificate: x509.Certificate, at: datetime) -> None:
    """Refuse what is no root: not a CA's, not signed by itself, or not valid now.

    Raises:
        RequestRefused: ``ca-certificate-wrong`` or ``ca-expired``.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _refused("a root of ours has a key on an elliptic curve")
    require_ca(certificate, key)
    _require_valid(certificate, at)
    if not _signed_by(certificate, certificate):
        raise _refused(f"{_called(certificate)} is not signed by its own key: it is no root")


def judge_issuing(
    certificate: x509.Certificate,
    key: PublicKey,
    roots: Sequence[x509.Certificate],
    at: datetime,
) -> x509.Certificate:
    """Return the root that signed an issuing CA's certificate.

    Args:
        certificate: What came back from the root.
        key: The public key that the request was made for.
        roots: The roots of ours.
        at: Now.

    Raises:
        RequestRefused: ``ca-certificate-wrong`` if it is no CA's, of another key, or signed by
            none of the roots; ``ca-expired`` if it, or its root, is not valid now.
    """
    require_ca(certificate, key)
    root = next((one for one in roots if _signed_by(certificate, one)), None)
    if root is None:
        raise _refused(
            f"{_called(certificate)} is not signed by a root of ours; a new root is taken by: "
            "verifier ca trust ROOT"
        )
    _require_valid(certificate, at)
    _require_valid(root, at)
    return root


def judge_signed(certificate: x509.Certificate, root: x509.Certificate) -> None:
    """Refuse a certificate that a root did not sign.

    Raises:
        RequestRefused: ``ca-certificate-wrong``.
    """
    if not _signed_by(certificate, root):
        raise _refused(f"{_called(certificate)} is not signed by {_called(root)}")


def require_ca(certificate: x509.Certificate, key: PublicKey) -> None:
    """Refuse a certificate that is not a CA's, or is one of another key than ``key``.

    Raises:
        RequestRefused: ``ca-certificate-wrong``.
    """
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise _refused(f"{_called(certificate)} is no CA certificate: {error}") from error
    except ValueError as error:
        raise _refused("the certificate's extensions are malformed") from error
    if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
        raise _refused(
            f"{_called(certificate)} is not a CA that signs certificates and revocation lists"
        )
    if certificate.public_key() != key:
        raise _refused(f"{_called(certificate)} is a certificate of another key than this one")


def _require_valid(certificate: x509.Certificate, at: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at < end:
        raise RequestRefused(
            RefusalCode.CA_EXPIRED,
            f"{_called(certificate)} is valid from {start} to {end}, not now",
        )


def _signed_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _lists(root: x509.Certificate, found: x509.CertificateRevocationList) -> bool:
    key = root.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or found.issuer != root.subject:
        return False
    return found.is_signature_valid(key)


def _called(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80] or "a certificate without subject"


def _ca(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    path_length: int,
    serial: int,
    at: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before((at - BACKDATE).replace(microsecond=0))
        .not_valid_after(end.replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


_CA_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _refused(reason: str) -> RequestRefused:
    return RequestRefused(RefusalCode.CA_CERTIFICATE_WRONG, reason)
