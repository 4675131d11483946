"""Certificate revocation lists (RFC 5280, 5): complete, one per issuing CA, signed by that CA.

A list carries its number, the issuer's key identifier, and a critical issuingDistributionPoint
that bounds it to end-entity certificates: our issuing CAs sign nothing else. The distribution
point's URL is not repeated there: a list with one does not cover certificates that do not name the
same URL (RFC 5280, 6.3.3 b), so that setting or moving the URL would make every earlier certificate
uncheckable. A URL would tell lists of one CA apart; there is one.

Lists are written here, not by a builder: builders copy all rows for each row that is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID

from attestation.der import (
    BOOLEAN,
    GENERALIZED_TIME,
    OCTET_STRING,
    SEQUENCE,
    UTC_TIME,
    write,
    write_integer,
    write_oid,
)
from verifier.issuance.profiles import Issuer, authority_key
from verifier.issuance.signing import algorithm_identifier, sign

_ENUMERATED: Final = 0x0A
_EXPLICIT_0: Final = 0xA0
_V2: Final = 1
_GENERALIZED_FROM: Final = 2050
_TRUE: Final = write(BOOLEAN, b"\xff")
_SCOPE: Final = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTerms:
    """What a list says beside its rows.

    Attributes:
        number: cRLNumber; above that of every earlier list.
        this_update: When it is made (aware).
        next_update: When a newer one will be there at the latest.
    """

    number: int
    this_update: datetime
    next_update: datetime


def revocation_list(
    issuer: Issuer, rows: Iterable[tuple[int, datetime, int]], terms: ListTerms
) -> bytes:
    """Return a signed list, DER.

    Args:
        issuer: The CA whose certificates are in it.
        rows: Serial number, moment and reason (RFC 5280, 5.3.1) of each revoked certificate.
        terms: Number and moments.

    Raises:
        ValueError: If it would end before it begins.
        Unavailable: If the CA's key cannot be used.
    """
    if terms.next_update <= terms.this_update:
        raise ValueError("a revocation list must not end before it begins")
    entries = [_entry(*row) for row in rows]
    algorithm = algorithm_identifier(issuer.key, issuer.digest)
    body = write(
        SEQUENCE,
        write_integer(_V2),
        algorithm,
        issuer.certificate.subject.public_bytes(),
        _time(terms.this_update),
        _time(terms.next_update),
        # RFC 5280, 5.1.2.6: absent when nothing is revoked.
        write(SEQUENCE, *entries) if entries else b"",
        write(_EXPLICIT_0, write(SEQUENCE, *_extensions(issuer, terms.number))),
    )
    return write(SEQUENCE, body, algorithm, sign(issuer.key, issuer.digest, body))


def _extensions(issuer: Issuer, number: int) -> Iterable[bytes]:
    for extension, critical in (
        (authority_key(issuer), False),
        (x509.CRLNumber(number), False),
        (_SCOPE, True),
    ):
        yield write(
            SEQUENCE,
            write_oid(extension.oid.dotted_string),
            _TRUE if critical else b"",
            write(OCTET_STRING, extension.public_bytes()),
        )


_REASON_OID: Final = write_oid(CRLEntryExtensionOID.CRL_REASON.dotted_string)


def _entry(serial: int, at: datetime, code: int) -> bytes:
    return write(SEQUENCE, write_integer(serial), _time(at), _reason(code))


def _reason(code: int) -> bytes:
    """Return the entry's extensions; an unspecified reason is left out (RFC 5280, 5.3.1)."""
    if code == 0:
        return b""
    value = write(OCTET_STRING, write(_ENUMERATED, bytes((code,))))
    return write(SEQUENCE, write(SEQUENCE, _REASON_OID, value))


def _time(at: datetime) -> bytes:
    """Return a Time in seconds (RFC 5280, 5.1.2.4: UTCTime until 2049)."""
    moment = at.astimezone(UTC)
    if moment.year < _GENERALIZED_FROM:
        return write(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return generalized(moment)


def generalized(at: datetime) -> bytes:
    """Return a GeneralizedTime in seconds, UTC."""
    return write(GENERALIZED_TIME, at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())
