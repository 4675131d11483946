"""Writes UEFI structures for tests: the writing side of attestation.uefi."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.reader import pack
from attestation.uefi.guid import CERT_SHA256, CERT_X509, GLOBAL_VARIABLE

OWNER = bytes(range(16))


def variable(name: str, data: bytes, vendor: bytes = GLOBAL_VARIABLE) -> bytes:
    """A UEFI_VARIABLE_DATA."""
    return pack("<16sQQ", vendor, len(name), len(data)) + name.encode("utf-16-le") + data


def signature_list(kind: bytes, entries: list[bytes], *, header: bytes = b"") -> bytes:
    """An EFI_SIGNATURE_LIST of entries of one size."""
    size = 16 + len(entries[0]) if entries else 48
    body = b"".join(OWNER + entry for entry in entries)
    return pack("<16sIII", kind, 28 + len(header) + len(body), len(header), size) + header + body


def hash_list(*images: bytes) -> bytes:
    """A list of SHA-256 image hashes."""
    return signature_list(CERT_SHA256, list(images))


def certificate_list(der: bytes) -> bytes:
    """A list with one certificate."""
    return signature_list(CERT_X509, [der])


@cache
def certificate_named(name: str) -> bytes:
    """DER of a certificate whose subject is ``CN=name``; the same for the same name."""
    key, at = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), 7, at, at)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def node(kind: int, subtype: int, body: bytes) -> bytes:
    """One device path node."""
    return pack("<BBH", kind, subtype, 4 + len(body)) + body


END = node(0x7F, 0xFF, b"")


def file_path(name: str) -> bytes:
    """A device path of one file."""
    return node(4, 4, (name + "\0").encode("utf-16-le")) + END


def load_option(description: str, path: bytes, data: bytes = b"", *, active: bool = True) -> bytes:
    """An EFI_LOAD_OPTION."""
    text = (description + "\0").encode("utf-16-le")
    return pack("<IH", int(active), len(path)) + text + path + data


def image_load(path: bytes, surplus: bytes = b"") -> bytes:
    """An UEFI_IMAGE_LOAD_EVENT."""
    return pack("<QQQQ", 0x1000, 0x2000, 0, len(path)) + path + surplus


def tagged(tag: int, data: bytes) -> bytes:
    """One TCG_PCClientTaggedEvent."""
    return pack("<II", tag, len(data)) + data


def partition_table(disk: bytes, *names: str) -> bytes:
    """An UEFI_GPT_DATA."""
    head = pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 9, 34, 8, disk, 2, 128, 128, 0
    )
    entries = b"".join(
        pack("<16s16sQQQ72s", OWNER, OWNER, 34, 40, 0, name.encode("utf-16-le")) for name in names
    )
    return head + pack("<Q", len(names)) + entries


SPDM_BLOCK = pack("<BBH", 3, 1, 6) + b"fw 1.4"
DEVICE_CONTEXT = b"any context"


def device_security(
    kind: int = 0,
    inside: bytes = SPDM_BLOCK,
    *,
    state: int = 0,
    path: bytes = file_path("a.rom"),
) -> bytes:
    """A DEVICE_SECURITY_EVENT_DATA2 of a PCI device."""
    sub = pack("<HBBI", 0x0012, 5, 0, 2) + inside
    head = pack("<16sHBBIIIIQ", b"SPDM Device Sec2", 2, state, 0, 0, 1, kind, len(sub), 7)
    return head + pack("<Q", len(path)) + path + sub + DEVICE_CONTEXT
