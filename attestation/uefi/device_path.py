"""EFI device paths as text (UEFI 2.10, 10.3 and 10.6).

A device path says where an image or boot option is. It is never covered by a digest: a hint for
people, so whatever cannot be read is shown as it is, in hexadecimal, and refused by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from attestation.errors import MalformedInput
from attestation.limits import MAX_DEVICE_PATH_NODES
from attestation.reader import Reader, Struct
from attestation.uefi.guid import guid_text

_NODE: Final = Struct("<BBH")
_END: Final = 0x7F
_END_ENTIRE: Final = 0xFF
_MOST_HEX: Final = 32
_NODES_KEPT: Final = 1024
_LONGEST_KEPT: Final = 256
"""Nodes whose text is remembered: at most half a MiB."""

_U8x2: Final = Struct("<BB")
_U16x3: Final = Struct("<HHH")
_PNP: Final = Struct("<II")
_U32: Final = Struct("<I")
_RANGE: Final = Struct("<IQQ")
_HARD_DRIVE: Final = Struct("<IQQ16sBB")
_CDROM: Final = Struct("<IQQ")
_PNP_MASK: Final = 0xFFFF
_PNP_EISA: Final = 0x41D0
_ACPI_NAMES: Final = {0x0A03: "PciRoot", 0x0A08: "PcieRoot", 0x0604: "Floppy", 0x0301: "Keyboard"}
_MAC_BYTES: Final = 6
_MBR, _GPT = 1, 2
_IPV4_BYTES: Final = 4


def device_path_text(path: bytes) -> str:
    """Return a device path in the text form of UEFI 2.10, 10.6: ``PciRoot(0x0)/Pci(0x1,0x2)``.

    Args:
        path: The nodes, with or without the end node.

    Returns:
        The nodes joined by ``/``, instances by ``,``. A node of a kind that is not known here is
        ``Path(type,subtype,hex)``; bytes that are no node are ``hex(…)``; after
        ``MAX_DEVICE_PATH_NODES`` nodes it ends in ``…``.
    """
    reader = Reader(path, "EFI_DEVICE_PATH")
    parts: list[str] = []
    joint = ""
    for nodes, ((kind, subtype, _), body) in enumerate(reader.records(_NODE, whole=True), 1):
        if kind == _END:
            if subtype == _END_ENTIRE:
                return "".join(parts)
            joint = ","
        else:
            parts += (joint, _node_text(kind, subtype, body))
            joint = "/"
        if nodes == MAX_DEVICE_PATH_NODES:
            return "".join([*parts, joint, "…"])
    if reader.remaining:
        parts += (joint, f"hex({_hex(reader.rest())})")
    return "".join(parts)


def _hex(content: bytes) -> str:
    return content[:_MOST_HEX].hex() + ("…" if len(content) > _MOST_HEX else "")


def _node_text(kind: int, subtype: int, body: bytes) -> str:
    """Return one node in text; remembered, since buses, volumes and loaders' names come again."""
    if len(body) <= _LONGEST_KEPT:
        return _kept_node_text(kind, subtype, body)
    return _written_node(kind, subtype, body)


def _written_node(kind: int, subtype: int, body: bytes) -> str:
    writer = _NODES.get((kind, subtype))
    if writer is not None:
        try:
            return writer(Reader(body, "EFI_DEVICE_PATH node"))
        except (MalformedInput, UnicodeDecodeError):
            pass
    return f"Path({kind},{subtype},{_hex(body)})"


_kept_node_text: Final = lru_cache(maxsize=_NODES_KEPT)(_written_node)


# --- hardware, ACPI ------------------------------------------------------------------------


def _pci(reader: Reader) -> str:
    function, device = reader.unpack(_U8x2)
    return f"Pci(0x{device:x},0x{function:x})"


def _memory_mapped(reader: Reader) -> str:
    kind, start, end = reader.unpack(_RANGE)
    return f"MemoryMapped(0x{kind:x},0x{start:x},0x{end:x})"


def _guid_node(name: str) -> Callable[[Reader], str]:
    def write(reader: Reader) -> str:
        text = guid_text(reader.take(16))
        rest = reader.rest()
        return f"{name}({text}{',' + _hex(rest) if rest else ''})"

    return write


def _acpi(reader: Reader) -> str:
    hid, uid = reader.unpack(_PNP)
    if hid & _PNP_MASK != _PNP_EISA:
        return f"Acpi(0x{hid:08x},0x{uid:x})"
    name = _ACPI_NAMES.get(hid >> 16)
    return f"{name}(0x{uid:x})" if name else f"Acpi(PNP{hid >> 16:04X},0x{uid:x})"


