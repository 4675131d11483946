"""Attest: load the enrolment, appraise, sign, decide, record, answer.

Three parts, so that a door may run each where it belongs: :meth:`Attest.judge` is computation only
(bytes and a record in, a draft out), :meth:`Attest.finish` asks the decision policy, and the
caller's recorder writes result, clock mark and outbox row in one transaction. :meth:`Attest.answer`
is given only after that.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from attestation.errors import MalformedInput
from attestation.evidence import Evidence
from attestation.logs.ima.progress import RuntimeProgress
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, StepVerdict, TrustTier
from attestation.wire.ear import EarProfile, VerifierIdentity, encode_ear
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.appraise import appraise
from verifier.appraisal.freshness import Challenge, issued_at, mark_seen
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.errors import Conflict, RateLimited
from verifier.issuance.revocation_policy import Action, Consequence, Event, RevocationPolicy
from verifier.ports import DeviceReader, DeviceRecord, Judgement, ResultSigner, StoredResult
from verifier.services.challenge import Challenges, Nonces
from verifier.services.decisions import Decisions
from verifier.services.devices import DeviceCache
from verifier.services.rate import RateLimiter
from verifier.services.reference_values import ReferenceShelf

MAX_ATTEMPTS: Final = 4
"""How often evidence is judged again because the device's row moved on meanwhile."""

LOGS_KEPT_PER_S: Final = 4 / 86_400
LOGS_KEPT_AT_ONCE: Final = 8
"""New firmware logs stored for one device: an honest one has a new log after an update. A log can
be varied without end in events that no PCR holds, and each would stay in the store for good."""

SHORTEST_LIFETIME: Final = timedelta(seconds=1)
"""A result ends after it begins (JWT), even when its nonce was as old as it may be."""

SOON: Final = timedelta(seconds=1)
"""Until a device that is well again attests once more, and enrols."""

_STATE_STEP: Final = 3
"""Index of the step that proves the log."""


class LogNotInMemory(Exception):
    """The log must be read from the store and replayed: not a work for an event loop."""


class Recorder(Protocol):
    """Commits judgements; see ``verifier.store.group_commit``."""

    def submit(self, finish: Callable[[], Judgement]) -> Future[Judgement | None]:
        """Return a future of the committed judgement; None if the device's row had moved on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One judged evidence before the decision.

    Attributes:
        record: The device as it was judged.
        result: The result.
        ear: The result, signed.
        expires_at: When the result ends.
        message: The evidence.
        new_log: (SHA-256, bytes) of a log that is worth keeping; None otherwise.
        log_sha256: SHA-256 of the log that the evidence names, if it names one.
    """

    record: DeviceRecord
    result: AttestationResult
    ear: str
    expires_at: datetime
    message: bytes
    new_log: tuple[bytes, bytes] | None
    log_sha256: bytes | None


