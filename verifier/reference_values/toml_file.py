"""Reference sets as TOML: meant to be read, reviewed and kept under version control.

Layout::

    name = "edge-box"
    version = 1
    created = 2026-03-01T12:00:00Z
    description = "learnt from device box-0042"

    [pcrs.sha256]
    0 = ["3d45…"]          # accepted values, hex; usually one

    [events]
    0 = ["a1b2…", …]       # digests of the events seen in this PCR, hex, sorted
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from attestation.algorithms import HashAlgorithm, hash_by_label
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.refusals import RefusalCode
from verifier.reference_values.model import ReferenceSet

MAX_REFERENCE_BYTES: Final = 8 * 1024 * 1024
"""One file: the largest real logs give about 30 kB."""

_TOP: Final = ("name", "version", "created", "description", "pcrs", "events")


def dump_reference_set(reference: ReferenceSet) -> str:
    """Return the set as TOML; :func:`load_reference_set` reads it back to an equal value."""
    created = reference.created.astimezone(UTC).isoformat().replace("+00:00", "Z")
    lines = [
        f"name = {_quoted(reference.name)}",
        f"version = {reference.version}",
        f"created = {created}",
        f"description = {_quoted(reference.description)}",
    ]
    for bank in sorted(reference.pcrs):
        lines += ["", f"[pcrs.{bank.label}]"]
        for index, accepted in sorted(reference.pcrs[bank].items()):
            lines.append(f"{index} = {_hex_list(accepted)}")
    if reference.events:
        lines += ["", "[events]"]
        for index in sorted({pcr for pcr, _ in reference.events}):
            digests = {digest for pcr, digest in reference.events if pcr == index}
            body = "".join(f'    "{digest.hex()}",\n' for digest in sorted(digests))
            lines.append(f"{index} = [\n{body}]")
    return "\n".join(lines) + "\n"


def load_reference_set(text: str, origin: str) -> ReferenceSet:
    """Read one reference set.

    Args:
        text: TOML as :func:`dump_reference_set` writes it.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: If it is not TOML of that layout; the message names the key.
        LimitExceeded: If it is larger than ``MAX_REFERENCE_BYTES``.
    """
    if len(text) > MAX_REFERENCE_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{origin} has {len(text)} characters, at most {MAX_REFERENCE_BYTES} are read",
            structure="ReferenceSet",
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _malformed(origin, f"not TOML: {error}") from error
    try:
        return _reference_set(table)
    except InputError as error:
        raise _malformed(origin, error.reason) from error


def _reference_set(table: Mapping[str, object]) -> ReferenceSet:
    for key in table:
        if key not in _TOP:
            raise _malformed(key, f"unknown key; known are {', '.join(_TOP)}")
    name, version, created = table.get("name"), table.get("version"), table.get("created")
    description = table.get("description", "")
    if not isinstance(name, str) or not isinstance(description, str):
        raise _malformed("name", "name and description must be texts")
    if type(version) is not int or version < 1:
        raise _malformed("version", "wanted a number from 1")
    if not isinstance(created, datetime) or created.tzinfo is None:
        raise _malformed("created", "wanted a time with its zone, e.g. 2026-03-01T12:00:00Z")
    pcrs: dict[HashAlgorithm, dict[int, frozenset[bytes]]] = {}
    for label, values in _table(table, "pcrs").items():
        bank = hash_by_label(label)
        pcrs[bank] = {
            _index(index): frozenset(_digests(accepted, f"pcrs.{label}.{index}"))
            for index, accepted in _table({label: values}, label).items()
        }
    events = {
        (_index(index), digest)
        for index, listed in _table(table, "events").items()
        for digest in _digests(listed, f"events.{index}")
    }
    return ReferenceSet(
        name=name,
        version=version,
        created=created,
        pcrs=pcrs,
        events=frozenset(events),
        description=description,
    )


def _table(table: Mapping[str, object], key: str) -> dict[str, object]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _malformed(key, "wanted a table")
    return value


def _index(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise _malformed(text, "wanted a PCR number")
    return int(text)


def _digests(listed: object, where: str) -> list[bytes]:
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise _malformed(where, "wanted a list of hex texts")
    try:
        return [bytes.fromhex(item) for item in listed]
    except ValueError as error:
        raise _malformed(where, "wanted a list of hex texts") from error


def _hex_list(values: frozenset[bytes]) -> str:
    return "[" + ", ".join(f'"{value.hex()}"' for value in sorted(values)) + "]"


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's escapes, and DEL (TOML 1.0, "String")."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _malformed(where: str, reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.VALUE_OUT_OF_RANGE, f"{where}: {reason}", structure="ReferenceSet"
    )
