"""Reference sets as TOML: meant to be read, reviewed and kept under version control.

Layout::

    name = "edge-box"
    version = 2
    created = 2026-03-01T12:00:00Z
    description = "learnt from device box-0042"
    valid_from = 2026-03-02T00:00:00Z      # optional, as is all down to the tables
    valid_until = 2027-03-01T00:00:00Z
    accepted_until = 2026-06-01T00:00:00Z  # of an older version, beside the newer one
    reviewed_by = "name of a person"
    reviewed_at = 2026-03-01T13:00:00Z
    to_review = [4, 5]                     # PCRs that nobody has looked at yet

    [manifest]                             # of a set made of a CoRIM or RIM
    signer = "acme"                        # as trusted here; empty if nobody signed it
    tag = "edge-fw"
    version = 3

    [pcrs.sha256]
    0 = ["3d45…"]          # accepted values, hex; usually one

    [events]
    0 = ["a1b2… EV_S_CRTM_VERSION", …]     # digest of each event seen in this PCR, hex, sorted;
                                           # what follows the digest is for people
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
from verifier.reference_values.model import ManifestTag, ReferenceSet
from verifier.reference_values.toml_lines import line_of

MAX_REFERENCE_BYTES: Final = 8 * 1024 * 1024
"""One file: the largest real logs give about 30 kB."""

MAX_LABEL_CHARS: Final = 160
"""What an event is, for people: one line."""

_TIMES: Final = ("valid_from", "valid_until", "accepted_until", "reviewed_at")
_TOP: Final = (
    *("name", "version", "created", "description"),
    *_TIMES,
    *("reviewed_by", "to_review", "manifest", "pcrs", "events"),
)
_MANIFEST: Final = ("signer", "tag", "version")


class _Fault(ValueError):
    """Something is wrong at a key.

    Attributes:
        table: The table it stands in; empty for the top.
        key: The key; empty for the table itself.
        part: A text on the very line, where a key spans several lines; may be empty.
        reason: What is wrong.
    """

    def __init__(self, table: str, key: str, reason: str, part: str = "") -> None:
        self.table = table
        self.key = key
        self.part = part
        self.reason = reason
        super().__init__(reason)


def dump_reference_set(reference: ReferenceSet) -> str:
    """Return the set as TOML; :func:`load_reference_set` reads it back to an equal value."""
    lines = [
        f"name = {_quoted(reference.name)}",
        f"version = {reference.version}",
        f"created = {_time(reference.created)}",
        f"description = {_quoted(reference.description)}",
    ]
    for key in _TIMES:
        moment = getattr(reference, key)
        if moment is not None:
            lines.append(f"{key} = {_time(moment)}")
    if reference.reviewed_by:
        lines.append(f"reviewed_by = {_quoted(reference.reviewed_by)}")
    if reference.to_review:
        lines.append(f"to_review = {sorted(reference.to_review)}")
    if reference.manifest is not None:
        tag = reference.manifest
        lines += ["", "[manifest]", f"signer = {_quoted(tag.signer)}", f"tag = {_quoted(tag.tag)}"]
        lines.append(f"version = {tag.version}")
    for bank in sorted(reference.pcrs):
        lines += ["", f"[pcrs.{bank.label}]"]
        for index, accepted in sorted(reference.pcrs[bank].items()):
            lines.append(f"{index} = {_hex_list(accepted)}")
    if reference.events:
        lines += ["", "[events]"]
        for index in sorted({pcr for pcr, _ in reference.events}):
            digests = sorted(digest for pcr, digest in reference.events if pcr == index)
            body = "".join(
                f"    {_quoted(_event_text(digest, reference.labels.get((index, digest), '')))},\n"
                for digest in digests
            )
            lines.append(f"{index} = [\n{body}]")
    return "\n".join(lines) + "\n"


def load_reference_set(text: str, origin: str) -> ReferenceSet:
    """Read one reference set.

    Args:
        text: TOML as :func:`dump_reference_set` writes it.
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: If it is not TOML of that layout; the message names line and key.
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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _malformed(origin, f"not TOML: {error}") from error
    try:
        return _reference_set(table)
    except _Fault as fault:
        line = line_of(text, fault.table, fault.key, fault.part)
        key = ".".join(part for part in (fault.table, fault.key) if part)
        raise _malformed(f"{origin}, line {line}", f"{key}: {fault.reason}") from fault
    except InputError as error:
        raise _malformed(origin, error.reason) from error


