"""Reads ``[boot]`` of an appraisal policy; ``docs/policies.md`` explains every key."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from attestation.boot.facts import ImageKind
from attestation.result import Claim
from verifier.appraisal.boot_checks import (
    BootOrderRule,
    CommandLineRule,
    ExitBootServicesRule,
    FirmwareRule,
    ImagesRule,
)
from verifier.appraisal.boot_key_checks import (
    AuthoritiesRule,
    DbxRule,
    DmaProtectionRule,
    KeysRule,
    ModeRule,
    SecureBootRule,
)
from verifier.appraisal.boot_rules import DEFAULT_UNKNOWN_EVENTS, BootRules
from verifier.appraisal.boot_seen import BootRule, Worth
from verifier.appraisal.kernel_words import WordPattern, word_pattern
from verifier.appraisal.policy_table import Table, invalid

_MISSING: Final = {Claim.CONFIGURATION: 36}
_MISSING_OTHERWISE: Final = -33
_WORTH: Final = ("otherwise", "missing", "met", "claim")
_MAX_ENTRIES: Final = 1_000_000
_MAX_BOOT_NUMBER: Final = 0xFFFF
_SHA256: Final = (32,)
_MODES: Final = {
    "setup_mode": "SetupMode",
    "audit_mode": "AuditMode",
    "deployed_mode": "DeployedMode",
}


class _On(StrEnum):
    ON = "on"


class _Switch(StrEnum):
    ON = "on"
    OFF = "off"


def boot_rules(table: Table) -> BootRules:
    """Read ``[boot]``.

    Args:
        table: The section.

    Returns:
        Its rules in the order of the file.

    Raises:
        MalformedInput: ``policy-invalid``, naming the key.
    """
    table.only((*_READERS, "unknown_events"))
    return BootRules(
        rules=tuple(_READERS[key](table, key) for key in table.items if key in _READERS),
        unknown_events=table.bad("unknown_events", DEFAULT_UNKNOWN_EVENTS),
    )


def _open(
    table: Table, key: str, claim: Claim, keys: tuple[str, ...], *, alone: bool = False
) -> tuple[Table, Worth]:
    """Read one rule: its table, or the ``otherwise`` value alone where no other key is needed."""
    value = table.items[key]
    if alone and type(value) is int:
        rule = Table(table.where(key), {"otherwise": value}, table.names)
    elif isinstance(value, dict):
        rule = table.table(key, (*keys, *_WORTH))
    else:
        example = "96, or { otherwise = 96 }" if alone else f"{{ {keys[0]} = …, otherwise = 96 }}"
        raise invalid(table.where(key), f"wanted {example}")
    chosen = rule.word("claim", Claim, claim)
    return rule, Worth(
        claim=chosen,
        otherwise=rule.bad("otherwise", None),
        missing=rule.bad("missing", _MISSING.get(chosen, _MISSING_OTHERWISE)),
        met=rule.good("met") if "met" in rule.items else 0,
    )


def _secure_boot(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.CONFIGURATION, ("state",), alone=True)
    rule.word("state", _On, _On.ON)
    return SecureBootRule(key=key, worth=worth)


def _mode(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.CONFIGURATION, ("state",))
    wanted = rule.word("state", _Switch, None) is _Switch.ON
    return ModeRule(key=key, worth=worth, variable=_MODES[key], wanted=wanted)


def _dbx(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.CONFIGURATION, ("at_least", "entries"))
    at_least = rule.digests("at_least", _SHA256)
    entries = rule.number("entries", 1, _MAX_ENTRIES)
    if not at_least and entries is None:
        raise invalid(table.where(key), "asks nothing; give at_least or entries")
    return DbxRule(key=key, worth=worth, at_least=at_least, entries=entries or 0)


def _keys(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.CONFIGURATION, ("digests", "allowed"))
    digests, allowed = rule.digests("digests", _SHA256), rule.digests("allowed", _SHA256)
    if not digests and not allowed:
        raise invalid(table.where(key), "asks nothing; give digests or allowed")
    return KeysRule(key=key, worth=worth, digests=digests, entries=allowed)


def _authorities(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.EXECUTABLES, ("allowed",))
    allowed = rule.digests("allowed", _SHA256)
    if not allowed:
        raise invalid(table.where(key), "asks nothing; give allowed")
    return AuthoritiesRule(key=key, worth=worth, allowed=allowed)


def _option_roms(table: Table, key: str) -> BootRule:
    """Without ``allowed`` no driver from outside the firmware may run."""
    rule, worth = _open(table, key, Claim.HARDWARE, ("allowed", "forbidden"), alone=True)
    forbidden = rule.digests("forbidden")
    allowed = rule.digests("allowed")
    return ImagesRule(
        key=key,
        worth=worth,
        kind=ImageKind.DRIVER,
        allowed=allowed if allowed or not forbidden else None,
        forbidden=forbidden,
    )


def _boot_applications(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.EXECUTABLES, ("allowed", "forbidden"))
    allowed, forbidden = rule.digests("allowed"), rule.digests("forbidden")
    if not allowed and not forbidden:
        raise invalid(table.where(key), "asks nothing; give allowed or forbidden")
    return ImagesRule(
        key=key,
        worth=worth,
        kind=ImageKind.APPLICATION,
        allowed=allowed or None,
        forbidden=forbidden,
    )


def _firmware(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.HARDWARE, ("forbidden", "forbidden_versions"))
    forbidden, versions = rule.digests("forbidden"), rule.texts("forbidden_versions")
    if not forbidden and not versions:
        raise invalid(table.where(key), "asks nothing; give forbidden or forbidden_versions")
    return FirmwareRule(
        key=key, worth=worth, forbidden=forbidden, forbidden_versions=frozenset(versions)
    )


def _command_line(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.EXECUTABLES, ("required", "forbidden", "allowed"))
    words = {name: _patterns(rule, name) for name in ("required", "forbidden", "allowed")}
    if not any(words.values()):
        raise invalid(table.where(key), "asks nothing; give required, forbidden or allowed")
    return CommandLineRule(
        key=key,
        worth=worth,
        required=words["required"],
        forbidden=words["forbidden"],
        allowed=words["allowed"],
    )


def _patterns(rule: Table, key: str) -> tuple[WordPattern, ...]:
    found = []
    for number, text in enumerate(rule.texts(key), 1):
        try:
            found.append(word_pattern(text))
        except ValueError as error:
            raise invalid(f"{rule.where(key)}[{number}]", f"{text[:80]!r}: {error}") from error
    return tuple(found)


def _boot_order(table: Table, key: str) -> BootRule:
    rule, worth = _open(table, key, Claim.CONFIGURATION, ("allowed",))
    orders = rule.items.get("allowed")
    if not isinstance(orders, list) or not orders:
        raise invalid(rule.where("allowed"), "wanted a list of boot orders, e.g. [[0, 1], [1, 0]]")
    for number, order in enumerate(orders, 1):
        if not isinstance(order, list) or not all(
            type(one) is int and 0 <= one <= _MAX_BOOT_NUMBER for one in order
        ):
            raise invalid(
                f"{rule.where('allowed')}[{number}]", "wanted numbers of Boot#### entries, in order"
            )
    return BootOrderRule(key=key, worth=worth, allowed=frozenset(tuple(order) for order in orders))


def _exit_boot_services(table: Table, key: str) -> BootRule:
    _, worth = _open(table, key, Claim.EXECUTABLES, (), alone=True)
    return ExitBootServicesRule(key=key, worth=worth)


def _dma_protection(table: Table, key: str) -> BootRule:
    _, worth = _open(table, key, Claim.CONFIGURATION, (), alone=True)
    return DmaProtectionRule(key=key, worth=worth)


_READERS: Final[dict[str, Callable[[Table, str], BootRule]]] = {
    "secure_boot": _secure_boot,
    **dict.fromkeys(_MODES, _mode),
    "PK": _keys,
    "KEK": _keys,
    "db": _keys,
    "dbx": _dbx,
    "authorities": _authorities,
    "boot_applications": _boot_applications,
    "option_roms": _option_roms,
    "firmware": _firmware,
    "command_line": _command_line,
    "boot_order": _boot_order,
    "exit_boot_services": _exit_boot_services,
    "dma_protection": _dma_protection,
}
