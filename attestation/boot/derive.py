"""Derives boot facts from replayed events.

What may be believed, and why:

- only events of PCRs that are proven (their replay is what a quote shows) and covered in the bank;
- an event's content only where it was measured (:mod:`attestation.logs.contents`); elsewhere the
  digest is the fact and the content a hint for people;
- an event's type is never covered. In each PCR that is interpreted every event must be of a type
  that has a meaning there, and must be readable as such; else it is a trouble of that PCR.

The order of events *within* a PCR is proven, the order between PCRs is the log's word. What rests
on it (boot applications end where PCR 5 says that boot services were left) is therefore a reason
to refuse, never to admit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.boot.draft import Draft
from attestation.boot.facts import BootFacts, ImageKind, fact
from attestation.boot.images import APPLICATION_PCR, IMAGE_PCRS, read_image_event
from attestation.boot.loader import LINE_PCRS, read_loader_event
from attestation.boot.options import read_option_event
from attestation.boot.secure_boot import SECURE_BOOT_PCR, read_secure_boot_event
from attestation.logs.event_types import EventType
from attestation.logs.quirks import QuirkName
from attestation.logs.replay import MeasuredEvent, ReplayedLog
from attestation.pcr import PCR_COUNT
from attestation.uefi.loaders import GRUB_COMMAND
from attestation.uefi.text import utf8_text

_NO_COVER: Final[frozenset[int]] = frozenset()
_COMMAND_BEGINS: Final = len(GRUB_COMMAND)
_IPL: Final = int(EventType.IPL)
_SEPARATOR: Final = int(EventType.SEPARATOR)
_ACTIONS: Final = (int(EventType.EFI_ACTION), int(EventType.ACTION))
_ORDINARY: Final = frozenset(int(kind) for kind in EventType).difference((_SEPARATOR, *_ACTIONS))
"""Types whose meaning is that of their PCR."""

_SEPARATOR_CONTENTS: Final = frozenset((b"\0\0\0\0", b"\xff\xff\xff\xff"))
_WINDOWS_SEPARATOR: Final = b"WBCL"
_WINDOWS_PCRS: Final = (12, 13, 14)

_CALLING: Final = "Calling EFI Application from Boot Option"
_LEFT: Final = "Exit Boot Services Returned with Success"
_STAYED: Final = "Exit Boot Services Returned with Failure"
_NO_DMA_PROTECTION: Final = "DMA Protection Disabled"
_ACTION_PCRS: Final = {_CALLING: (4, 5), _LEFT: (5,), _STAYED: (5,), _NO_DMA_PROTECTION: (7,)}
_SECURE_BOOT_ACTIONS: Final = frozenset((_NO_DMA_PROTECTION, "UEFI Debug Mode"))


def _tell_nothing(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Take an event that is known and of which no fact is made."""


_READERS: Final[dict[int, Callable[[Draft, MeasuredEvent, bytes], None]]] = {
    **dict.fromkeys(IMAGE_PCRS, read_image_event),
    **dict.fromkeys((1, 5), read_option_event),
    **dict.fromkeys((3, 6), _tell_nothing),
    SECURE_BOOT_PCR: read_secure_boot_event,
    **dict.fromkeys((8, 9, 11, 12, 13, 14), read_loader_event),
}
"""PCRs that are interpreted; PCR 10 is IMA's, 15 and up are no firmware's."""

_SUBJECTS: Final = {
    0: "the firmware's code and version",
    1: "boot order and entries",
    2: "option ROMs and drivers",
    4: "boot applications",
    5: "partition tables and whether boot services were left",
    SECURE_BOOT_PCR: "Secure Boot's state, keys and authorities",
}


