"""Edit real firmware logs: parsed events in, other events out, bytes again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log

Edit = Callable[[list[UnverifiedEvent]], Sequence[UnverifiedEvent]]


def forge(content: bytes, edit: Edit) -> bytes:
    """Return the crypto-agile log with its events (all but the header) edited."""
    events = list(parse_firmware_log(content).events)
    header, rest = events[0], edit(events[1:])
    sha1 = dict(header.digests)[HashAlgorithm.SHA1]
    out = struct.pack("<II20sI", header.pcr, header.type, sha1, len(header.event)) + header.event
    for event in rest:
        out += struct.pack("<III", event.pcr, event.type, len(event.digests))
        for alg, digest in event.digests:
            out += struct.pack("<H", alg) + digest
        out += struct.pack("<I", len(event.event)) + event.event
    return out


def first(events: Sequence[UnverifiedEvent], pcr: int, kind: EventType | None = None) -> int:
    """Return the place of the first event of a PCR (and type)."""
    return next(
        place
        for place, event in enumerate(events)
        if event.pcr == pcr
        and event.type != EventType.NO_ACTION
        and (kind is None or event.type == kind)
    )


def measured(
    like: UnverifiedEvent, *, pcr: int, kind: EventType, content: bytes
) -> UnverifiedEvent:
    """Make an event that measures ``content``, with the banks of another event."""
    digests = tuple((alg, HashAlgorithm(alg).digest(content)) for alg, _ in like.digests)
    return like._replace(pcr=pcr, type=int(kind), event=content, digests=digests)


def sha256_of(event: UnverifiedEvent) -> bytes:
    return dict(event.digests)[HashAlgorithm.SHA256]
