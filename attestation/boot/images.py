"""PCR 0, 2 and 4: code that the firmware measured before it ran it (PFP 1.06, 3.3.4).

Which kind an image is follows from its PCR, which is proven, not from the event's type, which is
not. In these PCRs every event but separators, proven actions and the firmware's version is an
image, so that none can hide under another type.
"""

from __future__ import annotations

from typing import Final

from attestation.boot.draft import Draft
from attestation.boot.facts import Image, ImageKind, fact
from attestation.boot.places import IMAGE_LOADS
from attestation.errors import InputError
from attestation.logs.contents import WHOLE, how_measured
from attestation.logs.event_types import EventType
from attestation.logs.quirks import QuirkName
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.firmware import IMAGE_LOAD_SURPLUS, parse_image_load
from attestation.uefi.guid import GUID_BYTES, guid_text
from attestation.uefi.text import any_text, shown

APPLICATION_PCR: Final = 4
_KINDS: Final = {
    0: ImageKind.FIRMWARE,
    2: ImageKind.DRIVER,
    APPLICATION_PCR: ImageKind.APPLICATION,
}
IMAGE_PCRS: Final = tuple(_KINDS)
_VERSION: Final = int(EventType.S_CRTM_VERSION)
_VERSION_SHOWN: Final = 64


def read_image_event(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one event of PCR 0, 2 or 4 that is neither separator nor action."""
    _, pcr, kind, _, _ = event
    if kind == _VERSION and pcr == 0:
        _read_version(draft, event, digest)
        return
    if pcr == APPLICATION_PCR:
        if kind not in IMAGE_LOADS:
            draft.misplaced(event)
            return
        if draft.boot_services_left is not None:
            draft.trouble(event, "a boot application is measured after boot services were left")
            return
        if draft.application_from is None:
            draft.quirks[QuirkName.APPLICATION_BEFORE_BOOT] = None
    before = (
        (draft.application_from is None) if pcr == APPLICATION_PCR else (pcr not in draft.separated)
    )
    if kind in IMAGE_LOADS:
        _note_empty(draft, event)
    draft.images.append(fact(Image(_KINDS[pcr], digest, before, kind, event.event), event))


def _read_version(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    content = event.event
    if how_measured(event.type, content, digest, draft.hasher) != WHOLE:
        draft.quirks[QuirkName.CRTM_VERSION_UNPROVEN] = None
        draft.not_covered.append(
            f"the firmware's version: event {event.number} does not hash to its digest"
        )
        return
    text = any_text(content)
    if text is None:
        text = guid_text(content) if len(content) == GUID_BYTES else shown(content, _VERSION_SHOWN)
    if text and draft.firmware_version is None:
        draft.firmware_version = fact(text, event)


def _note_empty(draft: Draft, event: MeasuredEvent) -> None:
    """Note an image of which the log does not say where it came from."""
    try:
        named = parse_image_load(event.event, surplus=IMAGE_LOAD_SURPLUS).path
    except InputError:
        named = b""
    if not named:
        draft.quirks[QuirkName.SHIM_IMAGE_EVENT_EMPTY] = None
