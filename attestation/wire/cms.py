"""Signed content as services outside write it: CMS SignedData in BER, one signer (RFC 5652).

BER allows indefinite lengths and strings in pieces (ITU-T X.690, 8.1.3.6 and 8.7.3); what was
signed is defined over DER, so the message is brought into definite lengths first. The signer's part
is then read by the reader of appended signatures, which takes no content inside: it is cut out.
Certificates in the message are passed over unread: who sends a signature must not bring its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation import der
from attestation.der import DerReader
from attestation.errors import MalformedInput
from attestation.limits import MAX_CLOUD_DOCUMENT_BYTES, MAX_CMS_DEPTH
from attestation.logs.ima.modsig import AppendedSignature, parse_modsig
from attestation.reader import Reader
from attestation.refusals import RefusalCode

_STRUCTURE: Final = "SignedData"
_EXPLICIT: Final = 0xA0
_CRLS: Final = 0xA1
_CONSTRUCTED: Final = 0x20
_INDEFINITE: Final = 0x80
_END: Final = b"\x00\x00"
_MAX_ELEMENTS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedContent:
    """Content and its one signature, believed by nobody yet.

    Attributes:
        content: What is signed.
        signature: The signer's part; its ``message_digest`` must be the content's, if it has one.
    """

    content: bytes
    signature: AppendedSignature

    @property
    def signed(self) -> bytes:
        """The octets that the signature is over (RFC 5652, 5.4)."""
        return self.signature.attributes or self.content

    @property
    def is_of_content(self) -> bool:
        """Whether the signed attributes, if there are any, speak of this content."""
        made = self.signature
        return not made.attributes or made.algorithm.digest(self.content) == made.message_digest


def parse_signed_content(raw: bytes) -> SignedContent:
    """Read a SignedData with its content inside.

    Args:
        raw: ContentInfo in BER or DER, nothing before or behind it.

    Raises:
        InputError: If it is larger than we take or not of this form.
    """
    if len(raw) > MAX_CLOUD_DOCUMENT_BYTES:
        raise _malformed(f"has {len(raw)} bytes, at most {MAX_CLOUD_DOCUMENT_BYTES} are accepted")
    outer = DerReader(_Definite(raw).whole(), _STRUCTURE)
    info = DerReader(outer.next("ContentInfo", der.SEQUENCE).body, _STRUCTURE)
    outer.end()
    kind = info.next("contentType", der.OID)
    explicit = DerReader(info.next("content", _EXPLICIT).body, _STRUCTURE)
    info.end()
    signed = DerReader(explicit.next("SignedData", der.SEQUENCE).body, _STRUCTURE)
    explicit.end()
    head = signed.next("version", der.INTEGER).raw + signed.next("digests", der.SET).raw
    inside = DerReader(signed.next("encapContentInfo", der.SEQUENCE).body, _STRUCTURE)
    content_kind = inside.next("eContentType", der.OID)
    wrapped = DerReader(inside.next("eContent", _EXPLICIT).body, _STRUCTURE)
    content = wrapped.next("content", der.OCTET_STRING).body
    wrapped.end()
    inside.end()
    signed.optional("certificates", _EXPLICIT)
    signed.optional("crls", _CRLS)
    signers = signed.next("signerInfos", der.SET).raw
    signed.end()
    without = der.write(der.SEQUENCE, head, der.write(der.SEQUENCE, content_kind.raw), signers)
    detached = der.write(der.SEQUENCE, kind.raw, der.write(_EXPLICIT, without))
    return SignedContent(content=content, signature=parse_modsig(detached))


class _Definite:
    """Rewrites BER with definite lengths and whole octet strings; judges no types."""

    def __init__(self, raw: bytes) -> None:
        self._reader = Reader(raw, _STRUCTURE)
        self._raw = raw
        self._left = _MAX_ELEMENTS

    def whole(self) -> bytes:
        """Return the one element that the input is."""
        made = self._element(0)
        self._reader.end()
        return made

    def _element(self, depth: int) -> bytes:
        self._left -= 1
        if depth > MAX_CMS_DEPTH or self._left < 0:
            raise _malformed("has too many elements, or too deep ones")
        reader = self._reader
        tag = reader.u8("tag")
        if tag & 0x1F == 0x1F:  # noqa: PLR2004 - X.690, 8.1.2.4: a tag in several octets
            raise _malformed("has a tag in several octets")
        length = self._length()
        if not tag & _CONSTRUCTED:
            if length is None:
                raise _malformed("has a primitive element without a length")
            return der.write(tag, reader.take(length, "contents"))
        pieces = self._inside(length, depth)
        if tag == der.OCTET_STRING | _CONSTRUCTED:
            return der.write(der.OCTET_STRING, *map(_octets, pieces))
        return der.write(tag, *pieces)

    def _inside(self, length: int | None, depth: int) -> list[bytes]:
        reader = self._reader
        pieces = []
        if length is None:
            while self._raw[reader.offset : reader.offset + 2] != _END:
                pieces.append(self._element(depth + 1))
            reader.take(2, "end of contents")
            return pieces
        end = reader.offset + length
        while reader.offset < end:
            pieces.append(self._element(depth + 1))
        if reader.offset != end:
            raise _malformed("has an element that reaches over the end of the one around it")
        return pieces

    def _length(self) -> int | None:
        first = self._reader.u8("length")
        if first < _INDEFINITE:
            return first
        if first == _INDEFINITE:
            return None
        return int.from_bytes(self._reader.take(first - _INDEFINITE, "length"))


def _octets(piece: bytes) -> bytes:
    return DerReader(piece, _STRUCTURE).next("piece", der.OCTET_STRING).body


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.VALUE_OUT_OF_RANGE, f"the message {reason}", structure=_STRUCTURE
    )