def derive_boot_facts(log: ReplayedLog, bank: HashAlgorithm, proven: Collection[int]) -> BootFacts:
    """Tell what a boot was.

    Args:
        log: A replayed log.
        bank: The bank whose digests count.
        proven: The PCRs whose replayed values a quote has confirmed; nothing else is interpreted.

    Returns:
        The facts, each with its proof; never an exception: what cannot be read is among
        ``troubles``, what is not told is named in ``not_covered``.
    """
    covered = log.covered.get(bank, _NO_COVER).intersection(proven)
    draft = Draft(bank=bank, contents=log.contents.get(bank, {}))
    readers = [_READERS.get(pcr) if pcr in covered else None for pcr in range(PCR_COUNT)]
    hasher, commands = draft.hasher, draft.loader_lines
    for event, digest in zip(log.events, log.column(bank), strict=True):
        _, pcr, kind, _, content = event
        reader = readers[pcr]
        if reader is None or digest is None:  # in a covered PCR every event carries the bank
            continue
        if (  # most events of a log are commands of GRUB, so they are told here
            content[:_COMMAND_BEGINS] == GRUB_COMMAND
            and kind == _IPL
            and pcr in LINE_PCRS
            and hasher(content[_COMMAND_BEGINS:].rstrip(b"\0")).digest() == digest
        ):
            commands.append(event)
        elif kind in _ORDINARY:
            reader(draft, event, digest)
        elif kind == _SEPARATOR:
            _read_separator(draft, event, digest)
        elif kind in _ACTIONS:
            _read_action(draft, event, digest)
        else:
            draft.misplaced(event)
    return _finish(draft, covered)


def _read_separator(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    if not draft.proven(event, digest):
        return
    windows = event.pcr in _WINDOWS_PCRS and event.event == _WINDOWS_SEPARATOR
    if event.event not in _SEPARATOR_CONTENTS and not windows:
        draft.trouble(event, f"a separator holds {event.event[:8].hex()}, wanted 00000000")
        return
    draft.separated.add(event.pcr)
    if event.pcr == APPLICATION_PCR and draft.application_from is None:
        draft.application_from = event.number


def _read_action(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read an action: its content is what was measured, or it is a trouble (PFP 1.06, 10.4)."""
    if not draft.proven(event, digest):
        return
    text = utf8_text(event.event)
    if not text:
        draft.trouble(event, f"an action is {event.event[:16].hex()}, wanted text")
        return
    draft.firmware_actions.append(fact(text, event))
    if event.pcr == SECURE_BOOT_PCR and text not in _SECURE_BOOT_ACTIONS:
        draft.quirks[QuirkName.ACTION_NOT_STANDARD] = None
    if event.pcr not in _ACTION_PCRS.get(text, ()):
        return
    if text == _CALLING:
        if draft.application_from is None:
            draft.application_from = event.number
    elif text == _NO_DMA_PROTECTION:
        draft.dma_protection_disabled = fact(value=True, event=event)
    elif text == _LEFT:
        draft.boot_services_left = event.number
        draft.exit_boot_services = fact(value=True, event=event)
    elif draft.boot_services_left is None:
        draft.exit_boot_services = fact(value=False, event=event)


def _finish(draft: Draft, covered: frozenset[int]) -> BootFacts:
    images = draft.images
    missing = [
        f"PCR {pcr} is not proven by the log: {subject}"
        for pcr, subject in _SUBJECTS.items()
        if pcr not in covered
    ]
    if SECURE_BOOT_PCR in covered and draft.secure_boot is None:
        draft.quirks[QuirkName.SECURE_BOOT_MISSING] = None
        missing.append("no event of PCR 7 tells whether Secure Boot is on")
    if APPLICATION_PCR in covered and draft.boot_services_left is None:
        images = [fact for fact in images if fact.value.kind is not ImageKind.APPLICATION]
        if len(images) < len(draft.images):
            draft.quirks[QuirkName.EXIT_BOOT_SERVICES_MISSING] = None
        missing.append(
            "boot applications: no event says that boot services were left, so what the "
            "firmware loaded cannot be held apart from what came later"
        )
    return BootFacts(
        secure_boot=draft.secure_boot,
        databases=draft.databases,
        modes=draft.modes,
        authorities=tuple(draft.authorities),
        images=tuple(images),
        boot_order=draft.boot_order,
        boot_entries=tuple(draft.boot_entries),
        partition_tables=tuple(draft.partition_tables),
        command_lines=tuple(draft.command_lines),
        loader_lines=tuple(draft.loader_lines),
        loader_files=tuple(draft.loader_files),
        firmware_version=draft.firmware_version,
        exit_boot_services=draft.exit_boot_services,
        dma_protection_disabled=draft.dma_protection_disabled,
        firmware_actions=tuple(draft.firmware_actions),
        covered=covered,
        not_covered=(*missing, *draft.not_covered),
        troubles=tuple(draft.troubles),
        quirks=tuple(draft.quirks),
    )
