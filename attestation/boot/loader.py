"""PCR 8, 9 and 11 to 14: what boot loaders and operating systems' loaders measured."""

from __future__ import annotations

from typing import Final

from attestation.boot.draft import Draft, proof
from attestation.boot.facts import Fact, MeasuredFile
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
from attestation.uefi.text import shown

_IPL: Final = int(EventType.IPL)
_TAG: Final = int(EventType.EVENT_TAG)
_LINE_PCRS: Final = (8, 12)
_SECTION_PCR: Final = 11
_FILE_TAGS: Final = (LINUX_INITRD, LINUX_LOAD_OPTIONS, SYSTEMD_LOADER_CONF)


def read_loader_event(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one event of PCR 8, 9 or 11 to 14 that is neither separator nor action.

    PCR 8 and 12 hold command lines, so there every event must show what was measured: one that
    does not could hide a command line, and is a trouble. Elsewhere the digests are those of
    files, and the content names them.
    """
    if event.type == _TAG:
        read_tag(draft, event, digest)
    elif event.pcr in _LINE_PCRS:
        if event.type == _IPL:
            _read_line(draft, event, digest)
        else:
            draft.misplaced(event)
    elif event.type == _IPL:
        name = measured_name(event.event)
        if event.pcr == _SECTION_PCR and any(
            draft.hasher(raw).digest() == digest for raw in section_name_bytes(name)
        ):
            return
        draft.loader_files.append(Fact(MeasuredFile(name=name, digest=digest), proof(event)))


def _read_line(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    line = parse_loader_line(event.event)
    if line is None:
        if how_measured(event.type, event.event, digest, draft.hasher) == WHOLE:
            draft.loader_commands.append(Fact(shown(event.event), proof(event)))
        else:
            draft.trouble(event, "the log does not show what was measured: no known boot loader")
        return
    hasher = draft.hasher
    if hasher(line.measured).digest() != digest and hasher(line.or_measured).digest() != digest:
        draft.trouble(event, f"this {line.kind} of the boot loader is not what was measured")
        return
    if line.one_byte_short:
        draft.quirks[QuirkName.SYSTEMD_BOOT_SHORT] = None
    lines = draft.command_lines if line.kind is LineKind.COMMAND_LINE else draft.loader_commands
    lines.append(Fact(line.text, proof(event)))


def read_tag(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one EV_EVENT_TAG: a file of Linux or systemd, or a row of Windows' own events."""
    try:
        rows = parse_tagged_events(event.event)
    except InputError as error:
        draft.trouble(event, error)
        return
    if event.pcr in _LINE_PCRS:
        if draft.proven(event, digest) and rows and rows[0].tag in _FILE_TAGS:
            draft.trouble(event, "a file is measured where command lines are wanted")
    elif len(rows) == 1 and rows[0].tag in _FILE_TAGS:
        name = measured_name(rows[0].data)
        draft.loader_files.append(Fact(MeasuredFile(name=name, digest=digest), proof(event)))
