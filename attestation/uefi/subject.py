"""The subject of a certificate in a Secure Boot variable, for people (RFC 5280, 4.1; RFC 4514).

Read here, bounded and by hand, because firmware makers' certificates break rules that an X.509
library rightly holds (negative serial numbers, country names of 16 letters): what admits images is
the certificate's digest, and the name is only for the reader.
"""

from __future__ import annotations

from typing import Final

from attestation.errors import InputError
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_NAME_ATTRIBUTES
from attestation.reader import Reader

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OID: Final = 0x06
_VERSION: Final = 0xA0
_UTF16_STRING: Final = 0x1E
_LONG: Final = 0x80
_MOST_LENGTH_BYTES: Final = 3
_BEFORE_SUBJECT: Final = 4
"""serialNumber, signature, issuer and validity stand between version and subject."""

_NAMES: Final = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550405"): "serialNumber",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
    bytes.fromhex("0992268993f22c640119"): "DC",
}
_ESCAPED: Final = str.maketrans({char: f"\\{char}" for char in '",+;<>\\'})


def subject_of(der: bytes) -> str | None:
    """Return the subject of a DER certificate as RFC 4514 text, last attribute first.

    Args:
        der: Bytes that may be a certificate.

    Returns:
        ``CN=Microsoft Corporation UEFI CA 2011,O=…``; None if the bytes are no certificate.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        return None
    try:
        outer = Reader(der, "Certificate")
        certificate = _element(outer, _SEQUENCE)
        outer.end()
        tbs = Reader(_element(certificate, _SEQUENCE).rest(), "TBSCertificate")
        kind, _ = _any(tbs)
        for _ in range(_BEFORE_SUBJECT if kind == _VERSION else _BEFORE_SUBJECT - 1):
            _any(tbs)
        return _name(_element(tbs, _SEQUENCE))
    except InputError:
        return None


def _name(name: Reader) -> str:
    parts: list[str] = []
    while name.remaining and len(parts) < MAX_NAME_ATTRIBUTES:
        relative = _element(name, _SET)
        joined: list[str] = []
        while relative.remaining and len(joined) < MAX_NAME_ATTRIBUTES:
            attribute = _element(relative, _SEQUENCE)
            oid = _element(attribute, _OID).rest()
            kind, value = _any(attribute)
            text = value.decode("utf-16-be" if kind == _UTF16_STRING else "utf-8", "replace")
            if not text.isprintable():
                text = "".join(char if char.isprintable() else "?" for char in text)
            joined.append(f"{_NAMES.get(oid, 'OID.' + oid.hex())}={text.translate(_ESCAPED)}")
        parts.append("+".join(joined))
    return ",".join(reversed(parts))


def _element(reader: Reader, wanted: int) -> Reader:
    kind, value = _any(reader)
    if kind != wanted:
        raise reader.wrong("tag", f"0x{kind:02x}", f"0x{wanted:02x}")
    return Reader(value, "DER")


def _any(reader: Reader) -> tuple[int, bytes]:
    """Read one DER element with a one-byte tag: tag and value."""
    head = reader.take(2, "tag and length")
    size = head[1]
    if size >= _LONG:
        count = size - _LONG
        if not 0 < count <= _MOST_LENGTH_BYTES:
            raise reader.wrong("length", f"0x{size:02x}", "a definite length below 16 MiB")
        size = int.from_bytes(reader.take(count, "length"))
    return head[0], reader.take(size, "value")
