"""Appraisal policies as TOML text; every key is known or refused by its name and line."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import Final

from attestation.errors import AttestationError, MalformedInput
from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from attestation.result import Claim
from verifier.appraisal.agent import agent_rules
from verifier.appraisal.boot_file import boot_rules
from verifier.appraisal.policy_lines import KeyLines
from verifier.appraisal.policy_model import AppraisalPolicy, Coverage, Match, PcrRule
from verifier.appraisal.policy_table import NO_NAMES, NamedDigests, Table, invalid
from verifier.appraisal.runtime import runtime_rules

_TOP: Final = (
    "id",
    "description",
    "quote",
    "log",
    "lifetimes",
    "reference",
    "names",
    "pcrs",
    "boot",
    "ima",
    "agent",
)
_QUOTE: Final = ("selection",)
_LOG: Final = ("check_event_contents", "separators")
_LIFETIMES: Final = ("result_s", "attest_interval_s", "nonce_ttl_s")
_REFERENCE: Final = ("unreviewed",)
_RULE: Final = (
    "indices",
    "claim",
    "known",
    "unknown",
    "missing",
    "contradicted",
    "match",
    "coverage",
)
_ACCEPT: Final = "accept"
_DEFAULT_CONTRADICTED: Final = 96
_MAX_SECONDS: Final = 7 * 24 * 3600


def load_policy(text: str, origin: str, names: NamedDigests = NO_NAMES) -> AppraisalPolicy:
    """Read one appraisal policy.

    Args:
        text: TOML, as in ``verifier/policies/linux-server.toml``; ``docs/policies.md`` explains
            every key.
        origin: Where it came from, for messages.
        names: Digests that its rules may call by name.

    Returns:
        The policy.

    Raises:
        MalformedInput: ``policy-invalid`` if it is not TOML, empty, has an unknown key or a value
            that does not fit; the message names the key and its line.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid(origin, f"not TOML: {error}") from error
    if not table:
        raise invalid(origin, "the policy is empty; an empty policy would accept everything")
    try:
        return _policy(Table("", table, names))
    except MalformedInput as error:
        if error.code is RefusalCode.POLICY_INVALID:
            raise invalid(_place(text, origin, error.reason), error.reason) from error
        raise invalid(origin, error.describe()) from error
    except AttestationError as error:
        raise invalid(origin, error.describe()) from error


def _place(text: str, origin: str, reason: str) -> str:
    """Return the origin with the line of the key that a complaint begins with, if it has one."""
    line = KeyLines(text).find(reason.partition(": ")[0])
    return origin if line is None else f"{origin}, line {line}"


def _policy(table: Table) -> AppraisalPolicy:
    table.only(_TOP)
    table = Table("", table.items, {**table.names, **_names(table.table("names"))})
    quote, log = table.table("quote", _QUOTE), table.table("log", _LOG)
    lifetimes = table.table("lifetimes", _LIFETIMES)
    reference = table.table("reference", _REFERENCE)
    groups = table.tables("pcrs", "at least one [[pcrs]] group is needed")
    selection = quote.text("selection")
    try:
        selections = parse_selection(selection)
    except AttestationError as error:
        raise invalid(quote.where("selection"), error.reason) from error
    return AppraisalPolicy(
        id=table.text("id"),
        description=table.text("description"),
        selections=selections,
        rules=tuple(_rule(group) for group in groups),
        check_event_contents=log.flag("check_event_contents", default=True),
        separators=log.flag("separators", default=True),
        result_lifetime=_seconds(lifetimes, "result_s", 300),
        attest_interval=_seconds(lifetimes, "attest_interval_s", 60),
        nonce_ttl=_seconds(lifetimes, "nonce_ttl_s", 120),
        unreviewed=_unreviewed(reference),
        boot=boot_rules(table.table("boot")) if "boot" in table.items else None,
        runtime=runtime_rules(table.table("ima").items) if "ima" in table.items else None,
        agent=agent_rules(table.table("agent").items) if "agent" in table.items else None,
    )


def _rule(group: Table) -> PcrRule:
    group.only(_RULE)
    indices = group.items.get("indices")
    if not isinstance(indices, list) or not all(type(index) is int for index in indices):
        raise invalid(group.where("indices"), "wanted a list of PCR numbers")
    return PcrRule(
        indices=tuple(sorted(indices)),
        claim=group.word("claim", Claim, None),
        known=group.good("known"),
        unknown=group.bad("unknown", None),
        missing=group.bad("missing", None),
        contradicted=group.bad("contradicted", _DEFAULT_CONTRADICTED),
        match=group.word("match", Match, Match.VALUE),
        coverage=group.word("coverage", Coverage, Coverage.REQUIRED),
    )


def load_names(text: str, origin: str) -> NamedDigests:
    """Read a file of digests that policies may call by name.

    Args:
        text: TOML: names, each with a list of digests in hexadecimal.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``policy-invalid``; the message names the key and its line.
    """
    try:
        return _names(Table("", tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise invalid(origin, f"not TOML: {error}") from error
    except MalformedInput as error:
        raise invalid(_place(text, origin, error.reason), error.reason) from error


def _names(table: Table) -> NamedDigests:
    return {name: table.digests(name) for name in table.items}


def _unreviewed(reference: Table) -> int:
    if reference.items.get("unreviewed", _ACCEPT) == _ACCEPT:
        return 0
    if type(reference.items["unreviewed"]) is not int:
        raise invalid(
            reference.where("unreviewed"), f'wanted "{_ACCEPT}" or a claim value of 32 or more'
        )
    return reference.bad("unreviewed", None)


def _seconds(table: Table, key: str, default: int) -> timedelta:
    value = table.items.get(key, default)
    if type(value) not in (int, float) or not isinstance(value, (int, float)):
        raise invalid(table.where(key), "wanted seconds")
    if not 0 < value <= _MAX_SECONDS:
        raise invalid(table.where(key), f"{value} is not between 0 and {_MAX_SECONDS} seconds")
    return timedelta(seconds=value)
