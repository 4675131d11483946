"""The certificate authority as the services see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography import x509

from verifier.errors import ServiceError
from verifier.issuance.profiles import Issuer


class CertificateAuthority(Protocol):
    """The keys that issue, and what they are trusted by."""

    def issuer(self) -> Issuer:
        """Return the CA that signs now.

        Raises:
            Unavailable: ``keys-unusable`` if its key cannot be used.
        """
        ...

    def issuers(self) -> Sequence[Issuer]:
        """Return every CA of ours whose certificates may still run, newest first.

        Each signs its own revocation list and OCSP answers.
        """
        ...

    def keyless(self) -> Sequence[tuple[x509.Certificate, ServiceError]]:
        """Return the CAs whose certificates may still run and whose keys cannot be used, and why.

        They sign nothing any more; what they signed last is in the store.
        """
        ...

    def certificates(self) -> Sequence[x509.Certificate]:
        """Return roots and issuing CAs that are believed; none that is distrusted."""
        ...

    def roots(self) -> Sequence[x509.Certificate]:
        """Return the certificates that relying parties anchor their trust in."""
        ...
