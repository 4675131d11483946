"""A device's issuance from the judgement to the disk."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from attestation.identity import DeviceId
from verifier.errors import Conflict
from verifier.ports import DeviceIssuance
from verifier.ports.credentials import IssuedCertificate, StoredCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A device that was accepted; all of it is written.

    Attributes:
        device: The device's id.
        certificate: What it is issued.
        chain: The CAs above it, its issuer first, without the root where there is one above.
        stored: The certificate as the store has it.
        ear: The result that it rests on (EAR, JWT): of its evidence, or the one it showed.
        ima_next: The first entry of its IMA list that it need send next time.
    """

    device: DeviceId
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    stored: StoredCertificate
    ear: str
    ima_next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """An issuance on its way to the disk; what is not said here is as in :class:`Enrolled`."""

    device: DeviceId
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    issued: IssuedCertificate
    ear: str
    ima_next: int
    number: Future[int | Conflict]

    def arrived(self) -> Enrolled:
        """Wait until it is on disk.

        Raises:
            Conflict: If it was refused there.
        """
        outcome = self.number.result()
        if isinstance(outcome, Conflict):
            raise outcome
        return Enrolled(
            device=self.device,
            certificate=self.certificate,
            chain=self.chain,
            stored=StoredCertificate(certificate=self.issued, number=outcome),
            ear=self.ear,
            ima_next=self.ima_next,
        )


class Writer(Protocol):
    """Commits issuances; see ``verifier.store.group_writer``."""

    def submit(self, item: DeviceIssuance) -> Future[int | Conflict]:
        """Return a future of the entry's number in the issuance log, or of the refusal."""
        ...

    def coming(self) -> AbstractContextManager[None]:
        """Say that something is likely to be submitted before this ends."""
        ...
