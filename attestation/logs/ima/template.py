"""IMA templates: what the hashed bytes of one entry say.

Template data is a row of fields, each a little-endian u32 length and its bytes (Linux
``security/integrity/ima/ima_template_lib.c``); only ``ima`` has none of the lengths. A template
that we do not know, or a field that breaks its form, is refused: what cannot be read cannot be
judged, and must not count as known.

============ ==================================================
ima          SHA-1 or MD5 digest (20 bytes), name (256 bytes)
ima-ng       d-ng, n-ng
ima-ngv2     d-ngv2, n-ng
ima-sig      d-ng, n-ng, sig
ima-sigv2    d-ngv2, n-ng, sig
ima-modsig   d-ng, n-ng, sig, d-modsig, modsig
ima-buf      d-ng, n-ng, buf
============ ==================================================

d-ng is ``algorithm:`` NUL digest, d-ngv2 the same behind ``ima:`` or ``verity:``; n-ng is a path
with one NUL at its end.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from attestation.errors import MalformedInput, Unsupported
from attestation.reader import LE_U32, Reader, pack
from attestation.refusals import RefusalCode

STRUCTURE: Final = "IMA list"
"""Name of the structure in every error about a list."""

LEGACY: Final = b"ima"
NG: Final = b"ima-ng"
SIG: Final = b"ima-sig"
MODSIG: Final = b"ima-modsig"
BUF: Final = b"ima-buf"

FIELDS: Final = {
    LEGACY: (),
    NG: ("d-ng", "n-ng"),
    b"ima-ngv2": ("d-ngv2", "n-ng"),
    SIG: ("d-ng", "n-ng", "sig"),
    b"ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    MODSIG: ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    BUF: ("d-ng", "n-ng", "buf"),
}
"""Fields of each template that we read; every other name is refused."""

LEGACY_DIGEST_BYTES: Final = 20
LEGACY_NAME_BYTES: Final = 256

_ALGORITHM: Final = re.compile(rb"[a-z0-9_-]{1,32}")
_LONGEST_DIGEST: Final = 64
_FILE: Final = b"ima:"
_VERITY: Final = b"verity:"


class ImaFile(NamedTuple):
    """What one entry says of one file or buffer.

    Attributes:
        digest: ``algorithm:`` NUL digest, as d-ng has it; ``verity:`` stands before it where the
            digest is that of a Merkle tree.
        path: The path, or the name of a buffer; any bytes but NUL.
        signature: The ``security.ima`` attribute; empty if there is none.
        modsig_digest: Digest that an appended signature covers, in the form of ``digest``.
        modsig: Appended PKCS#7 signature (DER); empty if there is none.
        buffer: Content of a measured buffer; empty for a file.
    """

    digest: bytes
    path: bytes
    signature: bytes = b""
    modsig_digest: bytes = b""
    modsig: bytes = b""
    buffer: bytes = b""

    @property
    def algorithm(self) -> str:
        """The digest's algorithm by the kernel's name, e.g. ``sha256``."""
        return self.digest.partition(b":\0")[0].decode("ascii", "replace")

    @property
    def value(self) -> bytes:
        """The digest alone."""
        return self.digest.partition(b":\0")[2]


def read_template(name: bytes, data: bytes, number: int) -> ImaFile:
    """Read the template data of one entry.

    Args:
        name: The template's name.
        data: The bytes that were hashed.
        number: The entry's number, for messages.

    Raises:
        Unsupported: If the template is not one of ``FIELDS``.
        MalformedInput: If a field does not fit its form.
    """
    fields = FIELDS.get(name)
    if fields is None:
        raise unknown_template(name, number)
    if name == LEGACY:
        return _legacy(data, number)
    reader = Reader(data, f"IMA entry {number}")
    read = {field: _field(reader, field) for field in fields}
    reader.end()
    path = read["n-ng"]
    if path[-1:] != b"\0" or b"\0" in path[:-1]:
        raise malformed(number, "its path does not end with one NUL")
    modsig_digest = read.get("d-modsig", b"")
    return ImaFile(
        digest=_tagged(read["d-ng"], number) if "d-ng" in read else _v2(read["d-ngv2"], number),
        path=path[:-1],
        signature=read.get("sig", b""),
        modsig_digest=_tagged(modsig_digest, number) if modsig_digest else b"",
        modsig=read.get("modsig", b""),
        buffer=read.get("buf", b""),
    )


def path_of(name: bytes, data: bytes) -> bytes:
    """Return the path of a violation, whose data nothing proves; empty if it cannot be read.

    Before Linux 5.19 the digest field of a violation has no algorithm, so it is not looked at.
    """
    if name == LEGACY:
        return data[LEGACY_DIGEST_BYTES:].partition(b"\0")[0]
    reader = Reader(data, STRUCTURE)
    try:
        _field(reader, "digest")
        return _field(reader, "path").rstrip(b"\0")
    except MalformedInput:
        return b""


def ng_data(digest: bytes, path: bytes) -> bytes:
    """Return the template data that the kernel hashes for ``ima-ng``.

    Args:
        digest: ``algorithm:`` NUL digest.
        path: The path, without NUL.
    """
    return sized(digest) + sized(path + b"\0")


def legacy_data(digest: bytes, name: bytes) -> bytes:
    """Return the template data of ``ima``: 20 bytes of digest, the name in 256 bytes."""
    return digest + name[:LEGACY_NAME_BYTES].ljust(LEGACY_NAME_BYTES, b"\0")


def sized(content: bytes) -> bytes:
    """Return a field: its length and its bytes."""
    return pack("<I", len(content)) + content


def show(path: bytes, limit: int = 120) -> str:
    """Return a hostile path for people: printable, without line breaks, cut after ``limit``."""
    text = path[:limit].decode("utf-8", "backslashreplace")
    plain = "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
    return plain if len(plain) <= limit and len(path) <= limit else plain[:limit] + "…"


def unknown_template(name: bytes, number: int) -> Unsupported:
    """Make the error for a template that we do not read."""
    known = ", ".join(one.decode() for one in FIELDS)
    return Unsupported(
        RefusalCode.LOG_MALFORMED,
        f"entry {number} has the template '{show(name, 32)}', known are {known}; set ima_template= "
        "on the kernel's command line to one of these",
        structure=STRUCTURE,
    )


def malformed(number: int, what: str) -> MalformedInput:
    """Make the error for an entry that breaks its form."""
    return MalformedInput(RefusalCode.LOG_MALFORMED, f"entry {number}: {what}", structure=STRUCTURE)


def _legacy(data: bytes, number: int) -> ImaFile:
    if len(data) != LEGACY_DIGEST_BYTES + LEGACY_NAME_BYTES:
        raise malformed(number, f"its template data has {len(data)} bytes, wanted 276")
    name = data[LEGACY_DIGEST_BYTES:].rstrip(b"\0")
    if b"\0" in name:
        raise malformed(number, "its path has a NUL within")
    return ImaFile(digest=b"sha1:\0" + data[:LEGACY_DIGEST_BYTES], path=name)


def _v2(field: bytes, number: int) -> bytes:
    """Return d-ngv2 as d-ng has it; digests of Merkle trees keep their ``verity:``."""
    if field.startswith(_FILE):
        return _tagged(field[len(_FILE) :], number)
    if field.startswith(_VERITY):
        return _VERITY + _tagged(field[len(_VERITY) :], number)
    raise malformed(number, "its digest is neither 'ima:' nor 'verity:'")


def _tagged(field: bytes, number: int) -> bytes:
    algorithm, separator, digest = field.partition(b":\0")
    if not separator or not digest or len(digest) > _LONGEST_DIGEST:
        raise malformed(number, "its file digest is not 'algorithm:', NUL and 1 to 64 bytes")
    if not _ALGORITHM.fullmatch(algorithm):
        raise malformed(number, "its file digest names no algorithm")
    return field


def _field(reader: Reader, field: str) -> bytes:
    size: int = reader.unpack(LE_U32, field)[0]
    return reader.take(size, field)
