"""Revocation by a manufacturer: which of a line's certificates are taken back, and their list.

Both stand in the line's journal before anybody is told. A list's number is that of its entry, so
that it grows whatever becomes of the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from attestation.refusals import RefusalCode
from verifier.errors import NotFound
from verifier.issuance import line
from verifier.issuance.crl import ListTerms, revocation_list
from verifier.issuance.profiles import Issuer
from verifier.issuance.reasons import Reason, may_take_the_place
from verifier.ports import Clock
from verifier.services.manufacture import LineJournal, read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRevoked:
    """What a revocation did.

    Attributes:
        certificates: Serial numbers of what is revoked now for this reason.
        before: Of what was revoked before, and keeps its reason.
    """

    certificates: tuple[int, ...]
    before: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedList:
    """A revocation list.

    Attributes:
        der: CertificateList (RFC 5280, 5.1).
        number: Its cRLNumber.
        revoked: How many certificates are on it.
        until: Its nextUpdate (aware).
    """

    der: bytes
    number: int
    revoked: int
    until: datetime


class LineRevocation:
    """What a manufacturer takes back.

    Args:
        issuer: The manufacturer's CA.
        journal: The line's, held by nobody else.
        clock: Now.

    Raises:
        Unavailable: ``line-journal-broken`` if an entry is not one of ours.
    """

    def __init__(self, *, issuer: Issuer, journal: LineJournal, clock: Clock) -> None:
        self._issuer = issuer
        self._journal = journal
        self._clock = clock
        self.record = read_record(journal)

    def revoke(
        self,
        serial: str,
        reason: Reason,
        *,
        certificate: int | None = None,
        replaced: bool = False,
    ) -> LineRevoked:
        """Revoke the certificates of a device's serial, standing and replaced ones.

        What was revoked before keeps its moment, and its reason too, unless the new one is
        ``keyCompromise``.

        Args:
            serial: The manufacturer's, as in the manifest.
            reason: Why.
            certificate: The serial number of the only one that is meant; None for all.
            replaced: Only those of entries that another one replaced.

        Raises:
            NotFound: ``certificate-unknown`` if this line made none such.
            Unavailable: If the journal cannot be written: then nothing is revoked.
        """
        found = [
            one.serial_number
            for made in self.record.made.values()
            if made.serial == serial
            and (not replaced or self.record.replaced_by(made.number) is not None)
            for one in made.certificates
            if certificate is None or one.serial_number == certificate
        ]
        if not found:
            raise NotFound(
                RefusalCode.CERTIFICATE_UNKNOWN,
                f"this line made no such certificate for {serial[:64]!r}; `verifier manufacturer "
                "manifest` shows serials, certificates and what was replaced",
            )
        news = tuple(one for one in found if self._is_news(one, reason))
        if news:
            at = self._clock.now()
            entry = line.revoked_entry(serial, news, reason)
            number = self._journal.append(line.REVOKED, entry, at)
            self.record.apply(number, at, line.REVOKED, entry)
        return LineRevoked(certificates=news, before=tuple(one for one in found if one not in news))

    def sign_list(self, lifetime: timedelta) -> SignedList:
        """Sign the list of all that is revoked.

        Args:
            lifetime: Until the next one is due.

        Raises:
            Unavailable: If the journal cannot be written, or the key not used.
        """
        at = self._clock.now()
        until = at + lifetime
        rows = [
            (number, one.at, int(one.reason)) for number, one in sorted(self.record.revoked.items())
        ]
        number = self._journal.append(line.LISTED, line.listed_entry(until, len(rows)), at)
        terms = ListTerms(number=number, this_update=at, next_update=until)
        der = revocation_list(self._issuer, rows, terms)
        return SignedList(der=der, number=number, revoked=len(rows), until=until)

    def _is_news(self, certificate: int, reason: Reason) -> bool:
        earlier = self.record.revoked.get(certificate)
        return earlier is None or may_take_the_place(reason, earlier.reason)
