"""Searches bytes, files and a process's memory for P-256 private keys of known public keys.

A private key that was ever in software leaves one of these: a PEM block, its DER (SEC 1 or PKCS #8,
which holds SEC 1), or the bare number, as big-endian octets or as the 64-bit limbs that OpenSSL
computes with. Each candidate is multiplied out and held against the public keys, so that nothing
need be known of the number, and nothing but such a key is ever reported.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIZE: Final = 32
_ALIGNED: Final = 8
_PAGE: Final = 4096
_DISTINCT: Final = 24
"""Random 32 octets hold 30 different ones; fewer than this, one time in a hundred thousand."""

_MOST_REGION: Final = 1 << 28
_PEM: Final = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]{40,})-----END"
)
_SEC1: Final = re.compile(rb"\x02\x01\x01\x04\x20(.{32})", re.DOTALL)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
_MAP: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)")

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """One trace of a private key.

    Attributes:
        form: ``pem``, ``der``, ``octets`` or ``limbs``.
        place: Where: a file, or a region of memory.
    """

    form: str
    place: str


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a process's memory.

    Attributes:
        name: Its place, for people.
        content: What it holds.
        written: Whether the process may write it: heap, stack, data.
    """

    name: str
    content: bytes
    written: bool


def point_of(key: object) -> Point:
    """Return the coordinates of a P-256 public key."""
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    numbers = key.public_numbers()
    return numbers.x, numbers.y


def memory_of(pid: int) -> Iterator[Region]:
    """Read every region of a process's memory that can be read; stop the process before."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = _MAP.fullmatch(line)
            assert match is not None, line
            begin, end = int(match[1], 16), int(match[2], 16)
            if match[3][0] != "r" or match[4] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            assert end - begin <= _MOST_REGION, line
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except OSError:
                # Nothing is behind these pages (a file that was cut, a device).
                assert match[3][1] != "w" or "/dev/" in match[4], line
                continue
            yield Region(f"{match[1]} {match[4]}".strip(), content, match[3][1] == "w")


def search_memory(regions: Iterable[Region], publics: frozenset[Point]) -> list[Found]:
    """Return every trace of the private keys of ``publics`` in memory, and what PEM was made there.

    In what the process only maps (libraries bring keys for their own tests along) a key in PEM
    counts if it is one of these.
    """
    found = []
    for region in regions:
        found += search_bytes(region.content, publics, region.name, any_pem=region.written)
        if region.written:
            found += search_numbers(region.content, publics, region.name)
    return found


def search_file(path: Path, publics: frozenset[Point]) -> list[Found]:
    """Return every trace in a file, and in what it holds in base64; and keys of anybody in PEM."""
    content = path.read_bytes()
    found = []
    for part in (content, *_decoded(content)):
        found += search_bytes(part, publics, str(path))
        for shift in range(_ALIGNED):
            found += search_numbers(part[shift:], publics, str(path))
    return found


def search_bytes(
    content: bytes, publics: frozenset[Point], place: str, *, any_pem: bool = True
) -> list[Found]:
    """Return keys of ``publics`` in PEM and in DER; with ``any_pem`` keys of anybody in PEM."""
    found = [
        Found("pem", place)
        for match in _PEM.finditer(content)
        if any_pem or any(_in_der(der, publics) for der in _decoded(match[1]))
    ]
    return found + [Found("der", place) for _ in range(_in_der(content, publics))]


def _in_der(content: bytes, publics: frozenset[Point]) -> int:
    """Count the private keys of ``publics`` in DER."""
    return sum(
        _is_of(int.from_bytes(match[1], "big"), publics) for match in _SEC1.finditer(content)
    )


def search_numbers(content: bytes, publics: frozenset[Point], place: str) -> list[Found]:
    """Return private keys of ``publics`` that stand as bare numbers at multiples of 8 octets."""
    found, seen = [], set()
    for page in range(0, len(content), _PAGE):
        part = content[page : page + _PAGE + _SIZE - _ALIGNED]
        if not part.strip(b"\0"):
            continue
        for at in range(0, len(part) - _SIZE + 1, _ALIGNED):
            window = part[at : at + _SIZE]
            if len(set(window)) < _DISTINCT or window in seen:
                continue
            seen.add(window)
            if _is_of(int.from_bytes(window, "big"), publics):
                found.append(Found("octets", place))
            elif _is_of(int.from_bytes(window, "little"), publics):
                # Limbs of a 64-bit number on a little-endian machine, the least first.
                found.append(Found("limbs", place))
    return found


def _is_of(number: int, publics: frozenset[Point]) -> bool:
    if not 0 < number < _ORDER:
        return False
    return point_of(ec.derive_private_key(number, ec.SECP256R1()).public_key()) in publics


def _decoded(content: bytes) -> Iterator[bytes]:
    whole = content.replace(b"\\n", b"").replace(b"\n", b"")
    for match in _BASE64.finditer(whole):
        text = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4))
        except binascii.Error:
            continue