def _reference_set(table: Mapping[str, object]) -> ReferenceSet:
    for key in table:
        if key not in _TOP:
            raise _Fault("", key, f"unknown key; known are {', '.join(_TOP)}")
    version, created = table.get("version"), _moment(table, "created")
    if type(version) is not int or version < 1:
        raise _Fault("", "version", "wanted a number from 1")
    if created is None:
        raise _Fault("", "created", "is missing")
    events, labels = _events(_table(table, "events", ""))
    return ReferenceSet(
        name=_text(table, "name", required=True),
        version=version,
        created=created,
        pcrs=_pcrs(_table(table, "pcrs", "")),
        events=events,
        description=_text(table, "description"),
        valid_from=_moment(table, "valid_from"),
        valid_until=_moment(table, "valid_until"),
        accepted_until=_moment(table, "accepted_until"),
        reviewed_by=_text(table, "reviewed_by"),
        reviewed_at=_moment(table, "reviewed_at"),
        to_review=_to_review(table.get("to_review", [])),
        labels=labels,
        manifest=_manifest(_table(table, "manifest", "")) if "manifest" in table else None,
    )


def _manifest(table: Mapping[str, object]) -> ManifestTag:
    for key in table:
        if key not in _MANIFEST:
            raise _Fault("manifest", key, f"unknown key; known are {', '.join(_MANIFEST)}")
    signer, tag, version = (table.get(key) for key in _MANIFEST)
    if not isinstance(signer, str):
        raise _Fault("manifest", "signer", "wanted a text")
    if not isinstance(tag, str) or not tag:
        raise _Fault("manifest", "tag", "wanted a text that is not empty")
    if type(version) is not int or version < 0:
        raise _Fault("manifest", "version", "wanted a number from 0")
    return ManifestTag(signer=signer, tag=tag, version=version)


def _pcrs(banks: Mapping[str, object]) -> dict[HashAlgorithm, dict[int, frozenset[bytes]]]:
    pcrs: dict[HashAlgorithm, dict[int, frozenset[bytes]]] = {}
    for label in banks:
        where = f"pcrs.{label}"
        try:
            bank = hash_by_label(label)
        except InputError as error:
            raise _Fault(where, "", error.reason) from error
        found: dict[int, frozenset[bytes]] = {}
        for key, listed in _table(banks, label, where).items():
            values = [_digest(item, where, key) for item in _texts(listed, where, key)]
            wrong = [value for value in values if len(value) != bank.size]
            if wrong or not values:
                raise _Fault(where, key, f"wanted {label} values of {bank.size} bytes each, in hex")
            found[_index(key, where)] = frozenset(values)
        pcrs[bank] = found
    return pcrs


def _events(
    table: Mapping[str, object],
) -> tuple[frozenset[tuple[int, bytes]], dict[tuple[int, bytes], str]]:
    events: set[tuple[int, bytes]] = set()
    labels: dict[tuple[int, bytes], str] = {}
    for key, listed in table.items():
        index = _index(key, "events")
        for item in _texts(listed, "events", key):
            written, _, label = item.partition(" ")
            event = (index, _digest(written, "events", key))
            events.add(event)
            if len(label) > MAX_LABEL_CHARS:
                raise _Fault("events", key, f"more than {MAX_LABEL_CHARS} words' letters", written)
            if label:
                labels[event] = label
    return frozenset(events), labels


def _text(table: Mapping[str, object], key: str, *, required: bool = False) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or (required and not value):
        raise _Fault("", key, "wanted a text")
    return value


def _moment(table: Mapping[str, object], key: str) -> datetime | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _Fault("", key, "wanted a time with its zone, e.g. 2026-03-01T12:00:00Z")
    return value


def _to_review(listed: object) -> frozenset[int]:
    if not isinstance(listed, list) or not all(type(item) is int for item in listed):
        raise _Fault("", "to_review", "wanted a list of PCR numbers")
    return frozenset(listed)


def _table(table: Mapping[str, object], key: str, where: str) -> dict[str, object]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _Fault("", where or key, "wanted a table")
    return value


def _index(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len("23")):
        raise _Fault(where, text, "wanted a PCR number")
    return int(text)


def _texts(listed: object, where: str, key: str) -> list[str]:
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise _Fault(where, key, "wanted a list of hex texts")
    return listed


def _digest(written: str, where: str, key: str) -> bytes:
    try:
        return bytes.fromhex(written)
    except ValueError as error:
        raise _Fault(where, key, "wanted a list of hex texts", written) from error


def _event_text(digest: bytes, label: str) -> str:
    return f"{digest.hex()} {label}" if label else digest.hex()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _hex_list(values: frozenset[bytes]) -> str:
    return "[" + ", ".join(f'"{value.hex()}"' for value in sorted(values)) + "]"


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's escapes, and DEL (TOML 1.0, "String")."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _malformed(where: str, reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.VALUE_OUT_OF_RANGE, f"{where}: {reason}", structure="ReferenceSet"
    )
