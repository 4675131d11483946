"""Revocation policies: what is written is what follows, and mistakes are named by their line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from verifier.issuance.reasons import Reason
from verifier.issuance.revocation_policy import UNKNOWN_EVENT, Action, Event, Holder
from verifier.issuance.revocation_policy_file import MAX_POLICY_CHARS, load_revocation_policy
from verifier.sources import packaged_revocation_policies, revocation_policy_named

HEAD = 'id = "mine"\n'
GOOD = (
    HEAD
    + """
[events.contraindicated]
action = "revoke-certificates"
of = ["agents"]
reason = "privilegeWithdrawn"
alarm = true
[events.stale]
action = "alarm"
after_hours = 48
[events.x-recall]
action = "revoke-holder"
reason = "cessationOfOperation"
"""
)


def test_policy_says_what_follows() -> None:
    policy = load_revocation_policy(GOOD, "mine.toml")

    fallen = policy.consequence("contraindicated", "log-replay-mismatch: PCR 4")

    assert (fallen.action, fallen.of) == (Action.REVOKE_CERTIFICATES, {Holder.AGENTS})
    assert (fallen.reason, fallen.alarm) == (Reason.PRIVILEGE_WITHDRAWN, True)
    assert fallen.why == "contraindicated: log-replay-mismatch: PCR 4"
    assert policy.rules["stale"].after == timedelta(hours=48)
    assert policy.consequence("x-recall", "").action is Action.REVOKE_HOLDER


def test_event_without_a_rule_alarms_and_revokes_nothing() -> None:
    found = load_revocation_policy(GOOD, "mine.toml").consequence("operator", "by hand")

    assert (found.event, found.action, found.of) == (UNKNOWN_EVENT, Action.ALARM, frozenset())
    assert "says nothing of 'operator'" in found.why


def test_packaged_policy_has_a_rule_for_every_event_of_ours() -> None:
    assert packaged_revocation_policies() == ("revocation-default",)
    policy = revocation_policy_named("revocation-default")

    assert set(policy.rules) == set(Event)
    fallen = policy.rules[Event.CONTRAINDICATED]
    assert (fallen.action, fallen.of) == (Action.REVOKE_CERTIFICATES, frozenset(Holder))


MISTAKES = {
    "not-toml": ("id =", "not TOML"),
    "no-events": (HEAD, "events: no event is there"),
    "no-id": ('[events.operator]\naction = "alarm"\n', "id: wanted a text"),
    "unknown-key": (HEAD + "rules = 1\n", "line 2: rules: unknown key"),
    "unknown-event": (
        HEAD + '[events.contraindcated]\naction = "alarm"\n',
        "line 2: events.contraindcated: no such event; did you mean contraindicated?",
    ),
    "operator-made-less-of": (
        HEAD + '[events.operator]\naction = "alarm"\n',
        "line 3: events.operator.action: operator can only be revoke-holder",
    ),
    "no-action": (HEAD + "[events.operator]\nalarm = true\n", "events.operator.action: wanted"),
    "unknown-action": (
        HEAD + '[events.operator]\naction = "revoke"\n',
        "line 3: events.operator.action: wanted",
    ),
    "unknown-reason": (
        HEAD + '[events.operator]\naction = "revoke-holder"\nreason = "superceded"\n',
        "line 4: events.operator.reason: 'superceded' is none of",
    ),
    "hold-is-no-reason": (
        HEAD + '[events.operator]\naction = "revoke-holder"\nreason = "certificateHold"\n',
        "line 4",
    ),
    "reason-of-nothing": (
        HEAD + '[events.certificate]\naction = "alarm"\nreason = "superseded"\n',
        "line 4: events.certificate.reason: alarm revokes nothing",
    ),
    "of-everything": (
        HEAD + '[events.operator]\naction = "revoke-holder"\nof = ["device"]\n',
        "line 4: events.operator.of: whoever is revoked loses all",
    ),
    "unknown-holder": (
        HEAD + '[events.contraindicated]\naction = "revoke-certificates"\nof = ["devise"]\n',
        "'devise' is none of device, agents; did you mean device?",
    ),
    "stale-without-bound": (
        HEAD + '[events.stale]\naction = "alarm"\n',
        "events.stale.after_hours: wanted the hours",
    ),
    "bound-elsewhere": (
        HEAD + '[events.certificate]\naction = "alarm"\nafter_hours = 3\n',
        "line 4: events.certificate.after_hours: only stale has a bound",
    ),
    "endless-overlap": (
        HEAD + '[events.key-rotation]\naction = "nothing"\n',
        "line 3: events.key-rotation.action: key-rotation can only be revoke-certificates",
    ),
    "too-long": (HEAD + "#" * MAX_POLICY_CHARS, "characters, at most"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_by_key_and_line(name: str) -> None:
    text, said = MISTAKES[name]

    with pytest.raises(MalformedInput) as refused:
        load_revocation_policy(text, "mine.toml")

    assert refused.value.code is RefusalCode.POLICY_INVALID
    assert said in refused.value.reason
    assert refused.value.reason.startswith("mine.toml")
