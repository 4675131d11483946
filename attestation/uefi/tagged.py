"""TCG_PCClientTaggedEvent, alone and as Windows nests them (PFP 1.06, 10.4).

An EV_EVENT_TAG event holds one or more of: 32-bit id, 32-bit size, data. Linux and systemd write
one. Windows writes its own log (WBCL, "SIPA" events) this way, with containers whose data is
again a row of tagged events; it is walked here only to say that it is well formed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation.errors import LimitExceeded
from attestation.limits import MAX_SIPA_DEPTH, MAX_TAGGED_EVENTS
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode

_HEADER: Final = Struct("<II")
_STRUCTURE: Final = "TCG_PCClientTaggedEvent"

SIPA_CONTAINER: Final = 0x40010000
"""SIPA event ids of this form say: the data is again a row of events (wbcl.h)."""

_SIPA_CLASS: Final = 0x7FFF0000

LINUX_INITRD: Final = 0x8F3B22EC
"""Tag of Linux's EFI stub for the initial RAM disk (INITRD_EVENT_TAG_ID)."""

LINUX_LOAD_OPTIONS: Final = 0x8F3B22ED
"""Tag of Linux's EFI stub for its load options (LOAD_OPTIONS_EVENT_TAG_ID)."""

SYSTEMD_LOADER_CONF: Final = 0xF5BC582A
"""Tag of systemd-boot for its configuration file (LOADER_CONF_EVENT_TAG_ID)."""


class TaggedEvent(NamedTuple):
    """One tagged event: id, data and how deep it is nested (0: not at all)."""

    tag: int
    data: bytes
    depth: int


def parse_tagged_events(content: bytes) -> tuple[TaggedEvent, ...]:
    """Read a row of tagged events, containers left closed.

    Raises:
        MalformedInput: If lengths do not add up (``truncated``).
        LimitExceeded: ``too-many`` events.
    """
    return _walk(content, 0)


def walk_tagged_events(content: bytes) -> tuple[TaggedEvent, ...]:
    """Read a row of tagged events, containers opened, in the order of their bytes.

    No recursion: what waits to be read is a list, so depth costs no stack.

    Raises:
        MalformedInput: If lengths do not add up.
        LimitExceeded: ``too-many`` events, or containers within containers.
    """
    return _walk(content, MAX_SIPA_DEPTH)


def _walk(content: bytes, most_depth: int) -> tuple[TaggedEvent, ...]:
    found: list[TaggedEvent] = []
    waiting = [(Reader(content, _STRUCTURE), 0)]
    while waiting:
        reader, depth = waiting[-1]
        if not reader.remaining:
            waiting.pop()
            continue
        tag, size = reader.unpack(_HEADER, "tag and size")
        data = reader.take(size, "data")
        found.append(TaggedEvent(tag, data, depth))
        if len(found) > MAX_TAGGED_EVENTS:
            raise _too_many(reader, f"more than {MAX_TAGGED_EVENTS} events")
        if most_depth and tag & _SIPA_CLASS == SIPA_CONTAINER:
            if depth >= most_depth:
                raise _too_many(reader, f"containers nest deeper than {most_depth}")
            waiting.append((Reader(data, _STRUCTURE), depth + 1))
    return tuple(found)


def _too_many(reader: Reader, reason: str) -> LimitExceeded:
    return LimitExceeded(RefusalCode.TOO_MANY, reason, structure=_STRUCTURE, offset=reader.offset)
