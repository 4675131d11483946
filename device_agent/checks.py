"""What a check of ``device-agent check`` is, and those of keys, certificates and the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509

from attestation.errors import AttestationError
from attestation.tpm.public import parse_public
from device_agent.agents import AgentRecord, troubles
from device_agent.errors import DeviceAgentError
from device_agent.lifecycle import iso
from device_agent.ports import LDEVID_SLOTS, KeyRole, Tpm
from device_agent.state.files import SavedState
from device_agent.succession import span, worry

_SKEW_WARN: Final = timedelta(seconds=30)
_SKEW_FAIL: Final = timedelta(minutes=5)


class Grade(StrEnum):
    """How one check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One prerequisite.

    Attributes:
        name: What was looked at.
        grade: ``ok``, ``warn`` (works, but look) or ``fail``.
        reason: What was seen.
        mend: What to do; empty when nothing need be done.
    """

    name: str
    grade: Grade
    reason: str
    mend: str = ""


def failure(name: str, error: DeviceAgentError, mend: str) -> Check:
    """Return the check that ended with an error."""
    return Check(name=name, grade=Grade.FAIL, reason=f"{error.code}: {error.reason}", mend=mend)


def check_keys(tpm: Tpm, saved: SavedState | None, *, with_idevid: bool = True) -> Iterator[Check]:
    """Look for the device's keys and the manufacturer's certificates.

    Args:
        tpm: The device's TPM.
        saved: The state file; None without one.
        with_idevid: Whether the device enrols by the manufacturer's identity.
    """
    named = _named_slots(saved)
    for role in KeyRole:
        if role is KeyRole.IDEVID and not with_idevid:
            continue
        try:
            if role is KeyRole.IAK and not with_idevid:
                yield _own_iak(tpm)
            elif role.is_ldevid and role not in named:
                yield from _other_slot(tpm, role)
            else:
                yield from _key(tpm, role)
        except DeviceAgentError as error:
            yield failure(f"key {role}", error, "see the reason")


def _named_slots(saved: SavedState | None) -> tuple[KeyRole, ...]:
    """Return the slots whose keys the state knows of."""
    if saved is None:
        return (KeyRole.LDEVID,)
    known = [each.slot for each in (saved.credential, saved.candidate) if each is not None]
    return (*known, saved.slot)


def _other_slot(tpm: Tpm, role: KeyRole) -> Iterator[Check]:
    if tpm.has_key(role):
        yield Check(
            name=f"key {role}",
            grade=Grade.OK,
            reason="left over; the next exchange of the key evicts it",
        )


def _own_iak(tpm: Tpm) -> Check:
    if tpm.has_key(KeyRole.IAK):
        return Check(name="key iak", grade=Grade.OK, reason="in the TPM")
    return Check(
        name="key iak", grade=Grade.WARN, reason="not in the TPM", mend="enrolment makes it"
    )


def _key(tpm: Tpm, role: KeyRole) -> Iterator[Check]:
    if not tpm.has_key(role):
        late = role.is_ldevid
        yield Check(
            name=f"key {role}",
            grade=Grade.WARN if late else Grade.FAIL,
            reason="not in the TPM",
            mend="enrolment makes it" if late else f"device-agent factory, or tpm.{role}_handle",
        )
        return
    yield Check(name=f"key {role}", grade=Grade.OK, reason="in the TPM")
    if role not in LDEVID_SLOTS:
        yield _manufacturer_certificate(tpm, role)


def _manufacturer_certificate(tpm: Tpm, role: KeyRole) -> Check:
    name, mend = f"certificate {role}", "device-agent factory install"
    der = tpm.certificate(role)
    if der is None:
        return Check(name=name, grade=Grade.FAIL, reason="not in NV", mend=mend)
    try:
        certificate = x509.load_der_x509_certificate(der)
        same = parse_public(tpm.public_area(role)).key == certificate.public_key()
    except (ValueError, AttestationError) as error:
        return Check(name=name, grade=Grade.FAIL, reason=f"cannot be read: {error}", mend=mend)
    if not same:
        reason = "is for another key than the one in this TPM"
        return Check(name=name, grade=Grade.FAIL, reason=reason, mend=mend)
    subject = certificate.subject.rfc4514_string()
    return Check(name=name, grade=Grade.OK, reason=f"{subject}, for this TPM's key")


def check_clock(ours: datetime, theirs: datetime) -> Check:
    """Hold our clock against the verifier's."""
    skew = abs(ours - theirs)
    grade = Grade.OK
    if skew > _SKEW_WARN:
        grade = Grade.FAIL if skew > _SKEW_FAIL else Grade.WARN
    return Check(
        name="clock",
        grade=grade,
        reason=f"{skew.total_seconds():.0f} s from the verifier's",
        mend="" if grade is Grade.OK else "let NTP set the clock; certificates depend on it",
    )


def check_enrolment(saved: SavedState | None, now: datetime) -> Check:
    """Look at the LDevID certificate: there, in force, and renewed in time."""
    credential = (saved.candidate or saved.credential) if saved else None
    if saved is None or credential is None:
        return Check(
            name="enrolment",
            grade=Grade.WARN,
            reason="not enrolled",
            mend="start the daemon, or device-agent enrol",
        )
    words = f"{credential.device_id}, certificate until {credential.not_after.isoformat()}"
    if saved.renew_at is not None:
        words += f", renewal {iso(saved.renew_at)}"
    words += f", key {span(now - (credential.key_since or credential.obtained_at))} old"
    if credential.not_after <= now:
        mend = "start the daemon: it enrols anew; or device-agent enrol"
        return Check(name="enrolment", grade=Grade.FAIL, reason=f"{words}: over", mend=mend)
    trouble = worry(credential, saved.renew_at, saved.renewal_fault, now)
    if not trouble:
        return Check(name="enrolment", grade=Grade.OK, reason=words)
    mend = "mend what the reason names" if saved.renewal_fault else "is the daemon running?"
    return Check(name="enrolment", grade=Grade.WARN, reason=f"{words}; {trouble}", mend=mend)


def check_agents(records: Sequence[AgentRecord], now: datetime) -> Iterator[Check]:
    """Look at the AI agents' certificates; nothing without agents."""
    if not records:
        return
    for trouble in troubles(records, now):
        yield Check(
            name="agent identity",
            grade=Grade.WARN,
            reason=trouble,
            mend="mend what the reason names; then device-agent agent renew NAME",
        )
    certified = sum(record.certified is not None for record in records)
    yield Check(
        name="agent identities",
        grade=Grade.OK,
        reason=f"{certified} of {len(records)} agents have a certificate",
    )
