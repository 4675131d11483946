"""One line about an event, for people: every type, whatever its content.

A description is read from the content as logged and proves nothing; it helps a person to find
the event that a reason names. Content that cannot be read is shown as text or in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attestation.errors import InputError
from attestation.logs.contents import SHIM_SURPLUS_BYTES
from attestation.logs.event_types import EventType
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.device_path import device_path_text
from attestation.uefi.device_security import parse_device_security
from attestation.uefi.firmware import (
    IMAGE_LOAD_SURPLUS,
    parse_firmware_blob,
    parse_handoff_tables,
    parse_image_load,
)
from attestation.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from attestation.uefi.load_option import parse_load_option
from attestation.uefi.loaders import measured_name
from attestation.uefi.partition_table import parse_partition_table
from attestation.uefi.signatures import parse_admission, parse_signature_lists
from attestation.uefi.tagged import walk_tagged_events
from attestation.uefi.text import any_text, shown
from attestation.uefi.variables import boot_number, parse_boot_order, parse_variable

_LISTS: Final = frozenset(
    [(GLOBAL_VARIABLE, "PK"), (GLOBAL_VARIABLE, "KEK")]
    + [(IMAGE_SECURITY_DATABASE, name) for name in ("db", "dbx", "dbt", "dbr")]
)
_MOST_LETTERS: Final = 400


def describe_event(event: MeasuredEvent) -> str:
    """Return what an event says of itself, in one line of at most 400 letters.

    Args:
        event: A replayed event; its content need not be what was measured.
    """
    writer = _WRITERS.get(event.type, shown)
    try:
        text = writer(event.event)
    except InputError as error:
        text = f"{shown(event.event)} (not readable: {error.reason})"
    return " ".join(text.split())[:_MOST_LETTERS]


def _variable(content: bytes) -> str:
    variable = parse_variable(content)
    key = (variable.vendor, variable.name)
    if key in _LISTS:
        lists = parse_signature_lists(variable.data)
        return (
            f"{variable.name}: {len(lists.certificates)} certificates, {len(lists.hashes)} hashes, "
            f"{lists.others} others"
        )
    if boot_number(variable) is not None:
        option = parse_load_option(variable.data)
        state = "" if option.active else " (not active)"
        return f"{variable.name}{state}: {option.description}, {device_path_text(option.path)}"
    if key == (GLOBAL_VARIABLE, "BootOrder"):
        return "BootOrder: " + " ".join(f"{one:04X}" for one in parse_boot_order(variable.data))
    return f"{variable.name}: {shown(variable.data) or 'empty'}"


def _authority(content: bytes) -> str:
    variable = parse_variable(content, surplus=SHIM_SURPLUS_BYTES)
    admission = parse_admission(variable.vendor, variable.data)
    return f"{variable.name}: {admission.subject or shown(variable.data)}"


def _image(content: bytes) -> str:
    image = parse_image_load(content, surplus=IMAGE_LOAD_SURPLUS)
    return f"{device_path_text(image.path) or 'image'}, {image.size} bytes"


def _blob(content: bytes) -> str:
    blob = parse_firmware_blob(content)
    return f"0x{blob.base:x}, {blob.size} bytes"


def _named_blob(content: bytes) -> str:
    blob = parse_firmware_blob(content, named=True)
    return f"{blob.name}: 0x{blob.base:x}, {blob.size} bytes"


def _post_code(content: bytes) -> str:
    text = shown(content)
    return text if text.isascii() and " " in text else _blob(content)


def _named_post_code(content: bytes) -> str:
    return any_text(content) or _named_blob(content)


def _device_security(content: bytes) -> str:
    found = parse_device_security(content)
    place = ", ".join(part for part in (device_path_text(found.path), found.state) if part)
    told = f"{found.device} {place}".rstrip()
    return f"{told}: {found.what}, {shown(found.value)}"


def _tables(content: bytes) -> str:
    return ", ".join(vendor for vendor, _ in parse_handoff_tables(content).tables)


def _named_tables(content: bytes) -> str:
    found = parse_handoff_tables(content, named=True)
    return f"{found.name}: " + ", ".join(vendor for vendor, _ in found.tables)


def _partitions(content: bytes) -> str:
    table = parse_partition_table(content)
    names = ", ".join(one.name or one.kind for one in table.partitions)
    return f"disk {table.disk}: {names}"


def _tags(content: bytes) -> str:
    rows = walk_tagged_events(content)
    if len(rows) == 1:
        return f"0x{rows[0].tag:08x}: {shown(rows[0].data)}"
    deepest = max((row.depth for row in rows), default=0)
    return f"{len(rows)} tagged events, {deepest} deep"


_WRITERS: Final[dict[int, Callable[[bytes], str]]] = {
    int(kind): writer
    for kind, writer in (
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, _variable),
        (EventType.EFI_VARIABLE_BOOT, _variable),
        (EventType.EFI_VARIABLE_BOOT2, _variable),
        (EventType.EFI_VARIABLE_AUTHORITY, _authority),
        (EventType.EFI_BOOT_SERVICES_APPLICATION, _image),
        (EventType.EFI_BOOT_SERVICES_DRIVER, _image),
        (EventType.EFI_RUNTIME_SERVICES_DRIVER, _image),
        (EventType.EFI_PLATFORM_FIRMWARE_BLOB, _blob),
        (EventType.EFI_PLATFORM_FIRMWARE_BLOB2, _named_blob),
        (EventType.POST_CODE, _post_code),
        (EventType.POST_CODE2, _named_post_code),
        (EventType.EFI_HANDOFF_TABLES, _tables),
        (EventType.TABLE_OF_DEVICES, _tables),
        (EventType.EFI_HANDOFF_TABLES2, _named_tables),
        (EventType.EFI_GPT_EVENT, _partitions),
        (EventType.EFI_GPT_EVENT2, _partitions),
        (EventType.EVENT_TAG, _tags),
        (EventType.IPL, measured_name),
        (EventType.EFI_SPDM_FIRMWARE_BLOB, _device_security),
        (EventType.EFI_SPDM_FIRMWARE_CONFIG, _device_security),
        (EventType.EFI_SPDM_DEVICE_POLICY, _variable),
        (EventType.EFI_SPDM_DEVICE_AUTHORITY, _authority),
    )
}
