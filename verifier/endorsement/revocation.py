"""Revocation lists of device makers: whose certificates their issuers took back (RFC 5280, 5).

Lists are given as files beside the trust anchors and never fetched. A list counts only if one of
the anchors signed it, or a certificate that came with the lists and that an anchor issued. A list
past its nextUpdate still counts: what it revokes stays revoked, and ``verifier check`` says that it
is old. Delta and indirect lists, and lists for some reasons only, are refused; so is a signature
over SHA-1, by the library itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from attestation import der
from attestation.certificates import UNREADABLE
from attestation.ek.names import read_name
from attestation.errors import LimitExceeded, MalformedInput, UntrustedEndorsement
from attestation.limits import MAX_REVOCATION_LIST_BYTES
from attestation.refusals import RefusalCode

_NAMES_KEPT: Final = 256
"""Issuers' names in normal form: a fleet has few issuers."""

_STRUCTURE: Final = "CertificateList"

_PEM_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_PEM_END: Final = b"-----END X509 CRL-----"
_PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """One list that an anchor vouches for.

    Attributes:
        issuer: Its issuer's name, for people.
        this_update: When it was made (aware).
        next_update: When the next is due (aware); None if it does not say.
        revoked: :func:`certificate_id` of each certificate on it.
    """

    issuer: str
    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[bytes] = field(repr=False)

    def is_stale(self, at: datetime) -> bool:
        """Return whether a newer list is due."""
        return self.next_update is not None and at > self.next_update


def certificate_id(issuer: x509.Name, serial: int) -> bytes:
    """Return what names a certificate on a list: SHA-256 over issuer and serial number.

    The issuer counts as RFC 5280, 7.1 compares names: a maker may write its name as PrintableString
    on its lists and as UTF8String in its certificates.

    Raises:
        MalformedInput: If the name cannot be read.
    """
    return _id(_comparable(issuer), serial)


def _comparable(name: x509.Name) -> bytes:
    """Return a name's normal form as bytes that no other name's begin with."""
    return _normal(name.public_bytes())


@lru_cache(maxsize=_NAMES_KEPT)
def _normal(name: bytes) -> bytes:
    reader = der.DerReader(name, _STRUCTURE)
    return json.dumps(read_name(reader.next("issuer", der.SEQUENCE)).key).encode()


def _id(issuer: bytes, serial: int) -> bytes:
    size = serial.bit_length() // 8 + 1
    return hashlib.sha256(issuer + serial.to_bytes(size, signed=True)).digest()


def read_revocation_lists(
    files: Sequence[bytes], anchors: Sequence[x509.Certificate]
) -> tuple[RevocationList, ...]:
    """Read lists, each vouched for by an anchor.

    Args:
        files: DER lists, or PEM texts with lists and, where an intermediate signed one, that
            intermediate's certificate.
        anchors: The trust anchors.

    Raises:
        LimitExceeded: If a file is larger than ``MAX_REVOCATION_LIST_BYTES``.
        MalformedInput: ``certificate-malformed`` for what is no list, or a kind we do not take.
        UntrustedEndorsement: ``certificate-untrusted`` if no anchor vouches for a list.
    """
    lists: list[x509.CertificateRevocationList] = []
    beside: list[x509.Certificate] = []
    for content in files:
        if len(content) > MAX_REVOCATION_LIST_BYTES:
            raise LimitExceeded(
                RefusalCode.TOO_LARGE,
                f"{len(content)} bytes, at most {MAX_REVOCATION_LIST_BYTES} are accepted",
                structure=_STRUCTURE,
            )
        try:
            if content.lstrip()[:5] == b"-----":
                lists += _pem_lists(content)
                if _PEM_CERTIFICATE in content:
                    beside += x509.load_pem_x509_certificates(content)
            else:
                lists.append(x509.load_der_x509_crl(content))
        except UNREADABLE as error:
            raise _malformed(f"not a revocation list: {str(error)[:120]}") from error
    issuers = (*anchors, *(one for one in beside if _issued_by_any(one, anchors)))
    try:  # the library reads names, times and entries late
        return tuple(_judged(one, issuers) for one in lists)
    except UNREADABLE as error:
        raise _malformed(f"not a revocation list: {str(error)[:120]}") from error


def _pem_lists(content: bytes) -> list[x509.CertificateRevocationList]:
    found = []
    for block in content.split(_PEM_BEGIN)[1:]:
        body, end, _ = block.partition(_PEM_END)
        found.append(x509.load_pem_x509_crl(_PEM_BEGIN + body + end + b"\n"))
    if not found:
        raise ValueError("the PEM text holds none")
    return found


def _judged(
    listed: x509.CertificateRevocationList, issuers: Iterable[x509.Certificate]
) -> RevocationList:
    name = listed.issuer.rfc4514_string()[:120]
    issuer = _comparable(listed.issuer)
    if not any(_signed(listed, one) for one in issuers if _comparable(one.subject) == issuer):
        raise UntrustedEndorsement(
            RefusalCode.CERTIFICATE_UNTRUSTED,
            f"the revocation list of {name!r} is signed by no trust anchor; put the certificate of "
            "the intermediate that signed it into the same PEM file",
            structure=_STRUCTURE,
        )
    _require_whole(listed)
    return RevocationList(
        issuer=name,
        this_update=listed.last_update_utc,
        next_update=listed.next_update_utc,
        revoked=frozenset(_id(issuer, one.serial_number) for one in listed),
    )


def _require_whole(listed: x509.CertificateRevocationList) -> None:
    """Refuse lists that do not speak for all certificates of their issuer (RFC 5280, 5.2)."""
    for extension in listed.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl or value.only_some_reasons or value.only_contains_attribute_certs:
                raise _malformed("it is indirect, or for some reasons or attribute certificates")
        elif extension.critical:
            raise _malformed(f"extension {extension.oid.dotted_string} is not known here")


def _signed(listed: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        return usage.crl_sign and listed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except x509.ExtensionNotFound:
        return listed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, InvalidSignature):
        return False


def _issued_by_any(one: x509.Certificate, anchors: Sequence[x509.Certificate]) -> bool:
    for anchor in anchors:
        try:
            one.verify_directly_issued_by(anchor)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return any(
            isinstance(extension.value, x509.BasicConstraints) and extension.value.ca
            for extension in one.extensions
        )
    return False


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CERTIFICATE_MALFORMED, reason, structure=_STRUCTURE)
