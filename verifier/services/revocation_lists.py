"""Revocation lists: one per issuing CA, made from the store when asked for, never older than it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from attestation.refusals import RefusalCode
from verifier.appraisal.freshness import microseconds
from verifier.errors import NotFound, ServiceError, Unavailable
from verifier.issuance.crl import ListTerms, revocation_list
from verifier.issuance.profiles import Issuer
from verifier.issuance.publication import Publication, issuer_id
from verifier.issuance.reasons import Reason
from verifier.ports import Store
from verifier.ports.authority import CertificateAuthority
from verifier.ports.credentials import PublishedList, RevokedSerial


def issuer_digest(certificate: x509.Certificate) -> bytes:
    """Return SHA-256 of a CA certificate's DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def find_issuer(authority: CertificateAuthority, name: str) -> Issuer:
    """Return the CA of a name in URLs.

    Raises:
        NotFound: ``ca-unknown``.
    """
    for issuer in authority.issuers():
        if issuer_id(issuer.certificate) == name:
            return issuer
    raise ca_unknown(name)


def find_certificate(authority: CertificateAuthority, name: str) -> x509.Certificate:
    """Return the certificate of a CA of ours, also of one whose key cannot be used.

    Raises:
        NotFound: ``ca-unknown``.
    """
    keyless = (certificate for certificate, _ in authority.keyless())
    for one in (*(issuer.certificate for issuer in authority.issuers()), *keyless):
        if issuer_id(one) == name:
            return one
    raise ca_unknown(name)


def ca_unknown(name: str) -> NotFound:
    """Return the refusal of a CA that is none of ours."""
    return NotFound(
        RefusalCode.CA_UNKNOWN,
        f"no issuing CA of ours is {name[:64]!r}; a certificate's own CRL URL names its issuer",
    )


class PublishedAuthority(CertificateAuthority):
    """An authority whose certificates tell where they can be checked.

    Args:
        authority: Who signs.
        publication: Where relying parties reach us; None tells nothing.
    """

    def __init__(self, authority: CertificateAuthority, publication: Publication | None) -> None:
        self._authority = authority
        self._publication = publication

    @override
    def issuer(self) -> Issuer:
        """Return the CA that signs now. Raises Unavailable."""
        return self._told(self._authority.issuer())

    @override
    def issuers(self) -> Sequence[Issuer]:
        """Return every CA of ours whose certificates may still run, newest first."""
        return [self._told(one) for one in self._authority.issuers()]

    @override
    def keyless(self) -> Sequence[tuple[x509.Certificate, ServiceError]]:
        """Return the CAs whose keys cannot be used, and why."""
        return self._authority.keyless()

    @override
    def certificates(self) -> Sequence[x509.Certificate]:
        """Return roots and issuing CAs that are believed; none that is distrusted."""
        return self._authority.certificates()

    @override
    def roots(self) -> Sequence[x509.Certificate]:
        """Return the certificates that relying parties anchor their trust in."""
        return self._authority.roots()

    def _told(self, issuer: Issuer) -> Issuer:
        if self._publication is None:
            return issuer
        return replace(issuer, publication=self._publication)


