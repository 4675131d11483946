"""What a device on a bus said of its own firmware (SPDM), as firmware logs it in PCR 2 and 3.

DEVICE_SECURITY_EVENT_DATA and …DATA2 of EV_EFI_SPDM_FIRMWARE_BLOB and …_CONFIG (PFP 1.06, 10.2).
Read for people only: the policies judge such an event by its digest, like any other code of PCR 2.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation.reader import Reader, Struct

_STRUCTURE: Final = "DEVICE_SECURITY_EVENT_DATA"
_SIGNATURE_1: Final = b"SPDM Device Sec\0"
_SIGNATURE_2: Final = b"SPDM Device Sec2"
_HEAD_1: Final = Struct("<HHII")
_HEAD_2: Final = Struct("<HBBIIIIQ")
_LENGTH: Final = Struct("<Q")
_SUB_HEAD: Final = Struct("<HBBI")
_BLOCK: Final = Struct("<BBH")
_DEVICES: Final = {0: "no device", 1: "PCI device", 2: "USB device"}
_CERTIFICATES: Final = 1
_AUTHENTICATED: Final = {
    0: "authenticated",
    1: "not authenticated",
    2: "authenticated, not bound to a nonce",
    3: "no signature",
    4: "wrong signature",
    0xFF: "no SPDM",
}


class DeviceSecurity(NamedTuple):
    """One measurement or certificate chain of a device, believed by nobody yet.

    Attributes:
        device: Its kind of bus, for people.
        state: Whether the firmware could authenticate it, for people; empty in the first form.
        path: Its device path, as bytes; empty in the first form.
        what: ``measurement N`` (the index of an SPDM block) or ``certificate chain in slot N``.
        value: The measurement block's content, or the chain, as the device gave it.
    """

    device: str
    state: str
    path: bytes
    what: str
    value: bytes


def parse_device_security(content: bytes) -> DeviceSecurity:
    """Read a DEVICE_SECURITY_EVENT_DATA or …DATA2.

    Args:
        content: The event's content. The device's context at its end is not looked at.

    Raises:
        MalformedInput: If it is cut off (``truncated``), or its signature is of neither form, or
            its measurement is of a kind that is not known (``value-out-of-range``).
    """
    reader = Reader(content, _STRUCTURE)
    signature = reader.take(len(_SIGNATURE_1), "Signature")
    if signature == _SIGNATURE_1:
        _, _, _, device = reader.unpack(_HEAD_1, "fixed fields")
        what, value = _measurement(reader)
        return DeviceSecurity(_device(device), "", b"", what, value)
    if signature != _SIGNATURE_2:
        raise reader.wrong("Signature", signature.hex(), "SPDM Device Sec or SPDM Device Sec2")
    _, state, _, _, device, kind, size, _ = reader.unpack(_HEAD_2, "fixed fields")
    path = reader.take(reader.unpack(_LENGTH, "device path length")[0], "device path")
    inside = Reader(reader.take(size, "sub header"), _STRUCTURE)
    _, slot_or_blocks, _, _ = inside.unpack(_SUB_HEAD, "sub header")
    if kind == 0:
        what, value = _measurement(inside)
    elif kind == _CERTIFICATES:
        what, value = f"certificate chain in slot {slot_or_blocks}", inside.rest()
    else:
        raise reader.wrong("SubHeaderType", kind, "0 (measurement) or 1 (certificate chain)")
    told = _AUTHENTICATED.get(state, f"state {state}")
    return DeviceSecurity(_device(device), told, path, what, value)


def _measurement(reader: Reader) -> tuple[str, bytes]:
    """Read an SPDM_MEASUREMENT_BLOCK (DSP0274, 10.11.1)."""
    index, _, size = reader.unpack(_BLOCK, "measurement block")
    return f"measurement {index}", reader.take(size, "measurement")


def _device(number: int) -> str:
    return _DEVICES.get(number, f"device of type {number}")
