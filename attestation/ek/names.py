"""Distinguished names and what an EK certificate says of its TPM.

RFC 5280, 4.1.2.4; TCG EK Credential Profile for TPM 2.0 (2.5), 3.2.9 and 3.2.10. Names are
compared by their ``key``: STMicroelectronics writes one name as UTF8String below and as
PrintableString above. The texts are for people, with everything unprintable replaced.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from attestation import der
from attestation.der import DerReader, Element

_STRUCTURE: Final = "EK certificate name"
_DIRECTORY_NAME: Final = 0xA4
_MAX_TEXT: Final = 128

_LABELS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.23.133.2.1": "tpmManufacturer",
    "2.23.133.2.2": "tpmModel",
    "2.23.133.2.3": "tpmVersion",
}
_CODECS: Final = {
    0x0C: "utf-8",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""UTF8String, PrintableString, TeletexString, IA5String, UniversalString, BMPString."""

MANUFACTURER: Final = "2.23.133.2.1"
MODEL: Final = "2.23.133.2.2"
VERSION: Final = "2.23.133.2.3"
SPECIFICATION: Final = "2.23.133.2.16"
_ID_PREFIX: Final = "id:"
_VENDOR_ID_DIGITS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A distinguished name.

    Attributes:
        raw: DER as it stands in the certificate.
        key: The name as RFC 5280, 7.1 compares it: string types, case and blanks do not count.
        attributes: (dotted OID, printable text) in order.
        sets_ordered: Whether every SET OF is in DER order (X.690, 11.6).
    """

    raw: bytes
    key: tuple[tuple[tuple[str, str], ...], ...]
    attributes: tuple[tuple[str, str], ...]
    sets_ordered: bool

    @property
    def text(self) -> str:
        """The name for people: ``CN=…, O=…``."""
        return ", ".join(f"{_LABELS.get(oid, oid)}={value}" for oid, value in self.attributes)

    def get(self, oid: str) -> str | None:
        """Return the first value of an attribute, or None."""
        return next((value for seen, value in self.attributes if seen == oid), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmMaker:
    """Which TPM a certificate is for, as of its making.

    Attributes:
        vendor_id: TCG vendor id, four bytes, e.g. IFX and a NUL; None if it is not written
            ``id:`` and eight hexadecimal digits.
        manufacturer: The vendor id as text (``IFX``), or what stands there instead.
        model: Part number, e.g. ``SLB 9665``.
        version: Firmware version as it stands, e.g. ``id:053E``.
    """

    vendor_id: bytes | None
    manufacturer: str
    model: str
    version: str

    @property
    def firmware(self) -> tuple[int, ...] | None:
        """(major, minor) of ``version``, or None where the maker means something else by it.

        The halves of the number, of 8 bits each in four digits and of 16 bits each in eight, are
        major and minor.
        """
        digits = self.version.removeprefix(_ID_PREFIX)
        half = len(digits) // 2
        if digits == self.version or len(digits) not in (4, _VENDOR_ID_DIGITS):
            return None
        if not digits.isascii() or not all(sign in "0123456789abcdefABCDEF" for sign in digits):
            return None
        return int(digits[:half], 16), int(digits[half:], 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmSpecification:
    """tpmSpecification: the library specification the TPM follows (EK Profile, 3.2.10)."""

    family: str
    level: int
    revision: int


def read_name(element: Element) -> Name:
    """Read a Name (RDNSequence). Raises MalformedInput."""
    attributes: list[tuple[str, str]] = []
    key = []
    ordered = True
    reader = DerReader(element.body, _STRUCTURE)
    while reader.more:
        pairs = der.children(reader.next("relative name", der.SET), _STRUCTURE)
        raws = [pair.raw for pair in pairs]
        ordered &= raws == sorted(raws)
        compared = []
        for pair in pairs:
            inner = DerReader(pair.body, _STRUCTURE)
            oid = der.oid(inner.next("attribute type", der.OID))
            value = inner.next("attribute value")
            inner.end()
            attributes.append((oid, printable(value)))
            compared.append((oid, _comparable(value)))
        key.append(tuple(sorted(compared)))
    return Name(raw=element.raw, key=tuple(key), attributes=tuple(attributes), sets_ordered=ordered)


def printable(element: Element) -> str:
    """Return a string element as text a terminal may show; other types as hexadecimal."""
    codec = _CODECS.get(element.tag)
    if codec is None:
        return f"#{element.raw[: _MAX_TEXT // 2].hex()}"
    text = element.body[: 4 * _MAX_TEXT].decode(codec, errors="replace")[:_MAX_TEXT]
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _comparable(element: Element) -> str:
    """Return a value as RFC 5280, 7.1 compares it; what is no string, as it stands."""
    codec = _CODECS.get(element.tag)
    try:
        text = element.body.decode(codec) if codec else ""
    except UnicodeDecodeError:
        text = ""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return f"text {folded}" if folded else f"raw {element.raw.hex()}"


def directory_names(general_names: bytes) -> tuple[Name, ...]:
    """Return the directoryName entries of a subjectAltName. Raises MalformedInput."""
    outer = DerReader(general_names, _STRUCTURE)
    entries = der.children(outer.next("GeneralNames", der.SEQUENCE), _STRUCTURE)
    outer.end()
    found = []
    for entry in entries:
        if entry.tag == _DIRECTORY_NAME:
            inner = DerReader(entry.body, _STRUCTURE)
            found.append(read_name(inner.next("directoryName", der.SEQUENCE)))
            inner.end()
    return tuple(found)


def tpm_maker(names: tuple[Name, ...]) -> TpmMaker | None:
    """Return which TPM these names speak of; None if no one names a manufacturer."""
    for name in names:
        claimed = name.get(MANUFACTURER)
        if claimed is None:
            continue
        vendor_id = _vendor_id(claimed)
        shown = vendor_id.rstrip(b"\x00 ").decode("ascii", errors="replace") if vendor_id else ""
        usable = shown and shown.isprintable()
        return TpmMaker(
            vendor_id=vendor_id,
            manufacturer=shown if usable else claimed,
            model=name.get(MODEL) or "",
            version=name.get(VERSION) or "",
        )
    return None


def tpm_specification(attributes: bytes) -> TpmSpecification | None:
    """Return the tpmSpecification of a subjectDirectoryAttributes; None without one.

    Raises:
        MalformedInput: If it is not of the profile's form.
    """
    outer = DerReader(attributes, _STRUCTURE)
    for entry in der.children(outer.next("attributes", der.SEQUENCE), _STRUCTURE):
        reader = DerReader(entry.body, _STRUCTURE)
        if der.oid(reader.next("attribute type", der.OID)) != SPECIFICATION:
            continue
        values = DerReader(reader.next("attribute values", der.SET).body, _STRUCTURE)
        fields = DerReader(values.next("tpmSpecification", der.SEQUENCE).body, _STRUCTURE)
        return TpmSpecification(
            family=printable(fields.next("family")),
            level=der.integer(fields.next("level", der.INTEGER)),
            revision=der.integer(fields.next("revision", der.INTEGER)),
        )
    return None


def _vendor_id(claimed: str) -> bytes | None:
    digits = claimed.removeprefix(_ID_PREFIX)
    if digits == claimed or len(digits) != _VENDOR_ID_DIGITS:
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None
