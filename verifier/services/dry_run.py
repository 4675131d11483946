"""Dry run: which devices would change status if a policy or reference values went live.

Each device's last stored evidence is judged twice, as of the moment when it came: under the terms
in use and under the proposed ones. Nothing is written. What cannot be judged again is said, device
by device, rather than guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from attestation.errors import AttestationError
from attestation.evidence import Evidence
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, TrustTier
from attestation.wire.evidence_codec import decode_evidence
from verifier.appraisal.appraise import appraise
from verifier.appraisal.freshness import ExpectedNonce
from verifier.appraisal.measured_state import attach_log
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.appraisal.replay_cache import ReplayCache
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.ports import DeviceReader, DeviceRecord, StoredResult
from verifier.reference_values.model import ReferenceLibrary, ReferenceSet, library_at

PAGE: Final = 100
"""Devices read from the store at once."""

_PROOF_STEPS: Final = 3
"""Signature, binding and freshness: without them an evidence says nothing of its device."""

_IN_PIECES: Final = (
    "its last evidence holds only the newest piece of its IMA list, which another runtime policy "
    "cannot be held against. It is judged when the list comes whole: after its next boot, or when "
    "its device-agent starts again"
)


class NotJudged(Exception):
    """A device's last evidence cannot be judged again; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What evidence is judged by.

    Attributes:
        policy: The appraisal policy.
        reference: Everything known-good, for the moment of the dry run.
    """

    policy: AppraisalPolicy
    reference: ReferenceLibrary


class Change(StrEnum):
    """What a device's status would do."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device.

    Attributes:
        device: Its id.
        change: What its status would do.
        before: Its status under the terms in use; None if it was not judged.
        after: Its status under the proposed terms; None if it was not judged.
        reason: The first reason that is new or gone, or why it was not judged; may be empty.
    """

    device: str
    change: Change
    before: TrustTier | None
    after: TrustTier | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A fleet counted: devices by what their status would do."""

    same: int
    better: int
    worse: int
    not_judged: int


def summarise(rows: Iterable[Row]) -> Summary:
    """Count rows."""
    counts = dict.fromkeys(Change, 0)
    for row in rows:
        counts[row.change] += 1
    return Summary(
        same=counts[Change.SAME],
        better=counts[Change.BETTER],
        worse=counts[Change.WORSE],
        not_judged=counts[Change.NOT_JUDGED],
    )


def with_sets(
    present: ReferenceLibrary, sets: Iterable[ReferenceSet], at: datetime
) -> ReferenceLibrary:
    """Return a library with other reference sets, as it would be at a moment (aware).

    Raises:
        InputError: If the sets make no library.
    """
    return library_at(at, sets, present.runtime, present.aiboms).library


class DryRun:
    """The use case.

    Args:
        store: Where devices and their last evidence are; only read.
        anchors: The manufacturers trusted now.
        present: What is in use.
        proposed: What might be.
    """

    def __init__(
        self, store: DeviceReader, anchors: TrustAnchors, present: Terms, proposed: Terms
    ) -> None:
        self._store = store
        self._anchors = anchors
        self._present = present
        self._proposed = proposed
        self._replays = ReplayCache()

    def rows(self) -> Iterator[Row]:
        """Judge every enrolled device, in order of id.

        Raises:
            Unavailable: If the store cannot be read.
        """
        after = ""
        while page := self._store.devices(after=after, limit=PAGE):
            newest = self._store.newest_results([record.device for record in page])
            for record in page:
                yield self._row(record, newest.get(record.device))
            after = page[-1].device

    def _row(self, record: DeviceRecord, newest: StoredResult | None) -> Row:
        try:
            evidence, at = self._evidence(record, newest)
            before = self._judge(record, evidence, self._present, at)
            after = self._judge(record, evidence, self._proposed, at)
        except NotJudged as why:
            return _not_judged(record, str(why))
        except AttestationError as error:
            apart = error.code is RefusalCode.IMA_OFFSET_UNKNOWN
            return _not_judged(record, _IN_PIECES if apart else error.reason)
        return _compared(record, before, after)

    def _evidence(
        self, record: DeviceRecord, newest: StoredResult | None
    ) -> tuple[Evidence, datetime]:
        message = self._store.last_evidence(record.device)
        if newest is None or not message:
            raise NotJudged("it has sent no evidence yet")
        for number, step, verdict, detail in newest.steps[:_PROOF_STEPS]:
            if verdict != "passed":
                raise NotJudged(
                    f"its last evidence proves nothing: step {number} ({step}) {verdict}: {detail}"
                )
        if hashlib.sha256(message).digest() != newest.evidence_sha256:
            raise NotJudged("it has sent other evidence meanwhile; run this again")
        evidence = decode_evidence(message)
        log = evidence.firmware_log
        if log is not None and log.content is None:
            content = self._store.firmware_log(log.digest)
            if content is None:
                raise NotJudged("the firmware log that its last evidence names is not kept here")
            evidence = attach_log(evidence, content)
        self._require_whole(evidence)
        return evidence, newest.at

    def _require_whole(self, evidence: Evidence) -> None:
        """Refuse what was not asked for when the evidence was made."""
        list_anew = self._proposed.policy.runtime is not None and (
            self._present.policy.runtime is None
        )
        if list_anew and evidence.ima_list is None:
            raise NotJudged("it was not asked for its IMA list yet")
        asked_anew = self._proposed.policy.agent is not None and self._present.policy.agent is None
        if asked_anew and evidence.agent_log is None:
            raise NotJudged("it was not asked for its agent log yet")

    def _judge(
        self, record: DeviceRecord, evidence: Evidence, terms: Terms, at: datetime
    ) -> AttestationResult:
        result = appraise(
            evidence,
            challenge=ExpectedNonce(nonce=evidence.nonce),
            enrolment=replace(
                record.enrolment,
                last_seen=None,
                progress=self._store.progress_before(record.device),
            ),
            anchors=self._anchors,
            reference=terms.reference,
            policy=terms.policy,
            at=at,
            replays=self._replays,
        )
        if any(one.code == RefusalCode.PCR_SELECTION_WRONG for one in result.findings):
            raise NotJudged(
                f"its last evidence quotes other PCRs than {terms.policy.id} asks for "
                f"({terms.policy.selection_text})"
            )
        return result


def _compared(record: DeviceRecord, before: AttestationResult, after: AttestationResult) -> Row:
    change, reason = Change.SAME, ""
    if after.status > before.status:
        change = Change.WORSE
        reason = _first_new(after.reasons, before.reasons)
    elif after.status < before.status:
        change = Change.BETTER
        reason = "no longer " + _first_new(before.reasons, after.reasons)
    return Row(
        device=record.device, change=change, before=before.status, after=after.status, reason=reason
    )


def _first_new(reasons: tuple[str, ...], known: tuple[str, ...]) -> str:
    return next((one for one in reasons if one not in known), reasons[0] if reasons else "")


def _not_judged(record: DeviceRecord, why: str) -> Row:
    return Row(device=record.device, change=Change.NOT_JUDGED, before=None, after=None, reason=why)
