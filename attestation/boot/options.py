"""PCR 1 and 5: boot order, boot entries, partition tables (PFP 1.06, 3.3.4)."""

from __future__ import annotations

from typing import Final

from attestation.boot.draft import Draft
from attestation.boot.facts import BootEntry, fact
from attestation.boot.loader import read_tag
from attestation.boot.secure_boot import read_config_variable
from attestation.errors import InputError
from attestation.logs.event_types import EventType
from attestation.logs.replay import MeasuredEvent
from attestation.uefi.guid import GLOBAL_VARIABLE
from attestation.uefi.load_option import parse_load_option
from attestation.uefi.partition_table import parse_partition_table
from attestation.uefi.variables import UefiVariable, boot_number, parse_boot_order, parse_variable

_BOOT_VARIABLES: Final = (int(EventType.EFI_VARIABLE_BOOT), int(EventType.EFI_VARIABLE_BOOT2))
_PARTITIONS: Final = (int(EventType.EFI_GPT_EVENT), int(EventType.EFI_GPT_EVENT2))
_CONFIG: Final = int(EventType.EFI_VARIABLE_DRIVER_CONFIG)
_TAG: Final = int(EventType.EVENT_TAG)


def read_option_event(draft: Draft, event: MeasuredEvent, digest: bytes) -> None:
    """Read one event of PCR 1 or 5 that is neither separator nor action; others tell nothing."""
    if event.type in _BOOT_VARIABLES:
        if draft.proven(event, digest):
            _read_boot_variable(draft, event)
    elif event.type in _PARTITIONS:
        if draft.proven(event, digest):
            try:
                disk = parse_partition_table(event.event).disk
            except InputError as error:
                draft.trouble(event, error)
                return
            draft.partition_tables.append(fact(disk, event))
    elif event.type == _CONFIG:
        read_config_variable(draft, event, digest)
    elif event.type == _TAG:
        read_tag(draft, event, digest)


def _read_boot_variable(draft: Draft, event: MeasuredEvent) -> None:
    try:
        variable = parse_variable(event.event)
        if _seen_otherwise(draft, variable):
            draft.trouble(event, f"variable {variable.name} is measured twice, with another value")
            return
        number = boot_number(variable)
        if number is not None:
            option = parse_load_option(variable.data)
            entry = BootEntry(number, option.description, option.path)
            draft.boot_entries.append(fact(entry, event))
        elif (variable.vendor, variable.name) == (GLOBAL_VARIABLE, "BootOrder"):
            draft.boot_order = fact(parse_boot_order(variable.data), event)
    except InputError as error:
        draft.trouble(event, error)


def _seen_otherwise(draft: Draft, variable: UefiVariable) -> bool:
    key = (variable.vendor, variable.name)
    return draft.seen.setdefault(key, variable.data) != variable.data
