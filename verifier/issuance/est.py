"""What EST adds to an enrolment (RFC 7030): labels, CSR attributes, names that may not change.

The proofs are those of every enrolment (:mod:`verifier.issuance.enrol`). Channel binding by a
``challengePassword`` with tls-unique (RFC 7030, 3.5) is checked where it is shown and asked of
nobody: TLS 1.3 has none, and what it would show is shown better. The key is in the device's TPM
(TPM2_Certify over our nonce), the nonce was issued to the client certificate of the connection, and
the CSR is signed by the key.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from typing import Final

from cryptography import x509

from attestation import der
from attestation.errors import IdentityMismatch, MalformedInput, VerificationError
from attestation.refusals import RefusalCode
from attestation.wire.attested_csr import names_asked, names_of
from attestation.wire.csr_attestation import (
    ATTESTATION_ATTRIBUTE,
    CMW,
    TPM_CERTIFY,
    attribute_types,
    challenge_passwords,
)
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.est import ENROLMENT_CLASSES, LABEL, OPERATIONS
from verifier.issuance.enrolment_policy import (
    DeviceClass,
    EnrolmentPolicy,
    ProofKind,
    ProofsMissing,
)
from verifier.issuance.initial_trust import TrustName

CHANGE_SUBJECT_NAME: Final = "1.3.6.1.5.5.7.7.36"
"""id-cmc-changeSubjectName (RFC 6402, 2.8)."""

_UTF8_STRING: Final = 0x0C
_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_CURVES: Final = ("1.2.840.10045.3.1.7", "1.3.132.0.34")
_ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"


def classes_of(policy: EnrolmentPolicy, label: str) -> tuple[DeviceClass, ...]:
    """Return the classes that a request by this label may be of; all of them may be without one.

    A label is known if a class names it. One that no class names is refused, though a class
    without labels would fit: who mistypes a label shall not land in another class.

    Args:
        policy: The enrolment policy.
        label: From the path; empty without one.

    Raises:
        MalformedInput: ``est-label-unknown``.
    """
    named = frozenset[str]().union(*(one.match.labels for one in policy.devices))
    if label and (not LABEL.fullmatch(label) or label in OPERATIONS or label not in named):
        raise MalformedInput(
            RefusalCode.EST_LABEL_UNKNOWN,
            f"no class of devices in the enrolment policy has the EST label {label[:64]!r}; leave "
            "it out, or name it in the class's match",
            structure="path",
        )
    fitting = (one for one in policy.devices if not one.match.labels or label in one.match.labels)
    return tuple(fitting)


def csr_attributes(classes: Sequence[DeviceClass]) -> bytes:
    """Return what a request should hold: DER of CsrAttrs (RFC 7030, 4.5.2; RFC 9908).

    The key, its signature, the attestation attribute with the types of its statements, and what
    each class wants, as an attribute of ours::

        EnrolmentClass ::= SEQUENCE {
          name UTF8String, initialTrust UTF8String, proofs SEQUENCE OF UTF8String }
    """
    wanted = frozenset[ProofKind]().union(*(one.proofs for one in classes))
    statements = [CMW] if wanted - {ProofKind.POP, ProofKind.RESIDENCY} else []
    if ProofKind.RESIDENCY in wanted:
        statements.insert(0, TPM_CERTIFY)
    plain = (_ECDSA_SHA256, ATTESTATION_ATTRIBUTE, *statements)
    return der.write(
        der.SEQUENCE,
        _attribute(_EC_PUBLIC_KEY, *(der.write_oid(one) for one in _CURVES)),
        *(der.write_oid(one) for one in plain),
        _attribute(ENROLMENT_CLASSES, *map(_class, classes)),
    )


def require_whole(
    request: EnrolmentRequest, classes: Sequence[DeviceClass], *, is_known: bool
) -> None:
    """Check that a request says enough of its device for its class to be known.

    A plain CSR does not. Then all is told that the first class that it may be of wants.

    Args:
        request: What the CSR holds.
        classes: From :func:`classes_of`; of a known device its own.
        is_known: Whether it came over a certificate of ours.

    Raises:
        ProofsMissing: ``proofs-missing``.
        VerificationError: ``enrolment-denied``, ``enrolment-class-unknown``.
    """
    if request.iak_public and request.ldevid_public:
        return
    if not classes:
        raise VerificationError(
            RefusalCode.ENROLMENT_CLASS_UNKNOWN,
            "every class of devices in the enrolment policy asks for a label",
            structure="enrolment policy",
        )
    trust = {TrustName.IDEVID} if request.idevid_chain else set[TrustName]()
    shown = {ProofKind.POP}
    shown |= {ProofKind.EVIDENCE} if request.evidence else set()
    shown |= {ProofKind.RESULT} if request.result else set()
    shown |= {ProofKind.RESIDENCY} if request.ldevid_certify is not None else set()
    classes[0].require_shown(shown, None if is_known else trust)
    raise ProofsMissing(
        RefusalCode.PROOFS_MISSING,
        f"class {classes[0].name} wants what was not sent: iak-public, the TPMT_PUBLIC of the "
        "attestation key, in a CMW statement of csr-proofs",
        ("iak-public",),
    )


def require_bound(csr: bytes, tls_unique: bytes | None) -> None:
    """Check that a request which says what connection it was made for came over that one.

    RFC 7030, 3.5: the ``challengePassword`` is base64 of ``tls-unique``.

    Args:
        csr: The request, DER.
        tls_unique: Of the connection (RFC 5929, 3); None where it has none (TLS 1.3).

    Raises:
        IdentityMismatch: ``csr-channel-binding-wrong``.
    """
    if tls_unique is None:
        return
    wanted = base64.b64encode(tls_unique)
    if any(not hmac.compare_digest(one, wanted) for one in challenge_passwords(csr)):
        raise IdentityMismatch(
            RefusalCode.CSR_CHANNEL_BINDING_WRONG,
            "the challengePassword of the request is not this connection's tls-unique; make the "
            "request after the handshake, or leave the attribute out",
            structure="CertificationRequest",
        )


def require_same_names(csr: bytes, certificate: x509.Certificate) -> None:
    """Check that a request to renew asks for the names of the certificate (RFC 7030, 4.2.2).

    Args:
        csr: The request, DER.
        certificate: What it comes over.

    Raises:
        IdentityMismatch: ``csr-subject-changed``.
        MalformedInput: ``csr-malformed``.
    """
    wanted, asked = names_of(certificate), names_asked(csr)
    if CHANGE_SUBJECT_NAME in attribute_types(csr):
        raise _changed("it has the attribute ChangeSubjectName: a device keeps its name")
    if asked.subject != wanted.subject:
        raise _changed(f"its subject is not {wanted.subject.rfc4514_string()}")
    if asked.alternative != wanted.alternative:
        raise _changed("its subjectAltName is not the certificate's")


def _changed(reason: str) -> IdentityMismatch:
    return IdentityMismatch(
        RefusalCode.CSR_SUBJECT_CHANGED,
        f"the request to renew asks for other names than the certificate it comes over has: "
        f"{reason}",
        structure="CertificationRequest",
    )


def _class(chosen: DeviceClass) -> bytes:
    proofs = sorted(kind.value for kind in chosen.proofs)
    return der.write(
        der.SEQUENCE,
        _text(chosen.name),
        _text(chosen.trust.text),
        der.write(der.SEQUENCE, *map(_text, proofs)),
    )


def _text(words: str) -> bytes:
    return der.write(_UTF8_STRING, words.encode())


def _attribute(type_: str, *values: bytes) -> bytes:
    return der.write(der.SEQUENCE, der.write_oid(type_), der.write(der.SET, *sorted(values)))