class Attest:
    """The use case.

    Args:
        store: For logs that were sent before.
        devices: The devices in memory.
        recorder: Commits.
        nonces: Whose nonces are answered.
        anchors: The manufacturers trusted now.
        shelf: The reference library.
        policy: The appraisal policy.
        replays: Logs replayed before.
        signer: Signs results.
        identity: Who we are in a result.
        dialect: In which of EAR's dialects results are written.
        lifetime: How long a result is believed.
        decisions: The decision policy.
        challenges: Makes the next challenge.
        revocation: What follows from contraindicated evidence; None for nothing.
    """

    def __init__(
        self,
        *,
        store: DeviceReader,
        devices: DeviceCache,
        recorder: Recorder,
        nonces: Nonces,
        anchors: TrustAnchors,
        shelf: ReferenceShelf,
        policy: AppraisalPolicy,
        replays: ReplayCache,
        signer: ResultSigner,
        identity: VerifierIdentity,
        lifetime: timedelta,
        decisions: Decisions,
        challenges: Challenges,
        revocation: RevocationPolicy | None = None,
        dialect: EarProfile = EarProfile.DRAFT_03,
    ) -> None:
        self._revocation = revocation
        self._store = store
        self._devices = devices
        self._recorder = recorder
        self._nonces = nonces
        self._anchors = anchors
        self._shelf = shelf
        self._policy = policy
        self._banks = tuple(selection.bank for selection in policy.selections)
        self._replays = replays
        self._signer = signer
        self._encode = partial(encode_ear, verifier=identity, profile=dialect)
        self._lifetime = lifetime
        self._decisions = decisions
        self._challenges = challenges
        self._logs_kept = RateLimiter(per_second=LOGS_KEPT_PER_S, burst=LOGS_KEPT_AT_ONCE)

    def judge(
        self, record: DeviceRecord, message: bytes, at: datetime, *, from_memory: bool = False
    ) -> Draft:
        """Appraise one evidence message and sign the result.

        Args:
            record: The device that is at the other end of the connection.
            message: The evidence as received.
            at: Now.
            from_memory: Rather give up than ask the store.

        Raises:
            InputError: If the message is malformed; ``log-unknown`` if the log must be sent whole.
            LogNotInMemory: If ``from_memory``, and the log's replay is not.
        """
        evidence = self.with_log(decode_evidence(message), from_memory=from_memory)
        return self.draft(record, evidence, message, at, challenge=self._nonces.current())

    def draft(
        self,
        record: DeviceRecord,
        evidence: Evidence,
        message: bytes,
        at: datetime,
        *,
        challenge: Challenge,
    ) -> Draft:
        """Appraise evidence that answers a given challenge; else as :meth:`judge`."""
        result = appraise(
            evidence,
            challenge=challenge,
            enrolment=record.enrolment,
            anchors=self._anchors,
            reference=self._shelf.current(at),
            policy=self._policy,
            at=at,
            replays=self._replays,
        )
        return self.sign(record, result, evidence, message, at)

    def judge_anew(
        self, record: DeviceRecord, certificate: bytes, message: bytes, at: datetime
    ) -> Draft:
        """Judge, and once more from the store's record if the one in memory may be behind.

        Another replica may have proven more of the device's IMA list than this one remembers.
        Blocking.

        Raises:
            InputError, ServiceError: As :meth:`judge` and ``DeviceCache.by_certificate``.
        """
        try:
            return self.judge(record, message, at)
        except MalformedInput as error:
            if error.code is not RefusalCode.IMA_OFFSET_UNKNOWN:
                raise
            newest = self._devices.by_certificate(certificate, at, fresh=True, attesting=True)
            if newest.version == record.version:
                raise
            return self.judge(newest, message, at)

    def sign(
        self,
        record: DeviceRecord,
        result: AttestationResult,
        evidence: Evidence,
        message: bytes,
        at: datetime,
    ) -> Draft:
        """Sign a result and put a draft together."""
        expires_at = self._expiry(result, at)
        claims = self._encode(
            result,
            issued_at=at,
            expires_at=expires_at,
            # a result says whose key it was only if that key's signature held
            ak_name=record.enrolment.ak_name if result.clock is not None else None,
        )
        new_log = self._new_log(record, result, evidence) if _log_proven(result) else None
        return Draft(
            record=record,
            result=result,
            ear=self._signer.sign_claims(claims),
            expires_at=expires_at,
            message=message,
            new_log=new_log,
            log_sha256=evidence.firmware_log.digest if evidence.firmware_log else None,
        )

    def _expiry(self, result: AttestationResult, at: datetime) -> datetime:
        """Return until when a result is believed, counted from when its nonce was issued.

        A quote is as old as its nonce may be: a device that quotes in a good boot and hands the
        quote in after a bad one gains nothing that the lifetime does not already allow.
        """
        began = issued_at(result.nonce) if result.nonce else at
        return max(began + self._lifetime, at + SHORTEST_LIFETIME)

    def finish(self, draft: Draft) -> Judgement:
        """Decide, and return everything that is to be written."""
        result, record = draft.result, draft.record
        seq = record.seq + 1
        decision = self._decisions.on_result(record, result, seq, result.at, draft.expires_at)
        last_seen = mark_seen(result.clock, result.nonce) if result.clock is not None else None
        known = record.enrolment.progress
        stored = StoredResult(
            device=record.device,
            seq=seq,
            at=result.at,
            expires_at=draft.expires_at,
            status=int(result.status),
            vector=result.vector.as_claims(),
            reasons=result.reasons,
            steps=tuple(
                (step.number, step.name, step.verdict.value, step.detail) for step in result.steps
            ),
            allow=decision.allow,
            decision_reasons=decision.reasons,
            policy_id=result.policy_id,
            reference_set=result.reference_set or "",
            evidence_sha256=result.evidence_digest,
            ear=draft.ear,
        )
        return Judgement(
            result=stored,
            based_on=record.version,
            last_seen=last_seen,
            evidence=draft.message,
            firmware_log=draft.new_log,
            log_sha256=draft.log_sha256,
            progress=result.progress if result.progress != known else None,
            progress_before=known,
            consequence=self._consequence(result),
        )

    def _consequence(self, result: AttestationResult) -> Consequence | None:
        """Return what the revocation policy says of a result; it is written with the result."""
        if result.status is not TrustTier.CONTRAINDICATED or self._revocation is None:
            return None
        seen = result.reasons[0] if result.reasons else "evidence was judged so"
        found = self._revocation.consequence(Event.CONTRAINDICATED, seen)
        return None if found.action is Action.NOTHING else found

    def submit(self, draft: Draft) -> Future[Judgement | None]:
        """Hand a draft to the recorder."""
        return self._recorder.submit(lambda: self.finish(draft))

    def settled(self, draft: Draft, judgement: Judgement) -> None:
        """Bring the device in memory up to what was committed."""
        self._devices.judged(draft.record, judgement)

    def answer(self, draft: Draft, judgement: Judgement, at: datetime) -> dict[str, object]:
        """Return what the device is told."""
        stored, known = judgement.result, draft.record.enrolment.progress
        interval = self._policy.attest_interval
        if draft.record.withdrawn and stored.status < TrustTier.CONTRAINDICATED:
            interval = SOON  # It is well again and will be told to enrol: no need to wait.
        return {
            "status": TrustTier(stored.status).label,
            "allow": stored.allow,
            "reasons": [*stored.reasons],
            "vector": stored.vector,
            "result": stored.ear,
            "next": self._challenges.for_device(stored.device, at),
            "log_known": _log_proven(draft.result),
            "ima_next": next_entry(draft.result, judgement.progress or known),
            "attest_in_s": interval.total_seconds(),
        }

    def attest(self, certificate: bytes, message: bytes, at: datetime) -> dict[str, object]:
        """Run the whole use case, blocking; for doors without an event loop.

        Args:
            certificate: The device's LDevID certificate, DER, verified by TLS.
            message: The evidence.
            at: Now.

        Raises:
            InputError: If the message is malformed.
            ServiceError: If the device may not, or the store cannot.
        """
        record = self._devices.by_certificate(certificate, at, attesting=True)
        for _ in range(MAX_ATTEMPTS):
            draft = self.judge_anew(record, certificate, message, at)
            judgement = self.submit(draft).result()
            if judgement is not None:
                self.settled(draft, judgement)
                return self.answer(draft, judgement, at)
            record = self._devices.by_certificate(certificate, at, fresh=True, attesting=True)
        raise moved_on(record)

    def _new_log(
        self, record: DeviceRecord, result: AttestationResult, evidence: Evidence
    ) -> tuple[bytes, bytes] | None:
        """Return the proven log that was sent whole, unless its device sends too many."""
        log = evidence.firmware_log
        if log is None or log.content is None:
            return None
        try:
            self._logs_kept.admit(record.device, result.at.timestamp())
        except RateLimited:
            return None
        return log.digest, log.content

    def with_log(self, evidence: Evidence, *, from_memory: bool = False) -> Evidence:
        """Put in the log that only a digest was sent of, unless its replay is in memory.

        Raises:
            LogNotInMemory: If ``from_memory``, and it is not.
        """
        log = evidence.firmware_log
        if log is None or log.content is not None:
            return evidence
        if self._replays.get((log.digest, self._banks)) is not None:
            return evidence
        if from_memory:
            raise LogNotInMemory
        content = self._store.firmware_log(log.digest)
        return evidence if content is None else attach_log(evidence, content)


def _log_proven(result: AttestationResult) -> bool:
    """Say whether the log replayed to the quoted values, so that it is worth keeping."""
    return (
        len(result.steps) > _STATE_STEP and result.steps[_STATE_STEP].verdict is StepVerdict.PASSED
    )


def next_entry(result: AttestationResult, progress: RuntimeProgress | None) -> int:
    """Return the first IMA entry that a device should send next time.

    Args:
        result: What was judged last.
        progress: How far its list is proven, of whichever boot.

    Returns:
        0, the whole list, if nothing is proven of the boot that was quoted.
    """
    if progress is None:
        return 0
    rebooted = result.clock is not None and result.clock.reset_count != progress.reset_count
    return 0 if rebooted else progress.entries


def moved_on(record: DeviceRecord) -> Conflict:
    """Return the refusal when a device's row changes faster than we can judge."""
    return Conflict(
        RefusalCode.CONFLICT,
        f"device {record.device} is sending evidence from several places at once; try again",
    )
