"""Where the log says that an image came from, in text: a hint for people, never proven."""

from __future__ import annotations

from typing import Final

from attestation.errors import InputError
from attestation.logs.event_types import EventType, event_type_name
from attestation.uefi.device_path import device_path_text
from attestation.uefi.device_security import parse_device_security
from attestation.uefi.firmware import IMAGE_LOAD_SURPLUS, parse_firmware_blob, parse_image_load
from attestation.uefi.text import any_text, shown

IMAGE_LOADS: Final = frozenset(
    int(kind)
    for kind in (
        EventType.EFI_BOOT_SERVICES_APPLICATION,
        EventType.EFI_BOOT_SERVICES_DRIVER,
        EventType.EFI_RUNTIME_SERVICES_DRIVER,
    )
)
"""Types of events whose content is an UEFI_IMAGE_LOAD_EVENT."""

_NAMED_BLOBS: Final = (int(EventType.EFI_PLATFORM_FIRMWARE_BLOB2), int(EventType.POST_CODE2))
_BLOBS: Final = (int(EventType.EFI_PLATFORM_FIRMWARE_BLOB), int(EventType.POST_CODE))
_BLOB_BYTES: Final = 16
_DEVICE_SECURITY: Final = int(EventType.EFI_SPDM_FIRMWARE_BLOB)


def image_place(event_type: int, content: bytes) -> str:
    """Return where an image came from: its device path, its address, or what the event says.

    Args:
        event_type: TCG_EVENTTYPE of the image's event.
        content: The event's content as logged; empty text for a load without a readable path.
    """
    loaded = event_type in IMAGE_LOADS
    try:
        if loaded:
            return device_path_text(parse_image_load(content, surplus=IMAGE_LOAD_SURPLUS).path)
        if event_type in _BLOBS and len(content) == _BLOB_BYTES:
            blob = parse_firmware_blob(content)
            return f"Blob(0x{blob.base:x},0x{blob.size:x})"
        if event_type in _NAMED_BLOBS and any_text(content) is None:
            blob = parse_firmware_blob(content, named=True)
            return f"{blob.name} Blob(0x{blob.base:x},0x{blob.size:x})".lstrip()
        if event_type == _DEVICE_SECURITY:
            device = parse_device_security(content)
            return f"{device_path_text(device.path) or device.device} {device.what}"
    except InputError:
        if loaded:
            return ""
    return shown(content) or event_type_name(event_type)
