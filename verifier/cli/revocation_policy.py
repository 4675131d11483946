"""``verifier revocation-policy list``, ``show`` and ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.cli.reference_values import read_text
from verifier.issuance.revocation_policy import Action, RevocationPolicy, Rule
from verifier.issuance.revocation_policy_file import load_revocation_policy
from verifier.sources import packaged_revocation_policies, revocation_policy_named

revocation_policy = typer.Typer(no_args_is_help=True, help="What leads to revocation.")


@revocation_policy.command("list")
def list_policies(*, as_json: Json = False) -> None:
    """List the packaged revocation policies."""
    chosen = context.settings().policy.revocation
    rows = [
        (name, revocation_policy_named(name).description, "in force" if name == chosen else "")
        for name in packaged_revocation_policies()
    ]
    if as_json:
        output.say_json(
            [{"name": row[0], "description": row[1], "in_force": bool(row[2])} for row in rows]
        )
    else:
        output.say_table(("name", "description", "state"), rows)


@revocation_policy.command()
def show(
    name: Annotated[str, typer.Argument(help="A packaged policy or a file; default: ours.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Show a revocation policy: the configured one, or the one that is named."""
    if name:
        _tell(revocation_policy_named(name), as_json=as_json)
        return
    named = context.settings().policy.revocation
    _tell(revocation_policy_named(named, "policy.revocation "), as_json=as_json)


@revocation_policy.command()
def check(
    file: Annotated[Path, typer.Argument(readable=False, help="A revocation policy (TOML).")],
    *,
    as_json: Json = False,
) -> None:
    """Check a policy file and show it. Exit code 2 and one line if it is wrong."""
    _tell(load_revocation_policy(read_text(file), str(file)), as_json=as_json)


def _tell(policy: RevocationPolicy, *, as_json: bool) -> None:
    if as_json:
        output.say_json(
            {
                "id": policy.id,
                "description": policy.description,
                "events": {name: _document(rule) for name, rule in policy.rules.items()},
            }
        )
        return
    output.say(f"id: {policy.id}")
    if policy.description:
        output.say(f"description: {policy.description}")
    rows = []
    for name, rule in policy.rules.items():
        told = _document(rule)
        of = told.get("of", ())
        rows.append(
            (
                name,
                rule.action.value,
                ",".join(map(str, of)) if isinstance(of, list) else "",
                told.get("reason", ""),
                told.get("after_hours", ""),
                "yes" if rule.alarm or rule.action is Action.ALARM else "no",
            )
        )
    output.say_table(("event", "action", "of", "reason", "after hours", "alarm"), rows)
    output.say("any other event: alarm")


def _document(rule: Rule) -> dict[str, object]:
    told: dict[str, object] = {"action": rule.action.value, "alarm": rule.alarm}
    if rule.action in (Action.REVOKE_CERTIFICATES, Action.REVOKE_HOLDER):
        told["reason"] = rule.reason.word
    if rule.action is Action.REVOKE_CERTIFICATES:
        told["of"] = sorted(one.value for one in rule.of)
    if rule.after is not None:
        told["after_hours"] = rule.after.total_seconds() / 3600
    return told
