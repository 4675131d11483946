"""Revocation policies as TOML text; every key is known or refused by its name and line.

``docs/revocation.md`` explains every key; ``verifier/policies/revocation-default.toml`` is one.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from verifier.appraisal.policy_table import Table, invalid, nearest
from verifier.issuance.reasons import WORDS, Reason
from verifier.issuance.revocation_policy import (
    OWN_PREFIX,
    Action,
    Event,
    Holder,
    RevocationPolicy,
    Rule,
)
from verifier.issuance.rule_text import read_rules

MAX_POLICY_CHARS: Final = 256 * 1024
"""A revocation policy is written and read by people."""

MAX_EVENTS: Final = 256

_TOP: Final = ("id", "description", "events")
_KEYS: Final = ("action", "of", "reason", "alarm", "after_hours")
_OWN: Final = re.compile(r"x-[a-z0-9](?:[a-z0-9-]{0,59}[a-z0-9])?")
_MAX_HOURS: Final = 24 * 3660
_ONLY: Final = {
    Event.KEY_ROTATION: Action.REVOKE_CERTIFICATES,
    Event.DECOMMISSION: Action.REVOKE_HOLDER,
    Event.OPERATOR: Action.REVOKE_HOLDER,
}
"""A planned end is an end: how late it comes is the enrolment class's to say. And whoever types
``verifier revoke`` has decided: a file must not make less of it."""

_REVOKING: Final = frozenset({Action.REVOKE_CERTIFICATES, Action.REVOKE_HOLDER})


def load_revocation_policy(text: str, origin: str) -> RevocationPolicy:
    """Read one revocation policy.

    Args:
        text: TOML.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``policy-invalid`` if it is not TOML, empty, has an unknown key or event,
            or a value that does not fit; the message names the key and its line.
    """
    return read_rules(text, origin, _policy, most=MAX_POLICY_CHARS, structure="revocation policy")


def _policy(table: Table) -> RevocationPolicy:
    table.only(_TOP)
    events = table.table("events")
    if not events.items:
        raise invalid("events", "no event is there; without rules nothing would ever be revoked")
    if len(events.items) > MAX_EVENTS:
        raise invalid("events", f"more than {MAX_EVENTS} events")
    return RevocationPolicy(
        id=table.text("id"),
        description=table.text("description") if "description" in table.items else "",
        rules={name: _rule(name, events) for name in events.items},
    )


def _rule(name: str, events: Table) -> Rule:
    known = [event.value for event in Event]
    if name not in known and not _OWN.fullmatch(name):
        raise invalid(
            events.where(name),
            f"no such event{nearest(name, known)}; known are {', '.join(known)}, and your own "
            f"begin with {OWN_PREFIX}",
        )
    table = events.table(name, _KEYS)
    action = table.word("action", Action, None)
    only = _ONLY.get(Event(name)) if name in known else None
    if only is not None and action is not only:
        raise invalid(table.where("action"), f"{name} can only be {only.value}")
    if action not in _REVOKING:
        for key in ("of", "reason"):
            if key in table.items:
                raise invalid(table.where(key), f"{action.value} revokes nothing; take it out")
    return Rule(
        action=action,
        of=_holders(table, action),
        reason=_reason(table),
        alarm=table.flag("alarm", default=False),
        after=_bound(name, table),
    )


def _holders(table: Table, action: Action) -> frozenset[Holder]:
    if action is Action.REVOKE_HOLDER and "of" in table.items:
        raise invalid(table.where("of"), "whoever is revoked loses all certificates; take it out")
    words = [one.value for one in Holder]
    found = set()
    for number, word in enumerate(table.texts("of"), 1):
        if word not in words:
            raise invalid(
                f"{table.where('of')}[{number}]",
                f"{word[:40]!r} is none of {', '.join(words)}{nearest(word, words)}",
            )
        found.add(Holder(word))
    return frozenset(found) or frozenset(Holder)


def _reason(table: Table) -> Reason:
    if "reason" not in table.items:
        return Reason.UNSPECIFIED
    word = table.text("reason")
    if word not in WORDS:
        raise invalid(
            table.where("reason"),
            f"{word[:40]!r} is none of {', '.join(WORDS)}{nearest(word, WORDS)}",
        )
    return WORDS[word]


def _bound(name: str, table: Table) -> timedelta | None:
    if name != Event.STALE:
        if "after_hours" in table.items:
            raise invalid(table.where("after_hours"), f"only {Event.STALE.value} has a bound")
        return None
    hours = table.number("after_hours", 1, _MAX_HOURS)
    if hours is None:
        raise invalid(table.where("after_hours"), "wanted the hours after which a device is stale")
    return timedelta(hours=hours)
