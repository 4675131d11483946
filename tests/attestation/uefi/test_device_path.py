from __future__ import annotations

import pytest

from attestation.limits import MAX_DEVICE_PATH_NODES
from attestation.reader import pack
from attestation.uefi.device_path import device_path_text
from attestation.uefi.guid import guid
from tests.simulators.uefi import END, file_path, node

ROOT = node(2, 1, pack("<II", 0x0A0341D0, 0))
GUID = guid("462caa21-7614-4503-836e-8ab6f4662331")
TEXT = "462caa21-7614-4503-836e-8ab6f4662331"
MAC = bytes.fromhex("a4ae1114f9e0") + bytes(26)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", ""),
        (END, ""),
        (ROOT + node(1, 1, b"\6\x1f") + END, "PciRoot(0x0)/Pci(0x1f,0x6)"),
        (node(2, 1, pack("<II", 0x0A0841D0, 1)), "PcieRoot(0x1)"),
        (node(2, 1, pack("<II", 0x050141D0, 1)), "Acpi(PNP0501,0x1)"),
        (node(2, 1, pack("<II", 0x12345678, 1)), "Acpi(0x12345678,0x1)"),
        (node(1, 3, pack("<IQQ", 11, 0x1000, 0x2000)), "MemoryMapped(0xb,0x1000,0x2000)"),
        (node(1, 4, GUID), f"VenHw({TEXT})"),
        (node(1, 4, GUID + b"\1"), f"VenHw({TEXT},01)"),
        (node(1, 5, pack("<I", 3)), "Ctrl(0x3)"),
        (node(3, 1, b"\0\1\0\0"), "Ata(Primary,Slave,0)"),
        (node(3, 2, pack("<HH", 1, 0)), "Scsi(0x1,0x0)"),
        (node(3, 5, b"\x03\x00"), "USB(0x3,0x0)"),
        (node(3, 10, GUID + b"\xab"), f"VenMsg({TEXT},ab)"),
        (node(3, 11, MAC + b"\1"), "MAC(a4ae1114f9e0,0x1)"),
        (node(3, 12, bytes(4) + b"\x0a\0\0\1" + bytes(11)), "IPv4(10.0.0.1)"),
        (node(3, 13, bytes(16) + bytes(15) + b"\1"), "IPv6(" + "0000:" * 7 + "0001)"),
        (node(3, 17, b"\2"), "Unit(0x2)"),
        (node(3, 18, pack("<HHH", 1, 0xFFFF, 0)), "Sata(0x1,0xffff,0x0)"),
        (
            node(3, 23, pack("<I", 1) + bytes(range(1, 9))),
            "NVMe(0x1,08-07-06-05-04-03-02-01)",
        ),
        (node(3, 24, b"https://boot.example/"), "Uri(https://boot.example/)"),
        (
            node(4, 1, pack("<IQQ16sBB", 1, 0x800, 0x64000, GUID, 2, 2)),
            f"HD(1,GPT,{TEXT},0x800,0x64000)",
        ),
        (
            node(4, 1, pack("<IQQ16sBB", 1, 0x800, 0x10, b"\4\3\2\1" + bytes(12), 1, 1)),
            "HD(1,MBR,0x01020304,0x800,0x10)",
        ),
        (node(4, 2, pack("<IQQ", 1, 2, 3)), "CDROM(0x1,0x2,0x3)"),
        (node(4, 3, GUID), f"VenMedia({TEXT})"),
        (file_path("\\EFI\\BOOT\\BOOTX64.EFI"), "\\EFI\\BOOT\\BOOTX64.EFI"),
        (node(4, 7, GUID) + node(4, 6, GUID), f"Fv({TEXT})/FvFile({TEXT})"),
        (node(4, 8, pack("<IQQ", 0, 0x100, 0x1FF)), "Offset(0x100,0x1ff)"),
        (node(5, 1, pack("<HH", 2, 0) + b"disk\0"), "BBS(0x2,disk)"),
        (ROOT + node(0x7F, 1, b"") + ROOT + END, "PciRoot(0x0),PciRoot(0x0)"),
    ],
)
def test_path_is_written_as_the_standard_writes_it(path: bytes, text: str) -> None:
    assert device_path_text(path) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (node(9, 9, b"\xab"), "Path(9,9,ab)"),
        (node(1, 1, b"\1"), "Path(1,1,01)"),
        (node(4, 4, b"\x00\xd8"), "Path(4,4,00d8)"),
        (node(4, 4, "\x1b[2J".encode("utf-16-le")), "File(1b005b0032004a00)"),
        (node(3, 24, b"\xff"), "Path(3,24,ff)"),
        (b"\1\1\3\0", "hex(01010300)"),
        (b"\1\1\xff\xff\0", "hex(0101ffff00)"),
        (b"\1", "hex(01)"),
        (ROOT + b"\1", "PciRoot(0x0)/hex(01)"),
        (node(9, 9, bytes(64)), "Path(9,9," + "00" * 32 + "…)"),
    ],
)
def test_what_cannot_be_read_is_shown_as_it_is(path: bytes, text: str) -> None:
    assert device_path_text(path) == text


def test_endless_path_is_cut() -> None:
    text = device_path_text(node(1, 1, b"\0\0") * (MAX_DEVICE_PATH_NODES + 9))
    assert text.count("Pci(") == MAX_DEVICE_PATH_NODES
    assert text.endswith("…")
