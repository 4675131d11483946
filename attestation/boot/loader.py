"""PCR 8, 9 and 11 to 14: what boot loaders and operating systems' loaders measured."""

from __future__ import annotations

from typing import Final

from attestation.boot.draft import Draft
from attestation.boot.facts import MeasuredFile, fact
from attestation.errors import InputError
from attestation.logs.contents import WHOLE, how_measured
from attestation.logs.event_types import EventType
from attestation.logs.quirks import QuirkName
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.loaders import (
    LineKind,
    measured_name,
    parse_loader_line,
    section_name_bytes,
)
from attestation.uefi.tagged import (
    LINUX_INITRD,
    LINUX_LOAD_OPTIONS,
    SYSTEMD_LOADER_CONF,
    parse_tagged_events,
)

_IPL: Final = int(EventType.IPL)
_TAG: Final = int(EventType.EVENT_TAG)
LINE_PCRS: Final = (8, 12)
"""PCRs of command lines: loaders' commands and the kernel's."""

_SECTION_PCR: Final = 11
_FILE_TAGS: Final = (LINUX_INITRD, LINUX_LOAD_OPTIONS, SYSTEMD_LOADER_CONF)


def read_loader_event(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one event of PCR 8, 9 or 11 to 14 that is neither separator nor action.

    PCR 8 and 12 hold command lines, so there every event must show what was measured: one that
    does not could hide a command line, and is a trouble. Elsewhere the digests are those of
    files, and the content names them.
    """
    _, pcr, kind, _, content = event
    if kind == _IPL and pcr in LINE_PCRS:
        _read_line(draft, event, content, digest)
    elif kind == _TAG:
        read_tag(draft, event, digest)
    elif pcr in LINE_PCRS:
        draft.misplaced(event)
    elif kind == _IPL:
        name = measured_name(content)
        if pcr == _SECTION_PCR and any(
            draft.hasher(raw).digest() == digest for raw in section_name_bytes(name)
        ):
            return
        draft.loader_files.append(fact(MeasuredFile(name=name, digest=digest), event))


def _read_line(draft: Draft, event: MeasuredEvent, content: bytes, digest: bytes) -> None:
    line = parse_loader_line(content)
    hasher = draft.hasher
    if line is None:
        if how_measured(_IPL, content, digest, hasher) == WHOLE:
            draft.loader_lines.append(event)
        else:
            draft.trouble(event, "the log does not show what was measured: no known boot loader")
        return
    kind, text, measured, or_measured, one_byte_short = line
    if hasher(measured).digest() != digest and hasher(or_measured).digest() != digest:
        draft.trouble(event, f"this {kind} of the boot loader is not what was measured")
        return
    if one_byte_short:
        draft.quirks[QuirkName.SYSTEMD_BOOT_SHORT] = None
    if kind is LineKind.COMMAND_LINE:
        draft.command_lines.append(fact(text, event))
    else:
        draft.loader_lines.append(event)


def read_tag(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one EV_EVENT_TAG: a file of Linux or systemd, or a row of Windows' own events."""
    try:
        rows = parse_tagged_events(event.event)
    except InputError as error:
        draft.trouble(event, error)
        return
    if event.pcr in LINE_PCRS:
        if draft.proven(event, digest) and rows and rows[0].tag in _FILE_TAGS:
            draft.trouble(event, "a file is measured where command lines are wanted")
    elif len(rows) == 1 and rows[0].tag in _FILE_TAGS:
        name = measured_name(rows[0].data)
        draft.loader_files.append(fact(MeasuredFile(name=name, digest=digest), event))