def _controller(reader: Reader) -> str:
    return f"Ctrl(0x{reader.unpack(_U32)[0]:x})"


# --- messaging -----------------------------------------------------------------------------


def _sata(reader: Reader) -> str:
    port, multiplier, lun = reader.unpack(_U16x3)
    return f"Sata(0x{port:x},0x{multiplier:x},0x{lun:x})"


def _atapi(reader: Reader) -> str:
    secondary, slave = reader.unpack(_U8x2)
    lun = reader.unpack(Struct("<H"))[0]
    return f"Ata({'Secondary' if secondary else 'Primary'},{'Slave' if slave else 'Master'},{lun})"


def _scsi(reader: Reader) -> str:
    target, lun = reader.unpack(Struct("<HH"))
    return f"Scsi(0x{target:x},0x{lun:x})"


def _usb(reader: Reader) -> str:
    port, interface = reader.unpack(_U8x2)
    return f"USB(0x{port:x},0x{interface:x})"


def _mac(reader: Reader) -> str:
    address = reader.take(32)
    kind = reader.u8()
    used = address[:_MAC_BYTES] if kind in (0, 1) else address
    return f"MAC({used.hex()},0x{kind:x})"


def _ipv4(reader: Reader) -> str:
    reader.take(_IPV4_BYTES)
    return "IPv4(" + ".".join(str(octet) for octet in reader.take(_IPV4_BYTES)) + ")"


def _ipv6(reader: Reader) -> str:
    reader.take(16)
    return f"IPv6({reader.take(16).hex(':', 2)})"


def _nvme(reader: Reader) -> str:
    namespace = reader.unpack(_U32)[0]
    return f"NVMe(0x{namespace:x},{reader.take(8)[::-1].hex('-')})"


def _uri(reader: Reader) -> str:
    return f"Uri({reader.rest().decode('ascii')})"


def _lun(reader: Reader) -> str:
    return f"Unit(0x{reader.u8():x})"


# --- media ---------------------------------------------------------------------------------


def _hard_drive(reader: Reader) -> str:
    number, start, size, signature, _, kind = reader.unpack(_HARD_DRIVE)
    if kind == _GPT:
        name = f"GPT,{guid_text(signature)}"
    elif kind == _MBR:
        name = f"MBR,0x{signature[3::-1].hex()}"
    else:
        name = f"{kind},0"
    return f"HD({number},{name},0x{start:x},0x{size:x})"


def _cdrom(reader: Reader) -> str:
    entry, start, size = reader.unpack(_CDROM)
    return f"CDROM(0x{entry:x},0x{start:x},0x{size:x})"


def _file_path(reader: Reader) -> str:
    text = reader.rest().decode("utf-16-le").rstrip("\0")
    return text if text.isprintable() else f"File({_hex(text.encode('utf-16-le'))})"


def _offset(reader: Reader) -> str:
    reader.take(4)
    start, end = reader.unpack(Struct("<QQ"))
    return f"Offset(0x{start:x},0x{end:x})"


def _bios_boot(reader: Reader) -> str:
    kind, _ = reader.unpack(Struct("<HH"))
    text = reader.rest().rstrip(b"\0").decode("latin-1")
    return f"BBS(0x{kind:x},{text if text.isprintable() else _hex(text.encode('latin-1'))})"


_NODES: Final[dict[tuple[int, int], Callable[[Reader], str]]] = {
    (1, 1): _pci,
    (1, 3): _memory_mapped,
    (1, 4): _guid_node("VenHw"),
    (1, 5): _controller,
    (2, 1): _acpi,
    (3, 1): _atapi,
    (3, 2): _scsi,
    (3, 5): _usb,
    (3, 10): _guid_node("VenMsg"),
    (3, 11): _mac,
    (3, 12): _ipv4,
    (3, 13): _ipv6,
    (3, 17): _lun,
    (3, 18): _sata,
    (3, 23): _nvme,
    (3, 24): _uri,
    (4, 1): _hard_drive,
    (4, 2): _cdrom,
    (4, 3): _guid_node("VenMedia"),
    (4, 4): _file_path,
    (4, 6): _guid_node("FvFile"),
    (4, 7): _guid_node("Fv"),
    (4, 8): _offset,
    (5, 1): _bios_boot,
}
