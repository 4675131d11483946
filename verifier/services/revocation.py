"""Revocation: from an event to what falls, by the owner's policy, in one transaction each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from attestation.errors import InputError
from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from verifier.errors import NotFound
from verifier.issuance.reasons import Reason, may_take_the_place
from verifier.issuance.revocation_policy import (
    UNKNOWN_EVENT,
    Action,
    Consequence,
    Event,
    RevocationPolicy,
)
from verifier.ports import Store
from verifier.ports.credentials import CredentialKind, StoredCertificate
from verifier.services.devices import unknown_device

PAGE: Final = 200

_SHA256_CHARS: Final = 64
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an event.

    Attributes:
        event: The event, or ``revocation-event-unknown``.
        action: What the policy says.
        revoked: Certificates that were revoked.
    """

    event: str
    action: Action
    revoked: int


class Revocation:
    """The use case, for the operator's commands and for the upkeep.

    Args:
        store: The store.
        policy: What follows from what.
        page: What one round of the upkeep takes at once, so that others can write between.
    """

    def __init__(self, store: Store, policy: RevocationPolicy, page: int = PAGE) -> None:
        self._page = page
        self._store = store
        self._policy = policy
        self._swept = ""

    # --- told by an operator -------------------------------------------------------------------
    def holder(
        self,
        event: str,
        name: str,
        at: datetime,
        *,
        agent: str = "",
        why: str = "",
        reason: Reason | None = None,
    ) -> Outcome:
        """Let an event happen to a device, or to one of its agents.

        Args:
            event: The event's name.
            name: The device.
            at: Now.
            agent: The agent; empty for the device.
            why: For people.
            reason: In place of the policy's own.

        Raises:
            NotFound: ``device-unknown``, ``agent-unknown``.
        """
        device = device_id(name)
        if self._store.device(device) is None:
            raise unknown_device(name)
        if agent and self._store.agent(device, agent) is None:
            raise NotFound(
                RefusalCode.AGENT_UNKNOWN, f"device {device} has no agent {agent[:64]!r}"
            )
        found = _by(reason, self._policy.consequence(event, why))
        with self._store.work() as work:
            count = work.carry_out(found, device, at, agent=agent)
        return Outcome(event=found.event, action=found.action, revoked=count)

    def certificate(
        self,
        event: str,
        one: StoredCertificate,
        at: datetime,
        *,
        why: str = "",
        reason: Reason | None = None,
    ) -> Outcome:
        """Let an event happen to one certificate; its holder stays enrolled, whatever is said.

        Args:
            event: The event's name.
            one: The certificate.
            at: Now.
            why: For people.
            reason: In place of the policy's own.
        """
        found = _by(reason, self._policy.consequence(event, why))
        subject = f"{one.certificate.serial:x}"
        count = 0
        with self._store.work() as work:
            if found.action in (Action.REVOKE_CERTIFICATES, Action.REVOKE_HOLDER):
                count = work.revoke_certificate(
                    one.certificate.sha256, found.reason.value, found.why, at
                )
            if found.action is Action.ALARM or (found.alarm and count):
                work.raise_alarm(found.event, subject, found.why, at)
        return Outcome(event=found.event, action=found.action, revoked=int(count))

    def revocable(
        self, event: str, found: Sequence[StoredCertificate], reason: Reason | None = None
    ) -> list[StoredCertificate]:
        """Return which of several certificates an event would revoke.

        Args:
            event: The event's name.
            found: From :meth:`find`.
            reason: In place of the policy's own.

        Returns:
            Those in force. If there are none, those that were revoked for less: a certificate is
            revoked anew for a key that is in other hands.
        """
        in_force = [one for one in found if one.revoked_at is None]
        code = _by(reason, self._policy.consequence(event, "")).reason
        return in_force or [one for one in found if may_take_the_place(code, one.revoked_code)]

    def find(self, name: str) -> list[StoredCertificate]:
        """Return certificates by serial number, SHA-256, device, ``device/agent`` or SPIFFE id.

        Raises:
            NotFound: ``certificate-unknown``.
        """
        found = self._named(name.strip().lower().replace(":", "")) or self._held(name.strip())
        if not found:
            raise NotFound(
                RefusalCode.CERTIFICATE_UNKNOWN,
                f"no certificate of ours is {name[:100]!r}; give a serial number or SHA-256 "
                "(hexadecimal), a device, device/agent, or SPIFFE id",
            )
        return found

    def _named(self, text: str) -> list[StoredCertificate]:
        if not _HEXADECIMAL.fullmatch(text):
            return []
        one = self._store.certificate_by_serial(int(text, 16))
        if one is None and len(text) == _SHA256_CHARS:
            one = self._store.certificate(bytes.fromhex(text))
        return [one] if one else []

    def _held(self, name: str) -> list[StoredCertificate]:
        path = name.partition("/device/")[2] if name.startswith("spiffe://") else name
        first, _, rest = path.partition("/")
        agent = rest.removeprefix("agent/")
        try:
            device = device_id(first)
        except InputError:
            return []
        found = self.of_device(device)
        if not rest:
            return [one for one in found if one.certificate.kind is CredentialKind.DEVICE]
        return [one for one in found if one.certificate.agent == agent]

    def of_device(self, device: DeviceId) -> list[StoredCertificate]:
        """Return every certificate of a device and its agents, in order of issuance."""
        found: list[StoredCertificate] = []
        while page := self._store.certificates(
            device=device, after=found[-1].number if found else 0, limit=PAGE
        ):
            found.extend(page)
        return found

    # --- what time brings ----------------------------------------------------------------------
    def tend(self, at: datetime) -> int:
        """Do what has become due; returns how many certificates were revoked.

        Raises:
            Unavailable: If the store cannot; what was not done stays due.
        """
        return self._end_certificates(at) + self._decommission(at)

    def _end_certificates(self, at: datetime) -> int:
        """Revoke older certificates whose time beside their successor is over."""
        found = self._policy.consequence(Event.KEY_ROTATION, "a newer certificate took over")
        due = self._store.due(at, self._page)
        if not due or self._untold(found, at):
            return 0
        with self._store.work() as work:
            return sum(
                work.revoke_certificate(one.certificate.sha256, found.reason.value, found.why, at)
                for one in due
            )

    def _decommission(self, at: datetime) -> int:
        """Revoke devices and agents whose planned end has come; a device takes its agents along."""
        found = self._policy.consequence(Event.DECOMMISSION, "its planned end has come")
        devices = self._store.devices_due(at, self._page)
        agents = self._store.agents_due(at, self._page)
        if not (devices or agents) or self._untold(found, at):
            return 0
        with self._store.work() as work:
            count = sum(work.carry_out(found, one, at) for one in devices)
            return count + sum(
                work.carry_out(found, one.device, at, agent=one.name)
                for one in agents
                if one.device not in devices
            )

    def sweep(self, at: datetime) -> int:
        """Look at the next devices for stale ones; returns how many certificates were revoked.

        Raises:
            Unavailable: If the store cannot.
        """
        rule = self._policy.rules.get(Event.STALE)
        if rule is None or rule.after is None or rule.action is Action.NOTHING:
            return 0
        # Where an alarm is all that follows, the device stays stale: it is told once.
        untold = Event.STALE.value if rule.action is Action.ALARM else ""
        stale = self._store.stale_devices(
            at - rule.after, after=self._swept, limit=self._page, untold=untold
        )
        self._swept = stale[-1] if len(stale) == self._page else ""
        if not stale:
            return 0
        hours = rule.after.total_seconds() / 3600
        found = self._policy.consequence(Event.STALE, f"no believable result for {hours:.0f} hours")
        with self._store.work() as work:
            return sum(work.carry_out(found, device, at) for device in stale)

    @property
    def sweeping(self) -> bool:
        """Whether a look through the devices is under way: the next page waits."""
        return bool(self._swept)

    def _untold(self, found: Consequence, at: datetime) -> bool:
        """Raise the alarm for an event that the policy is silent on; once, not for each subject."""
        if found.event != UNKNOWN_EVENT:
            return False
        with self._store.work() as work:
            work.raise_alarm(found.event, self._policy.id, found.why, at)
        return True


def _by(reason: Reason | None, found: Consequence) -> Consequence:
    return found if reason is None else replace(found, reason=reason)
