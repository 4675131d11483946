"""Where relying parties find our revocation lists, OCSP answers and CA certificates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

ISSUER_ID_CHARS: Final = 16

PREFIX: Final = "/pki/v1"
"""Below this path of a door everything is for anyone to read."""


def issuer_id(certificate: x509.Certificate) -> str:
    """Return the name of a CA in URLs: the first 16 hexadecimal digits of its DER's SHA-256."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()[:ISSUER_ID_CHARS]


@dataclass(frozen=True, slots=True)
class Publication:
    """The address under which relying parties reach us.

    Attributes:
        base: ``http://pki.example``, without a slash at the end. Plain HTTP is right: what is
            fetched is signed, and whoever checks a certificate must not need another one checked
            for it (RFC 5280, 8).
    """

    base: str

    def crl(self, issuer: x509.Certificate) -> str:
        """Return the URL of an issuer's revocation list."""
        return f"{self.base}{PREFIX}/crl/{issuer_id(issuer)}.crl"

    def ca(self, issuer: x509.Certificate) -> str:
        """Return the URL of an issuer's certificate."""
        return f"{self.base}{PREFIX}/ca/{issuer_id(issuer)}.cer"

    @property
    def ocsp(self) -> str:
        """The URL of the OCSP responder."""
        return f"{self.base}{PREFIX}/ocsp"

    def status_list(self, number: int) -> str:
        """Return the URL of a status list."""
        return f"{self.base}{PREFIX}/status/{number}"

    def extensions(self, issuer: x509.Certificate) -> tuple[x509.ExtensionType, ...]:
        """Return what certificates of an issuer say of it (RFC 5280, 4.2.1.13 and 4.2.2.1)."""
        place = x509.DistributionPoint(
            full_name=[x509.UniformResourceIdentifier(self.crl(issuer))],
            relative_name=None,
            reasons=None,
            crl_issuer=None,
        )
        access = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, url in (
                (AuthorityInformationAccessOID.OCSP, self.ocsp),
                (AuthorityInformationAccessOID.CA_ISSUERS, self.ca(issuer)),
            )
        ]
        return x509.CRLDistributionPoints([place]), x509.AuthorityInformationAccess(access)
