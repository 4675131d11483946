"""A manufacturing line: challenge a device's TPM, sign its two certificates once, remember both.

Everything stands in the journal before it is handed out. Asked again for a device that was made,
the line hands out what it gave before.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from attestation.errors import IdentityMismatch, NotFresh
from attestation.refusals import RefusalCode
from attestation.tpm import csr_idevid
from attestation.wire.manufacture_codec import ActivationChallengeFile, decode_answer
from verifier.errors import Conflict, Unavailable
from verifier.issuance import line
from verifier.issuance.credential_activation import (
    ACTIVATION_ENTROPY_BYTES,
    SECRET_BYTES,
    make_credential,
)
from verifier.issuance.line import LineRecord, MadeDevice
from verifier.issuance.manufacture import (
    AcceptedManufacture,
    EkTerms,
    issue_identity,
    judge_manufacture,
)
from verifier.issuance.profiles import SERIAL_ENTROPY_BYTES, Issuer, certificate_serial
from verifier.ports import Clock, Entropy

_STRUCTURE = "manufacture request"


class LineJournal(Protocol):
    """Where a line remembers; one process at a time holds it."""

    def entries(self) -> Iterable[tuple[int, datetime, str, Mapping[str, Any]]]:
        """Return number, moment, kind and content of every entry, in order."""
        ...

    def append(self, kind: str, entry: Mapping[str, object], at: datetime) -> int:
        """Put an entry on disk; returns its number.

        Raises:
            Unavailable: If it cannot be written; then it is not there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTerms:
    """What a line asks of each request.

    Attributes:
        inventory: Serials it may make; None for any.
        ek: What is asked of endorsement keys; None asks nothing.
        activation: Whether the keys must be proven to live in the endorsement key's TPM.
    """

    inventory: Container[str] | None = None
    ek: EkTerms | None = None
    activation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOutcome:
    """What came of a request.

    Attributes:
        made: The device's certificates.
        again: Whether they were given before, and nothing new was made.
        replaced: What stood until now.
    """

    made: MadeDevice
    again: bool = False
    replaced: tuple[MadeDevice, ...] = ()


