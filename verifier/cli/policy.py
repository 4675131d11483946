"""``verifier policy list``, ``show`` and ``check``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from verifier.appraisal.boot_rules import BootRules
from verifier.appraisal.boot_seen import BootRule
from verifier.appraisal.kernel_words import WordPattern
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_text
from verifier.sources import (
    known_digests,
    load_appraisal_policy,
    packaged_policies,
    packaged_policy,
    policy_named,
)

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415

_MOST_SHOWN: Final = 6
_DIGEST_CHARS: Final = 64

policy = typer.Typer(no_args_is_help=True, help="How evidence is judged.")


def _document(chosen: AppraisalPolicy) -> dict[str, object]:
    return {
        "id": chosen.id,
        "description": chosen.description,
        "pcr_selection": chosen.selection_text,
        "result_lifetime_s": chosen.result_lifetime.total_seconds(),
        "attest_interval_s": chosen.attest_interval.total_seconds(),
        "nonce_ttl_s": chosen.nonce_ttl.total_seconds(),
        "check_event_contents": chosen.check_event_contents,
        "separators": chosen.separators,
        "unreviewed": chosen.unreviewed or "accept",
        "rules": [
            {
                "rule": chosen.rule_names[rule.indices[0]],
                "pcrs": list(rule.indices),
                "claim": rule.claim.value,
                "known": rule.known,
                "unknown": rule.unknown,
                "missing": rule.missing,
                "contradicted": rule.contradicted,
                "match": rule.match.value,
                "coverage": rule.coverage.value,
            }
            for rule in chosen.rules
        ],
        "boot": None if chosen.boot is None else _boot(chosen.boot),
        "ima": None if chosen.runtime is None else _plain(chosen.runtime),
        "agent": None if chosen.agent is None else _plain(chosen.agent),
    }


def _boot(rules: BootRules) -> dict[str, object]:
    """Return ``[boot]``: each rule by its key, with what it asks and what it is worth."""
    told: dict[str, object] = {"unknown_events": rules.unknown_events}
    for rule in rules.rules:
        told[rule.key] = {
            "claim": rule.worth.claim.value,
            "otherwise": rule.worth.otherwise,
            "missing": rule.worth.missing,
            "met": rule.worth.met,
            **_asked(rule),
        }
    return told


def _asked(rule: BootRule) -> dict[str, object]:
    """Return what a boot rule asks, without what it is worth."""
    asked = _plain(rule)
    own = asked if isinstance(asked, dict) else {}
    return {name: value for name, value in own.items() if name not in {"key", "worth"}}


def _in_words(value: object) -> str:
    """Return a part of a policy for people: a long list by its first few."""
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        return " or ".join(" ".join(map(str, one)) for one in value[:_MOST_SHOWN])
    if isinstance(value, list):
        more = len(value) - _MOST_SHOWN
        first = ", ".join(_in_words(one) for one in value[:_MOST_SHOWN]) or "none"
        return first + (f" and {more} more" if more > 0 else "")
    text = str(value)
    return text if len(text) < _DIGEST_CHARS else f"{text[:16]}…"


def _plain(value: object) -> object:
    """Return a rule, or a part of one, as JSON can say it."""
    found: object = value if isinstance(value, bool | int | None) else str(value)
    if isinstance(value, WordPattern):
        found = value.text
    elif isinstance(value, bytes):
        found = value.hex()
    elif isinstance(value, frozenset | tuple | list):
        found = [_plain(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
    elif is_dataclass(value):
        found = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return found


def _tell(chosen: AppraisalPolicy, *, as_json: bool) -> None:
    document = _document(chosen)
    if as_json:
        output.say_json(document)
        return
    for name, value in document.items():
        if name in {"rules", "boot"} or value is None:
            continue
        if isinstance(value, dict):
            for key, one in value.items():
                output.say(f"{name}.{key}: {_in_words(one)}")
        else:
            output.say(f"{name}: {value}")
    rows = [
        (
            chosen.rule_names[rule.indices[0]],
            ",".join(str(pcr) for pcr in rule.indices),
            rule.claim.value,
            rule.known,
            rule.unknown,
            rule.missing,
            rule.coverage.value,
        )
        for rule in chosen.rules
    ]
    output.say_table(("rule", "pcrs", "claim", "known", "unknown", "missing", "coverage"), rows)
    if chosen.boot is not None:
        output.say(f"boot.unknown_events: {chosen.boot.unknown_events}")
        output.say_table(
            ("rule", "claim", "otherwise", "missing", "asks"),
            [
                (
                    f"boot.{rule.key}",
                    rule.worth.claim.value,
                    rule.worth.otherwise,
                    rule.worth.missing,
                    "; ".join(f"{key} {_in_words(one)}" for key, one in _asked(rule).items()),
                )
                for rule in chosen.boot.rules
            ],
        )


@policy.command("list")
def list_policies(*, as_json: Json = False) -> None:
    """List the appraisal policies that come with the verifier."""
    used = context.settings().policy.appraisal
    found = [(name, packaged_policy(name)) for name in packaged_policies()]
    if as_json:
        output.say_json(
            [
                {
                    "name": name,
                    "id": one.id,
                    "description": one.description,
                    "in_use": name == used,
                }
                for name, one in found
            ]
        )
        return
    rows = [(name, "yes" if name == used else "", one.description) for name, one in found]
    output.say_table(("policy", "in use", "description"), rows)


@policy.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A packaged policy or a TOML file; default: the policy in use.")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    """Show the appraisal policy in use, or another."""
    chosen = policy_named(name) if name else load_appraisal_policy(context.settings())
    _tell(chosen, as_json=as_json)


@policy.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(readable=False, help="TOML; default: the policies in use.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check an appraisal policy file, or both policies in use."""
    if file is not None:
        chosen = load_policy(read_text(file), str(file), known_digests())
    else:
        settings = context.settings()
        chosen = load_appraisal_policy(settings)
        from verifier.main import load_engine

        load_engine(settings)
    _tell(chosen, as_json=as_json)