class RevocationLists:
    """The use case.

    A list is made anew when anything was revoked since, or when half of its time is over. Replicas
    agree through the store: a number is given to one list only. A CA whose key cannot be used has
    its last list for as long as that is current and tells all that the store does.

    Args:
        store: What is revoked, and the newest list of each CA.
        authority: The CAs.
        lifetime: From a list's beginning to its end.
    """

    def __init__(self, store: Store, authority: CertificateAuthority, lifetime: timedelta) -> None:
        self._store = store
        self._authority = authority
        self._lifetime = lifetime
        self._newest: dict[bytes, PublishedList] = {}
        self._complete: dict[bytes, tuple[int, PublishedList]] = {}
        self._making = threading.Lock()

    def current(self, name: str, at: datetime) -> PublishedList:
        """Return a CA's list as the store is now.

        Args:
            name: The CA's name in URLs.
            at: Now.

        Raises:
            NotFound: ``ca-unknown``.
            Unavailable: If the store cannot be asked, or the CA's key cannot sign and its last list
                has ended or lacks what was revoked since.
        """
        for certificate, error in self._authority.keyless():
            if issuer_id(certificate) == name:
                return self._last(issuer_digest(certificate), error, at)
        issuer = find_issuer(self._authority, name)
        digest = issuer_digest(issuer.certificate)
        revision = self._store.revocation_revision()
        kept = self._newest.get(digest)
        if kept is not None and self._good(kept, revision, at):
            return kept
        with self._making:
            return self._make(issuer, digest, at)

    def _last(self, digest: bytes, error: ServiceError, at: datetime) -> PublishedList:
        """Return the last list of a CA whose key cannot be used, if it is still the truth."""
        revision = self._store.revocation_revision()
        known, last = self._complete.get(digest, (-1, None))
        if last is not None and known == revision and at < last.next_update:
            return last
        # A replica that has the key may have signed another since.
        last = self._store.published_list(digest)
        if last is not None and at >= last.next_update:
            raise _cannot_sign(error, f"and the last one ended at {last.next_update}")
        if last is None or not _tells(last, self._store.revoked(digest, at)):
            raise _cannot_sign(error, "and what was revoked since is on none")
        self._complete[digest] = revision, last
        return last

    def _good(self, kept: PublishedList, revision: int, at: datetime) -> bool:
        return kept.revision == revision and at < kept.this_update + self._lifetime / 2

    def _make(self, issuer: Issuer, digest: bytes, at: datetime) -> PublishedList:
        while True:
            # The revision first: what is revoked after it makes the list only newer than it says.
            revision = self._store.revocation_revision()
            newest = self._store.published_list(digest)
            if newest is not None and self._good(newest, revision, at):
                break
            newest = self._sign(issuer, digest, newest, revision, at)
            with self._store.work() as work:
                taken = work.put_list(newest)
            if taken:
                break
            # Another replica was quicker: look at its list, which may do.
        self._newest[digest] = newest
        return newest

    def _sign(
        self,
        issuer: Issuer,
        digest: bytes,
        before: PublishedList | None,
        revision: int,
        at: datetime,
    ) -> PublishedList:
        # Microseconds since 1970 at least: a store that was restored from a backup does not know
        # which numbers it gave since, and relying parties refuse a step back (RFC 5280, 5.2.3). No
        # list is made in a microsecond, so that numbers never run ahead of the clock.
        number = max(microseconds(at), before.number + 1 if before else 1)
        begin = at.replace(microsecond=0)
        terms = ListTerms(number=number, this_update=begin, next_update=begin + self._lifetime)
        # RFC 5280, 3.3: a row stays until it was on a list made after its certificate's end.
        rows = self._store.revoked(digest, at - self._lifetime - _MARGIN)
        return PublishedList(
            issuer_sha256=digest,
            number=number,
            der=revocation_list(issuer, rows, terms),
            this_update=begin,
            next_update=terms.next_update,
            revision=revision,
        )


_MARGIN: Final = timedelta(hours=1)


def _tells(last: PublishedList, rows: Sequence[RevokedSerial]) -> bool:
    """Say whether a list has all of these rows, each with its reason."""
    listed = x509.load_der_x509_crl(last.der)
    told = {one.serial_number: one.extensions for one in listed}
    return all(row.serial in told and _code(told[row.serial]) == row.code for row in rows)


def _code(extensions: x509.Extensions) -> int:
    """Return the number of a row's reason (RFC 5280, 5.3.1); 0 without one."""
    try:
        found = extensions.get_extension_for_class(x509.CRLReason).value
    except x509.ExtensionNotFound:
        return Reason.UNSPECIFIED
    return found.public_bytes()[-1]  # ENUMERATED of one byte


def _cannot_sign(error: ServiceError, why: str) -> Unavailable:
    return Unavailable(
        error.code, f"the CA's key cannot sign a revocation list, {why}: {error.reason}"
    )
