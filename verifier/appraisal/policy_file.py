"""Appraisal policies as TOML text; every key is known or refused by its name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from attestation.errors import AttestationError, MalformedInput
from attestation.pcr import parse_selection
from attestation.refusals import RefusalCode
from attestation.result import Claim, TrustTier, tier_of
from verifier.appraisal.agent import agent_rules
from verifier.appraisal.boot_rules import boot_rules
from verifier.appraisal.policy_model import AppraisalPolicy, Coverage, Match, PcrRule
from verifier.appraisal.runtime import runtime_rules

_TOP: Final = ("id", "description", "quote", "log", "lifetimes", "pcrs", "boot", "ima", "agent")
_QUOTE: Final = ("selection",)
_LOG: Final = ("check_event_contents", "separators")
_LIFETIMES: Final = ("result_s", "attest_interval_s", "nonce_ttl_s")
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
_NOT_AFFIRMING: Final = ("unknown", "missing", "contradicted")
_DEFAULT_CONTRADICTED: Final = 96
_MAX_SECONDS: Final = 7 * 24 * 3600

Word = TypeVar("Word", bound=StrEnum)


def load_policy(text: str, origin: str) -> AppraisalPolicy:
    """Read one appraisal policy.

    Args:
        text: TOML, as in ``verifier/policies/linux-server.toml``.
        origin: Where it came from, for messages.

    Returns:
        The policy.

    Raises:
        MalformedInput: ``policy-invalid`` if it is not TOML, empty, has an unknown key or a value
            that does not fit; the message names the key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(origin, f"not TOML: {error}") from error
    if not table:
        raise _invalid(origin, "the policy is empty; an empty policy would accept everything")
    try:
        return _policy(table)
    except MalformedInput as error:
        if error.code is RefusalCode.POLICY_INVALID:
            raise _invalid(origin, error.reason) from error
        raise _invalid(origin, error.describe()) from error
    except AttestationError as error:
        raise _invalid(origin, error.describe()) from error


def _policy(table: Mapping[str, object]) -> AppraisalPolicy:
    _only(table, _TOP, "")
    quote, log = _section(table, "quote", _QUOTE), _section(table, "log", _LOG)
    lifetimes = _section(table, "lifetimes", _LIFETIMES)
    groups = table.get("pcrs")
    if not isinstance(groups, list) or not groups:
        raise _invalid("pcrs", "at least one [[pcrs]] group is needed")
    return AppraisalPolicy(
        id=_text(table, "id"),
        description=_text(table, "description"),
        selections=parse_selection(_text(quote, "selection")),
        rules=tuple(_rule(group, number) for number, group in enumerate(groups, 1)),
        check_event_contents=_flag(log, "check_event_contents", default=True),
        separators=_flag(log, "separators", default=True),
        result_lifetime=_seconds(lifetimes, "result_s", 300),
        attest_interval=_seconds(lifetimes, "attest_interval_s", 60),
        nonce_ttl=_seconds(lifetimes, "nonce_ttl_s", 120),
        boot=boot_rules(_table(table, "boot")) if "boot" in table else None,
        runtime=runtime_rules(_table(table, "ima")) if "ima" in table else None,
        agent=agent_rules(_table(table, "agent")) if "agent" in table else None,
    )


def _rule(group: object, number: int) -> PcrRule:
    where = f"pcrs[{number}]"
    if not isinstance(group, dict):
        raise _invalid(where, "wanted a table")
    _only(group, _RULE, where)
    indices = group.get("indices")
    if not isinstance(indices, list) or not all(type(index) is int for index in indices):
        raise _invalid(f"{where}.indices", "wanted a list of PCR numbers")
    values = {key: _claim_value(group, key, where) for key in ("known", *_NOT_AFFIRMING)}
    return PcrRule(
        indices=tuple(sorted(indices)),
        claim=_word(Claim, group, "claim", None),
        known=values["known"],
        unknown=values["unknown"],
        missing=values["missing"],
        contradicted=values["contradicted"],
        match=_word(Match, group, "match", Match.VALUE),
        coverage=_word(Coverage, group, "coverage", Coverage.REQUIRED),
    )


def _claim_value(group: Mapping[str, object], key: str, where: str) -> int:
    value = group.get(key, _DEFAULT_CONTRADICTED if key == "contradicted" else None)
    if type(value) is not int:
        raise _invalid(f"{where}.{key}", "wanted an AR4SI value, -128 to 127")
    try:
        tier = tier_of(value)
    except ValueError as error:
        raise _invalid(f"{where}.{key}", str(error)) from error
    if key == "known" and tier is not TrustTier.AFFIRMING:
        raise _invalid(f"{where}.known", f"{value} is {tier.label}, wanted an affirming value")
    if key in _NOT_AFFIRMING and tier < TrustTier.WARNING:
        raise _invalid(
            f"{where}.{key}", f"{value} is {tier.label}, wanted a warning or contraindicated value"
        )
    return value


def _section(table: Mapping[str, object], name: str, keys: tuple[str, ...]) -> dict[str, object]:
    section = _table(table, name)
    _only(section, keys, name)
    return section


def _table(table: Mapping[str, object], name: str) -> dict[str, object]:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise _invalid(name, "wanted a table")
    return section


def _only(table: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            name = f"{where}.{key}" if where else key
            raise _invalid(name, f"unknown key; known are {', '.join(keys)}")


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _invalid(key, "wanted a text")
    return value


def _flag(table: Mapping[str, object], key: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise _invalid(key, "wanted true or false")
    return value


def _seconds(table: Mapping[str, object], key: str, default: int) -> timedelta:
    value = table.get(key, default)
    if type(value) not in (int, float) or not isinstance(value, (int, float)):
        raise _invalid(key, "wanted seconds")
    if not 0 < value <= _MAX_SECONDS:
        raise _invalid(key, f"{value} is not between 0 and {_MAX_SECONDS} seconds")
    return timedelta(seconds=value)


def _word(kind: type[Word], table: Mapping[str, object], key: str, default: Word | None) -> Word:
    value = table.get(key, default)
    try:
        return kind(str(value))
    except ValueError as error:
        words = ", ".join(word.value for word in kind)
        raise _invalid(key, f"{str(value)[:40]!r} is not one of {words}") from error


def _invalid(where: str, reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.POLICY_INVALID, f"{where}: {reason}", structure="AppraisalPolicy"
    )