class ManufacturingLine:
    """One line.

    Args:
        issuer: The manufacturer's CA.
        journal: Held by nobody else.
        terms: What is asked.
        clock: Now.
        entropy: Secrets and serial numbers.

    Raises:
        Unavailable: ``line-journal-broken`` if an entry is not one of ours.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        journal: LineJournal,
        terms: LineTerms,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._issuer = issuer
        self._journal = journal
        self._terms = terms
        self._clock = clock
        self._entropy = entropy
        self.record = read_record(journal)

    def challenge(self, request: bytes) -> ActivationChallengeFile:
        """Wrap a secret for the TPM behind a request; an earlier challenge of it is spent.

        Raises:
            VerificationError: As :func:`judge_manufacture`; ``manufacture-request-invalid`` if it
                names no endorsement key that is believed.
            InputError: If it is malformed.
            Unavailable: If the journal cannot be written.
        """
        accepted, digest = self._judged(request)
        ek = accepted.ek_key
        if ek is None:
            raise IdentityMismatch(
                RefusalCode.MANUFACTURE_REQUEST_INVALID,
                "it names no endorsement key that this line believes: no EK certificate, and none "
                "on the list of keys",
                structure=_STRUCTURE,
            )
        drawn = self._entropy.take(ACTIVATION_ENTROPY_BYTES)
        secret, rest = drawn[:SECRET_BYTES], drawn[SECRET_BYTES:]
        credential = make_credential(ek, accepted.iak.name, secret, entropy=rest)
        ends = self._clock.now() + line.LINE_ACTIVATION_TTL
        self._note(line.CHALLENGED, line.challenged_entry(accepted, digest, secret, ends))
        return ActivationChallengeFile(
            request_sha256=digest,
            serial=accepted.hardware_serial,
            credential_blob=credential.blob,
            encrypted_secret=credential.encrypted_seed,
        )

    def issue(
        self, request: bytes, *, answer: bytes | None = None, replace: str = ""
    ) -> LineOutcome:
        """Sign both certificates, once for each device.

        Args:
            request: TCG-CSR-IDEVID.
            answer: The answer to this request's challenge, a file.
            replace: Why what stands for this serial or these keys is to be replaced.

        Raises:
            VerificationError: As :func:`judge_manufacture`; ``activation-missing``;
                ``credential-activation-failed`` and ``credential-activation-spent`` of an answer.
            InputError: If request or answer is malformed.
            Conflict: ``already-manufactured``; ``key-compromised`` if a certificate of one of the
                keys was revoked for that.
            Unavailable: If the journal cannot be written: then nothing was issued.
        """
        accepted, digest = self._judged(request)
        self._require_sound(accepted)
        same = self.record.same(accepted)
        if same is not None and not replace and self.record.is_revoked(same):
            raise Conflict(
                RefusalCode.ALREADY_MANUFACTURED,
                f"{accepted.hardware_serial}: its certificates (entry {same.number}) are revoked, "
                "and are not handed out again; if it is to have new ones, say --replace REASON",
            )
        if same is not None and not replace:
            return LineOutcome(made=same, again=True)
        standing = self.record.clashes(accepted)
        if standing and not replace:
            raise _already_made(accepted, standing)
        if answer is not None and not self.record.is_resident(accepted):
            self._prove(accepted, digest, answer)
        resident = self.record.is_resident(accepted)
        if self._terms.activation and not resident:
            raise IdentityMismatch(
                RefusalCode.ACTIVATION_MISSING,
                f"the keys of {accepted.hardware_serial} are not proven to live in the TPM of its "
                "endorsement key: challenge the device, and issue with its answer",
                structure=_STRUCTURE,
            )
        at = self._clock.now()
        serials = (self._serial(), self._serial())
        signed = issue_identity(accepted, self._issuer, serials=serials, at=at, resident=resident)
        number = self._note(
            line.ISSUED,
            line.issued_entry(
                accepted,
                signed,
                request_sha256=digest,
                resident=resident,
                replaces=standing,
                reason=replace if standing else "",
            ),
        )
        return LineOutcome(made=self.record.made[number], replaced=standing)

    def waits(self, request: bytes) -> bool:
        """Say whether a challenge of this very request may still be answered."""
        found = self.record.waiting(hashlib.sha256(request).digest())
        return found is not None and self._clock.now() <= found.ends

    def _judged(self, request: bytes) -> tuple[AcceptedManufacture, bytes]:
        accepted = judge_manufacture(
            csr_idevid.parse(request),
            inventory=self._terms.inventory,
            ek=self._terms.ek,
            at=self._clock.now(),
        )
        return accepted, hashlib.sha256(request).digest()

    def _require_sound(self, accepted: AcceptedManufacture) -> None:
        """Refuse keys of which one was compromised, also in place of others."""
        if self.record.is_compromised(accepted):
            raise Conflict(
                RefusalCode.KEY_COMPROMISED,
                f"{accepted.hardware_serial}: a certificate of one of these keys was revoked as "
                "keyCompromise; such a key is certified for nobody again: give the unit new keys",
            )

    def _prove(self, accepted: AcceptedManufacture, digest: bytes, answer: bytes) -> None:
        """Check an answer: one try, whatever comes of it."""
        given = decode_answer(answer)
        waiting = self.record.waiting(digest)
        if waiting is None or given.request_sha256 != digest or self._clock.now() > waiting.ends:
            raise NotFresh(
                RefusalCode.CREDENTIAL_ACTIVATION_SPENT,
                "no challenge of this request waits for this answer: it was answered before, its "
                "time is over, or the answer is another request's; make a new challenge",
                structure=_STRUCTURE,
            )
        bound = (waiting.ek_sha256, waiting.iak_name) == (accepted.ek_sha256, accepted.iak.name)
        right = hmac.compare_digest(hashlib.sha256(given.secret).digest(), waiting.proof)
        entry = line.answered_entry(accepted, digest)
        self._note(line.PROVEN if right and bound else line.FAILED, entry)
        if not (right and bound):
            raise IdentityMismatch(
                RefusalCode.CREDENTIAL_ACTIVATION_FAILED,
                "the TPM did not give back the secret: attestation key and endorsement key do not "
                "live in one TPM; find out what this unit is, then make a new challenge",
                structure=_STRUCTURE,
            )

    def _note(self, kind: str, entry: Mapping[str, object]) -> int:
        at = self._clock.now()
        number = self._journal.append(kind, entry, at)
        self.record.apply(number, at, kind, entry)
        return number

    def _serial(self) -> int:
        return certificate_serial(self._entropy.take(SERIAL_ENTROPY_BYTES))


def read_record(journal: LineJournal) -> LineRecord:
    """Read a journal.

    Raises:
        Unavailable: ``line-journal-broken`` if an entry is not one of ours.
    """
    record = LineRecord()
    for number, at, kind, entry in journal.entries():
        try:
            record.apply(number, at, kind, entry)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                RefusalCode.LINE_JOURNAL_BROKEN, f"entry {number} of the journal is not one of ours"
            ) from error
    return record


def _already_made(accepted: AcceptedManufacture, standing: tuple[MadeDevice, ...]) -> Conflict:
    told = ", ".join(f"{one.serial} (entry {one.number}, {one.at:%Y-%m-%d})" for one in standing)
    return Conflict(
        RefusalCode.ALREADY_MANUFACTURED,
        f"{accepted.hardware_serial}: certificates for this serial, these keys or this TPM "
        f"were given before: {told}; if this unit is to take their place, say --replace REASON",
    )
