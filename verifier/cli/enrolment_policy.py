"""``verifier enrolment-policy``: who may enrol, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from verifier.cli import context, output
from verifier.cli.context import Json
from verifier.issuance.enrolment_policy import AgentClass, DeviceClass
from verifier.sources import (
    EnrolmentRules,
    enrolment_rules_named,
    load_anchors,
    load_enrolment_rules,
    packaged_enrolment_policies,
)

enrolment_policy = typer.Typer(no_args_is_help=True, help="Who may enrol, and what must be shown.")


@enrolment_policy.command("list")
def list_policies(*, as_json: Json = False) -> None:
    """List the enrolment policies that come with the verifier."""
    used = context.settings().policy.enrolment
    found = [(name, enrolment_rules_named(name)) for name in packaged_enrolment_policies()]
    if as_json:
        output.say_json(
            [
                {
                    "name": name,
                    "id": one.policy.id,
                    "classes": [inner.name for inner in one.policy.devices],
                    "in_use": name == used,
                }
                for name, one in found
            ]
        )
        return
    output.say_table(
        ("policy", "in use", "classes of devices"),
        [
            (
                name,
                "yes" if name == used else "",
                _words(inner.name for inner in one.policy.devices),
            )
            for name, one in found
        ],
    )


@enrolment_policy.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A packaged policy or a TOML file; default: the policy in use.")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    """Show the enrolment policy in use, or another, with what it rests on."""
    _tell(
        enrolment_rules_named(name) if name else load_enrolment_rules(context.settings()),
        as_json=as_json,
    )


@enrolment_policy.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(readable=False, help="TOML; default: the policy in use.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check an enrolment policy and every file that it names. Exit code 0 if all can be used."""
    if file is not None:
        rules = enrolment_rules_named(str(file))
    else:
        settings = context.settings()
        rules = load_enrolment_rules(settings)
        load_anchors(settings, rules)
    _tell(rules, as_json=as_json)


def _tell(rules: EnrolmentRules, *, as_json: bool) -> None:
    policy = rules.policy
    rests = resting_on(rules)
    if as_json:
        output.say_json(
            {
                "id": policy.id,
                "without_certificate": policy.admits_strangers,
                "rests_on": rests,
                "devices": [_device(one) for one in policy.devices],
                "agents": [_agent(one) for one in policy.agents],
            }
        )
        return
    output.say(f"id: {policy.id}")
    for name, value in rests.items():
        output.say(f"{name}: {value}")
    if policy.admits_strangers:
        output.say("devices without a TLS client certificate may ask to enrol")
    output.say_table(
        ("class", "for", "initial trust", "proofs", "accept", "lifetime"),
        [
            (
                one.name,
                _match(one),
                one.trust.text or "nobody",
                _words(sorted(one.proofs)),
                one.accept.label,
                _days(one.lifetime),
            )
            for one in policy.devices
        ],
    )
    if policy.agents:
        output.say_table(
            ("agent class", "on devices of", "name", "proofs", "scope", "token proof"),
            [
                (
                    one.name,
                    _words(sorted(one.match.device_classes)) or "any class",
                    one.match.name or "any",
                    _words(sorted(one.proofs)),
                    _words(one.scope),
                    one.token_proof.value,
                )
                for one in policy.agents
            ],
        )


def resting_on(rules: EnrolmentRules) -> dict[str, str]:
    """Return what was read of the files that a policy names, in words."""
    sources, told = rules.sources, {}
    if sources.ek_roots is not None:
        told["tpm-ek"] = (
            f"{len(sources.ek_roots.roots)} TPM makers' roots, "
            f"{len(sources.ek_roots.intermediates)} intermediates"
        )
    if sources.listed_eks:
        told["ek-allow-list"] = f"{len(sources.listed_eks)} endorsement keys"
    if sources.aws is not None:
        told["aws-iid"] = (
            f"regions {_words(sorted(sources.aws.keys))}; "
            f"accounts {_words(sorted(sources.aws.accounts))}"
        )
    if sources.azure is not None:
        told["azure-msi"] = (
            f"{len(sources.azure.keys)} keys; issuers {_words(sorted(sources.azure.issuers))}"
        )
    return told


def _device(one: DeviceClass) -> dict[str, object]:
    return {
        "class": one.name,
        "match": {
            "labels": [label or "-" for label in sorted(one.match.labels)],
            "anchors": sorted(digest.hex() for digest in one.match.anchors),
            "serial": one.match.serial,
        },
        "initial_trust": one.trust.text,
        "proofs": sorted(one.proofs),
        "accept": one.accept.label,
        "profile": one.profile,
        "scope": list(one.scope),
        "lifetime_days": None if one.lifetime is None else one.lifetime.days,
        "overlap_hours": one.overlap // timedelta(hours=1),
        "decommission_days": None if one.decommission is None else one.decommission.days,
    }


def _agent(one: AgentClass) -> dict[str, object]:
    return {
        "class": one.name,
        "match": {"device_classes": sorted(one.match.device_classes), "name": one.match.name},
        "proofs": sorted(one.proofs),
        "profile": one.profile,
        "scope": list(one.scope),
        "lifetime_days": None if one.lifetime is None else one.lifetime.days,
        "overlap_hours": one.overlap // timedelta(hours=1),
        "decommission_days": None if one.decommission is None else one.decommission.days,
        "token_proof": one.token_proof.value,
    }


def _match(one: DeviceClass) -> str:
    found = []
    if one.match.labels:
        found.append("label " + " or ".join(label or "-" for label in sorted(one.match.labels)))
    if one.match.anchors:
        found.append("endorsed by " + _words(sorted(a.hex()[:16] for a in one.match.anchors)))
    if one.match.serial:
        found.append(f"serial {one.match.serial}")
    return "; ".join(found) or "every device"


def _days(lifetime: timedelta | None) -> str:
    return "as set" if lifetime is None else f"{lifetime.days} days"


def _words(words: Iterable[str]) -> str:
    return ", ".join(words)
