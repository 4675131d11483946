"""Certificate profiles as TOML text; every key is known or refused by its name and line.

``docs/agents.md`` explains every key; ``verifier/policies/profiles-default.toml`` is one.
"""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from attestation.refusals import RefusalCode
from verifier.appraisal.policy_table import Table, invalid, nearest
from verifier.issuance.certificate_profile import (
    CertificateProfile,
    ExtendedUsage,
    HolderForm,
    Profiles,
    Told,
    Usage,
)
from verifier.issuance.rule_text import read_rules

MAX_PROFILE_CHARS: Final = 256 * 1024
"""A file of profiles is written and read by people."""

_KEYS: Final = (
    *("holder", "description", "key_usage", "extended_key_usage", "extensions"),
    *("lifetime_hours_min", "lifetime_days_max", "backdate_minutes"),
)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PROFILES: Final = 64
_MAX_DAYS: Final = 3660
_MAX_HOURS: Final = 24 * _MAX_DAYS
_MAX_BACKDATE_MINUTES: Final = 24 * 60

Word = TypeVar("Word", bound=StrEnum)


def load_profiles(text: str, origin: str) -> Profiles:
    """Read certificate profiles.

    Args:
        text: TOML: a table ``[profile.NAME]`` each.
        origin: Where it came from, for messages.

    Returns:
        The profiles by name.

    Raises:
        MalformedInput: ``profile-invalid`` if it is not TOML, empty, has an unknown key or a value
            that does not fit; the message names the key and its line.
    """
    return read_rules(
        text,
        origin,
        _profiles,
        most=MAX_PROFILE_CHARS,
        structure="certificate profile",
        code=RefusalCode.PROFILE_INVALID,
    )


def _profiles(table: Table) -> Profiles:
    table.only(("profile",))
    named = table.table("profile")
    if not 0 < len(named.items) <= _MAX_PROFILES:
        raise invalid(
            "profile", f"wanted 1 to {_MAX_PROFILES} tables [profile.NAME], not {len(named.items)}"
        )
    found = {}
    for name in named.items:
        if not _NAME.fullmatch(name):
            raise invalid(named.where(name), "a profile's name is 1 to 63 of a-z, 0-9 and -")
        found[name] = _profile(name, named.table(name, _KEYS))
    return found


def _profile(name: str, table: Table) -> CertificateProfile:
    holder = table.word("holder", HolderForm, None)
    if "description" in table.items:
        table.text("description")
    extensions = frozenset(_words(table, "extensions", Told, ()))
    if extensions and holder is HolderForm.DEVICE:
        raise invalid(table.where("extensions"), "only certificates of agents have them")
    shortest = table.number("lifetime_hours_min", 1, _MAX_HOURS) or 1
    longest = table.number("lifetime_days_max", 1, _MAX_DAYS) or _MAX_DAYS
    if shortest > 24 * longest:
        raise invalid(
            table.where("lifetime_hours_min"), "the shortest lifetime is above the longest"
        )
    backdate = table.number("backdate_minutes", 0, _MAX_BACKDATE_MINUTES)
    return CertificateProfile(
        name=name,
        holder=holder,
        usages=_usages(table),
        purposes=_words(table, "extended_key_usage", ExtendedUsage, (ExtendedUsage.CLIENT_AUTH,)),
        extensions=extensions,
        shortest=timedelta(hours=shortest),
        longest=timedelta(days=longest),
        backdate=timedelta(minutes=5 if backdate is None else backdate),
    )


def _usages(table: Table) -> frozenset[Usage]:
    found = frozenset(_words(table, "key_usage", Usage, (Usage.DIGITAL_SIGNATURE,)))
    if Usage.DIGITAL_SIGNATURE not in found:
        raise invalid(
            table.where("key_usage"),
            f"{Usage.DIGITAL_SIGNATURE.value} is missing: without it no TLS client can use the key",
        )
    return found


def _words(table: Table, key: str, kind: type[Word], default: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return a list of words of a closed list, each once."""
    if table.items.get(key) == [] and not default:
        return ()
    found: list[Word] = []
    known = [one.value for one in kind]
    for number, word in enumerate(table.texts(key), 1):
        where = f"{table.where(key)}[{number}]"
        try:
            one = kind(word)
        except ValueError as error:
            raise invalid(
                where, f"{word[:40]!r} is none of {', '.join(known)}{nearest(word, known)}"
            ) from error
        if one in found:
            raise invalid(where, f"{word} is there twice")
        found.append(one)
    return tuple(found) or default
