"""Contraindicated evidence by whichever door: what it says of a device is recorded and acted upon.

A device that asks for a certificate shows its state as it does when it attests. What speaks against
it counts there as it does at the attestation door: result, decision, outbox and what the revocation
policy says of it are one transaction; the one who asked is refused all the same.
"""

from __future__ import annotations

from datetime import datetime

from attestation.result import TrustTier
from verifier.issuance.contraindicated import AgainstDevice
from verifier.ports import Store
from verifier.services.attest import MAX_ATTEMPTS, Attest, moved_on
from verifier.telemetry import logger


class Contraindications:
    """The use case.

    Args:
        store: Who is known.
        attest: Judges, decides and records.
    """

    def __init__(self, store: Store, attest: Attest) -> None:
        self._store = store
        self._attest = attest
        self._log = logger("contraindication")

    def record(self, against: AgainstDevice, message: bytes, at: datetime) -> None:
        """Record what evidence says of a known device, if it is proven to be that device's.

        It is judged again by the device's own record: its enrolled attestation key, the nonce and
        TPM clock it was last seen with, its class. Nothing is done if the device is not known, if a
        proof fails in that (another TPM's quote, an old one, a revoked device), or if it is not
        contraindicated by that. Blocking.

        Args:
            against: From the refusal.
            message: The evidence as received.
            at: Now (aware).

        Raises:
            InputError: If the evidence is malformed.
            Conflict: If the device's row changes faster than we can judge.
            Unavailable: If the store cannot; nothing is recorded, and asking again is right.
        """
        record = self._store.device(against.device)
        for _ in range(MAX_ATTEMPTS):
            if record is None:
                return
            draft = self._attest.draft(
                record, against.evidence, message, at, challenge=against.challenge
            )
            result = draft.result
            if result.clock is None or result.status is not TrustTier.CONTRAINDICATED:
                return
            judgement = self._attest.submit(draft).result()
            if judgement is not None:
                self._attest.settled(draft, judgement)
                self._log.info(
                    "evidence_appraised",
                    device=record.device,
                    seq=judgement.result.seq,
                    status=result.status.label,
                    allow=judgement.result.allow,
                    reasons=judgement.result.reasons[:4],
                )
                return
            record = self._store.device(against.device)
        if record is not None:
            raise moved_on(record)
