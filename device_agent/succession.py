"""What replaces an LDevID: renewal of its certificate, exchange of its key. Pure.

An exchange goes to and fro between two slots of the TPM, and at every moment one identity works::

    credential (slot A)                              a new key is made in slot B and certified
    credential (A), candidate (B)      written       attests with the candidate
    credential (B), retiring A         written       a judgement came: the candidate works
    credential (B)                     written       the key in A is evicted

Killed between two lines, the next start goes on from the line that was written. A key in the other
slot that no line names is evicted before the next one is made. If the verifier does not take the
candidate, the device goes on with what it had.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from attestation.refusals import RefusalCode
from device_agent.lifecycle import (
    Credential,
    Fault,
    Moment,
    State,
    iso,
)
from device_agent.pacing import Renewal
from device_agent.ports import EnrolmentReply

_LATE: Final = 0.75
"""A certificate whose renewal is not planned is worried about after this share of its life."""

_GRACE: Final = 0.05
"""A renewal may be late by this share of the certificate's life before anybody is warned."""


def renewal_due(state: State, moment: Moment, renewal: Renewal) -> bool:
    """Say whether the certificate in use is to be renewed now."""
    credential = state.credential
    if credential is None or state.candidate is not None:
        return False
    return moment.at >= (state.renew_at or credential.renew_from(renewal, moment.jitter))


def rotation_due(state: State, moment: Moment, renewal: Renewal) -> bool:
    """Say whether the key in use is to be exchanged now."""
    credential = state.credential
    if credential is None or state.candidate is not None:
        return False
    due = credential.rotate_from(renewal)
    if due is None or moment.at < due:
        return False
    return state.rotate_at is None or moment.at >= state.rotate_at


def credential_of(state: State, reply: EnrolmentReply, moment: Moment) -> Credential:
    """Return what an enrolment gave, in the slot that it was asked for."""
    before = state.credential
    slot = state.slot
    since = moment.at
    if state.rotating and before is not None:
        slot = before.slot.other_slot
    elif before is not None and before.slot is slot:
        since = before.key_since or before.obtained_at
    return Credential(
        device_id=reply.device_id,
        certificate_chain_pem=reply.certificate_chain_pem,
        obtained_at=moment.at,
        not_after=reply.not_after,
        not_before=reply.not_before,
        slot=slot,
        key_since=since,
    )


def take(state: State, reply: EnrolmentReply, moment: Moment, renewal: Renewal) -> State:
    """Take what an enrolment gave: for a new key as candidate, else in place of what was."""
    credential = credential_of(state, reply, moment)
    if state.rotating and state.credential is not None:
        # What was to be evicted from that slot is gone: the new key was made in its place.
        kept = None if state.retiring is credential.slot else state.retiring
        return replace(state, candidate=credential, rotating=False, retiring=kept)
    dropped = state.candidate.slot if state.candidate is not None else state.retiring
    return replace(
        state,
        credential=credential,
        candidate=None,
        rotating=False,
        retiring=dropped,
        renew_at=credential.renew_from(renewal, moment.jitter),
        renew_failures=0,
        renewal_fault=None,
    )


def proven(state: State, moment: Moment, renewal: Renewal) -> State:
    """Put a candidate that works in place of what was, whose key is to go."""
    candidate = state.candidate
    if candidate is None:
        return state
    return replace(
        state,
        credential=candidate,
        candidate=None,
        slot=candidate.slot,
        retiring=candidate.slot.other_slot,
        renew_at=candidate.renew_from(renewal, moment.jitter),
        rotate_at=None,
        renew_failures=0,
        renewal_fault=None,
    )


def given_up(state: State, pause_s: float, moment: Moment) -> State:
    """Drop a candidate that the verifier does not take; its key is to go."""
    candidate = state.candidate
    if candidate is None:
        return state
    return replace(
        postponed(replace(state, rotating=True), pause_s, moment),
        candidate=None,
        retiring=candidate.slot,
        log_known=False,
        ima_next=0,
    )


def postponed(state: State, pause_s: float, moment: Moment) -> State:
    """Try a renewal or exchange that failed again later; the state's fault says why it failed."""
    later = moment.at + timedelta(seconds=pause_s)
    return replace(
        state,
        rotating=False,
        rotate_at=later if state.rotating else state.rotate_at,
        renew_at=state.renew_at if state.rotating else later,
        renew_failures=state.renew_failures + 1,
        renewal_fault=state.fault,
    )


def settled(state: State, moment: Moment, renewal: Renewal) -> State:
    """Count anew from now what a clock that was ahead has dated into the future."""
    return replace(
        state,
        credential=_settled(state.credential, moment),
        candidate=_settled(state.candidate, moment),
        renew_at=_planned(state, moment, renewal),
    )


def _settled(credential: Credential | None, moment: Moment) -> Credential | None:
    if credential is None or credential.obtained_at <= moment.at:
        return credential
    since = credential.key_since
    return replace(
        credential,
        obtained_at=moment.at,
        key_since=None if since is None else min(since, moment.at),
    )


def _planned(state: State, moment: Moment, renewal: Renewal) -> datetime | None:
    """Return the planned renewal; planned anew if the clock went back since it was planned."""
    credential = state.credential
    if credential is None or credential.obtained_at <= moment.at:
        return state.renew_at
    return replace(credential, obtained_at=moment.at).renew_from(renewal, moment.jitter)


def worry(
    credential: Credential, renew_at: datetime | None, fault: Fault | None, at: datetime
) -> str:
    """Say in words, while there is time, that a certificate may end before it is renewed.

    Args:
        credential: The certificate in use.
        renew_at: When it was to be renewed; None if that is not known.
        fault: Why the last renewal failed; None if none did.
        at: Now.

    Returns:
        Empty if all is well.
    """
    left = credential.not_after - at
    if left <= timedelta(0):
        return "it has ended"
    why = f"the last renewal failed: {fault.code}: {fault.reason}" if fault else ""
    due = renew_at or credential.begins + credential.life * _LATE
    overdue = at > due + credential.life * _GRACE
    if not why and not overdue:
        return ""
    return f"it ends in {span(left)}; {why or f'its renewal was due {iso(due)}'}"


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units, e.g. ``3 d 4 h``."""
    seconds = max(0, int(length.total_seconds()))
    parts = (
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    )
    first = next((index for index, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])


def ended(credential: Credential, moment: Moment) -> Fault:
    """Say that a certificate has ended before it was renewed."""
    reason = (
        f"the LDevID certificate ended {iso(credential.not_after)} and was not renewed before; "
        "enrolling anew with the manufacturer's identity"
    )
    return Fault(code=RefusalCode.CERTIFICATE_EXPIRED, reason=reason, at=moment.at)


def clock_words(error: str) -> str:
    """Return the reason for a clock that is far off."""
    return (
        f"this machine's clock is {error}; let NTP set it: the certificate rests until then, and "
        "nothing is attested"
    )
