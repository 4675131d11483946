"""What follows from an event: the owner's revocation policy as values.

:mod:`verifier.issuance.revocation_policy_file` reads one from TOML. An event that the policy says
nothing of raises an alarm (:data:`UNKNOWN_EVENT`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from verifier.issuance.reasons import Reason

UNKNOWN_EVENT: Final = "revocation-event-unknown"
"""The alarm's code for an event without a rule."""

OWN_PREFIX: Final = "x-"
"""How events of the owner's own begin; the operator's commands report them."""

_MAX_WHY: Final = 300


class Event(StrEnum):
    """What we notice ourselves, and the words of the operator's commands."""

    CONTRAINDICATED = "contraindicated"
    """A device's evidence was judged contraindicated."""
    STALE = "stale"
    """A device's newest result ended longer ago than the rule's bound."""
    DECOMMISSION = "decommission"
    """The planned end of an agent has come."""
    KEY_ROTATION = "key-rotation"
    """The time in which an older certificate was good beside its successor is over."""
    OPERATOR = "operator"
    """An operator revoked a device for good."""
    CERTIFICATE = "certificate"
    """An operator revoked one certificate."""
    KEY_COMPROMISE = "key-compromise"
    """An operator says that a key is in other hands."""
    CESSATION = "cessation"
    """An operator says that a device or agent is no longer used."""
    AGENT_REMOVED = "agent-removed"
    """An operator revoked an agent."""


class Action(StrEnum):
    """What follows."""

    REVOKE_CERTIFICATES = "revoke-certificates"
    """The certificates fall; their holder may enrol again once it proves what is asked."""
    REVOKE_HOLDER = "revoke-holder"
    """The device or agent falls for good, and its certificates with it."""
    ALARM = "alarm"
    """An operator is told, and nothing else."""
    NOTHING = "nothing"


class Holder(StrEnum):
    """Whose certificates fall with a device."""

    DEVICE = "device"
    AGENTS = "agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What follows from one event.

    Attributes:
        action: What is done.
        of: Whose certificates are revoked by ``revoke-certificates``.
        reason: The reason in revocation lists.
        alarm: Whether an operator is told beside that.
        after: How long a result must have ended (``stale`` only).
    """

    action: Action
    of: frozenset[Holder] = frozenset(Holder)
    reason: Reason = Reason.UNSPECIFIED
    alarm: bool = False
    after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """A rule that has met its event.

    Attributes:
        event: The event's name; an alarm's code.
        action: What is done.
        of: Whose certificates are revoked.
        reason: The reason in revocation lists.
        why: For people.
        alarm: Whether an operator is told when something was revoked.
    """

    event: str
    action: Action
    of: frozenset[Holder]
    reason: Reason
    why: str
    alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPolicy:
    """The whole policy.

    Attributes:
        id: Its name.
        rules: By event.
        description: For people.
    """

    id: str
    rules: Mapping[str, Rule]
    description: str = ""

    def consequence(self, event: str, why: str) -> Consequence:
        """Return what follows from an event; an alarm if the policy says nothing of it.

        Args:
            event: Its name.
            why: What was seen; for people.
        """
        rule = self.rules.get(event)
        if rule is None:
            return Consequence(
                event=UNKNOWN_EVENT,
                action=Action.ALARM,
                of=frozenset(),
                reason=Reason.UNSPECIFIED,
                why=f"revocation policy {self.id} says nothing of {event!r} ({why[:_MAX_WHY]}); "
                "nothing was revoked. Write a rule, then act by hand where it is due",
                alarm=True,
            )
        return Consequence(
            event=event,
            action=rule.action,
            of=rule.of,
            reason=rule.reason,
            why=f"{event}: {why}"[:_MAX_WHY],
            alarm=rule.alarm,
        )
