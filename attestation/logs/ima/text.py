"""Ascii IMA lists (``ascii_runtime_measurements``), turned into their binary form.

A line is PCR, template hash, template name and the template's fields, one blank before each; an
empty field leaves its blank. A path may hold blanks, and editors strip those at the end of a line,
so one line can be cut in several ways: the right one is that whose template hash fits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from attestation.errors import MalformedInput
from attestation.limits import MAX_IMA_ENTRIES
from attestation.logs.ima.framing import HASH_SIZES, too_many
from attestation.logs.ima.template import (
    FIELDS,
    LEGACY,
    LEGACY_DIGEST_BYTES,
    legacy_data,
    malformed,
    sized,
    unknown_template,
)
from attestation.reader import pack
from attestation.refusals import RefusalCode

_START: Final = re.compile(rb"\s{0,8}\d{1,3} [0-9a-f]{40,128} ")
_LINE: Final = re.compile(
    rb" {0,8}(\d{1,3}) ((?:[0-9a-f]{2}){20,64}) ([!-~]{1,64}) (.*)", re.DOTALL
)
_HASH_OF_SIZE: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


def is_text(raw: bytes) -> bool:
    """Whether a list begins as an ascii list does."""
    return _START.match(raw) is not None


def template_hash(size: int, data: bytes) -> bytes:
    """Return the template hash of ``size`` bytes that the kernel gives template data."""
    return hashlib.new(_HASH_OF_SIZE[size], data, usedforsecurity=False).digest()


def to_binary(raw: bytes) -> bytes:
    """Return an ascii list in binary form.

    Raises:
        LimitExceeded: If there are too many lines.
        MalformedInput: If a line is not of that form, or no way of cutting it fits its template
            hash (``ima-template-mismatch``).
        Unsupported: If an entry has another template.
    """
    parts: list[bytes] = []
    first_size = 0
    for number, line in enumerate(raw.rstrip(b"\n").split(b"\n")):
        if number >= MAX_IMA_ENTRIES:
            raise too_many()
        found = _LINE.fullmatch(line)
        digest = b"" if found is None else bytes.fromhex(found[2].decode())
        first_size = first_size or len(digest)
        if found is None or len(digest) not in HASH_SIZES or len(digest) != first_size:
            raise malformed(number, "the line is not 'PCR template-hash template …'")
        name, data = found[3], _data(number, digest, found[3], found[4])
        body = data[:LEGACY_DIGEST_BYTES] + sized(data[LEGACY_DIGEST_BYTES:].rstrip(b"\0"))
        parts.append(
            pack("<I", int(found[1]))
            + digest
            + sized(name)
            + (body if name == LEGACY else sized(data))
        )
    return b"".join(parts)


def _data(number: int, digest: bytes, name: bytes, rest: bytes) -> bytes:
    """Return the template data that the line was made of."""
    if name not in FIELDS:
        raise unknown_template(name, number)
    candidates = _candidates(number, name, rest)
    if not any(digest):
        try:
            return next(candidates)
        except MalformedInput:  # Before Linux 5.19 a violation's digest has no algorithm.
            _, blank, path = rest.partition(b" ")
            if not blank:
                raise
            return sized(b"") + sized(path.rstrip(b" ") + b"\0")
    for data in candidates:
        if template_hash(len(digest), data) == digest:
            return data
    raise MalformedInput(
        RefusalCode.IMA_TEMPLATE_MISMATCH,
        f"entry {number}: its template hash is not that of its template data",
        structure="IMA list",
    )


def _candidates(number: int, name: bytes, rest: bytes) -> Iterator[bytes]:
    """Yield the template data of each way to cut a line: with its last fields, or without."""
    digest_text, _, path = rest.partition(b" ")
    if name == LEGACY:
        yield legacy_data(_hexadecimal(number, digest_text), path)
        return
    first = sized(_digest(number, digest_text))
    after = FIELDS[name][2:]
    cut = path.rsplit(b" ", len(after)) if after else [path]
    if len(cut) == len(after) + 1:
        try:
            fields = [
                b"" if not text else _digest(number, text) if field == "d-modsig" else _bytes(text)
                for field, text in zip(after, cut[1:], strict=True)
            ]
        except (MalformedInput, ValueError):
            fields = []
        if len(fields) == len(after):
            yield first + sized(cut[0] + b"\0") + b"".join(sized(field) for field in fields)
    if after:
        empty = sized(b"") * len(after)
        for text in dict.fromkeys((path, path.rstrip(b" "))):
            yield first + sized(text + b"\0") + empty


def _digest(number: int, text: bytes) -> bytes:
    algorithm, colon, digits = text.rpartition(b":")
    if not colon:
        raise malformed(number, "the file digest names no algorithm")
    return algorithm + b":\0" + _hexadecimal(number, digits)


def _hexadecimal(number: int, text: bytes) -> bytes:
    try:
        return _bytes(text)
    except ValueError as error:
        raise malformed(number, "the file digest is not hexadecimal") from error


def _bytes(text: bytes) -> bytes:
    """Return what hexadecimal digits say; raises ValueError, also for blanks."""
    if not text.isalnum():
        raise ValueError("blanks")
    return bytes.fromhex(text.decode("ascii"))
