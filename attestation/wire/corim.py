"""CoRIM: a maker's reference values for its machines (draft-ietf-rats-corim-11).

Read are PCR reference values of CoMIDs: integrity registers (key 14), and digests (key 2) of a
measured element that is a PCR's number. Whatever else a CoRIM says is named in ``notices`` and not
used; what may change the meaning of what is used is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from attestation.errors import MalformedInput
from attestation.limits import MAX_CORIM_BYTES, MAX_CORIM_DEPTH, MAX_CORIM_TAGS
from attestation.refusals import RefusalCode
from attestation.wire.comid import Comid, read_comid, text_or_hex
from attestation.wire.cose import SIGN1_TAG, UnverifiedSign1, parse_sign1
from attestation.wire.strict_cbor import CborKey, CborValue, Map, Tagged, decode

CORIM_TAG: Final = 501
"""CBOR tag of an unsigned CoRIM."""

CONTENT_TYPES: Final = frozenset({"application/rim+cbor", "application/corim-unsigned+cbor"})
"""What a signed CoRIM's protected header says its payload is; the second is of older drafts."""

_STRUCTURE: Final = "CoRIM"
_META: Final = 8
_CWT_CLAIMS: Final = 15
_TIME, _URI, _UUID, _OID = 1, 32, 37, 111
_COSWID, _COMID = 505, 506
_TAGS: Final = frozenset({_TIME, _URI, _UUID, _OID, CORIM_TAG, *range(505, 509), *range(550, 565)})
"""Tags that occur in a CoRIM; those we do not read are carried until they are skipped."""
_TAG_NAMES: Final = {505: "CoSWID", 507: "CoTS", 508: "CoTL"}
_LAST_SECOND: Final = 253_402_300_799
"""9999-12-31T23:59:59Z: times beyond are milliseconds by mistake, or nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when; None where a CoRIM does not say."""

    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corim:
    """What a CoRIM says, as far as we read it.

    Attributes:
        id: Its id: a text, or a UUID in hex.
        profile: Its profile: a URI, or an OID in hex; empty if it has none.
        validity: When its reference values hold.
        comids: Its CoMIDs.
        notices: What it says besides, for people: this is not used.
    """

    id: str
    profile: str
    validity: Validity
    comids: tuple[Comid, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCorim:
    """A signed CoRIM whose signature nobody has checked yet (see ``cose.verify_sign1``).

    Attributes:
        message: The COSE_Sign1.
        signer: Who it says has signed it; a stranger's word until the key is known.
        validity: When it says that the signature holds.
    """

    message: UnverifiedSign1
    signer: str
    validity: Validity


def is_corim(raw: bytes) -> bool:
    """Whether bytes begin as a CoRIM does, signed or not: with tag 18 or 501."""
    return raw[:1] == b"\xd2" or raw[:3] == b"\xd9\x01\xf5"


def open_corim(raw: bytes) -> SignedCorim | Corim:
    """Read a CoRIM: signed (tag 18), or unsigned (tag 501) and so proven by nobody.

    Raises:
        LimitExceeded: If it is larger, deeper or more numerous than we take.
        MalformedInput: If it is no CoRIM.
    """
    value = _decoded(raw, "CoRIM", _TAGS | {SIGN1_TAG})
    if not isinstance(value, Tagged) or value.tag not in (SIGN1_TAG, CORIM_TAG):
        raise _malformed("has neither tag 18 (signed) nor tag 501 (unsigned)")
    if value.tag == CORIM_TAG:
        return _corim(value)
    message = parse_sign1(value, understood=frozenset({_META, _CWT_CLAIMS}))
    if message.content_type not in CONTENT_TYPES:
        raise _malformed(
            f"is signed as {message.content_type!r}, wanted 'application/rim+cbor' in the "
            "protected header"
        )
    signer, validity = _signer(message.headers)
    return SignedCorim(message=message, signer=signer, validity=validity)


def read_payload(message: UnverifiedSign1) -> Corim:
    """Read what a signed CoRIM holds; to be called once its signature was checked.

    Raises:
        InputError: As :func:`open_corim`.
    """
    return _corim(_decoded(message.payload, "CoRIM", _TAGS))


def _decoded(raw: bytes, structure: str, tags: frozenset[int]) -> CborValue:
    return decode(
        raw,
        limit_bytes=MAX_CORIM_BYTES,
        structure=structure,
        integer_keys=True,
        tags=tags,
        max_depth=MAX_CORIM_DEPTH,
    )


def _corim(value: CborValue) -> Corim:
    if not isinstance(value, Tagged) or value.tag != CORIM_TAG:
        raise _malformed("the payload has not tag 501")
    fields = Map(value.value, _STRUCTURE, RefusalCode.CORIM_MALFORMED)
    corim_id = text_or_hex(fields.value(0), "id")
    tags = fields.array(1, limit=MAX_CORIM_TAGS)
    notices: list[str] = []
    if 2 in fields:  # noqa: PLR2004 - the map's own keys, here and below
        fields.value(2)
        notices.append("dependent RIMs are named and not looked for")
    if 5 in fields:  # noqa: PLR2004
        fields.value(5)  # who made it: said by the signature
    profile = _profile(fields.value(3)) if 3 in fields else ""  # noqa: PLR2004
    validity = _validity(fields.value(4)) if 4 in fields else Validity()  # noqa: PLR2004
    fields.finish()
    comids = [comid for tag in tags if (comid := _comid(tag, notices)) is not None]
    return Corim(
        id=corim_id,
        profile=profile,
        validity=validity,
        comids=tuple(comids),
        notices=tuple(dict.fromkeys([*notices, *(n for one in comids for n in one.notices)])),
    )


def _comid(tag: CborValue, notices: list[str]) -> Comid | None:
    if not isinstance(tag, Tagged) or not isinstance(tag.value, bytes | list):
        raise _malformed("holds something that is not a tagged byte string where tags belong")
    if tag.tag != _COMID:
        if tag.tag not in _TAG_NAMES:
            raise _malformed(f"holds tag {tag.tag} where a CoMID (506) or CoSWID (505) belongs")
        notices.append(f"{_TAG_NAMES[tag.tag]} tags are not read")
        return None
    if not isinstance(tag.value, bytes):
        raise _malformed("a CoMID is not a byte string")
    return read_comid(_decoded(tag.value, "CoMID", _TAGS))


def _profile(value: CborValue) -> str:
    """Read a profile: one, or as older drafts have it an array of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return text_or_hex(value, "profile")


def _validity(value: CborValue) -> Validity:
    fields = Map(value, "validity", RefusalCode.CORIM_MALFORMED)
    begin = _time(fields.value(0)) if 0 in fields else None
    end = _time(fields.value(1))
    fields.finish()
    if begin is not None and begin >= end:
        raise _malformed("its validity ends before it begins")
    return Validity(not_before=begin, not_after=end)


def _time(value: CborValue) -> datetime:
    seconds = value.value if isinstance(value, Tagged) and value.tag == _TIME else None
    if type(seconds) is not int or not 0 <= seconds <= _LAST_SECOND:
        raise _malformed("a time is not tag 1 over whole seconds up to the year 9999")
    return datetime.fromtimestamp(seconds, UTC)


def _signer(headers: Mapping[CborKey, CborValue]) -> tuple[str, Validity]:
    """Read who signed, and for how long: the CoRIM's own meta map, CWT claims, or both alike."""
    read = ((_META, _meta), (_CWT_CLAIMS, _claims))
    said = [reader(headers[label]) for label, reader in read if label in headers]
    if not said:
        raise _malformed("the protected header says neither in label 8 nor in label 15 who signed")
    if said[0] != said[-1]:
        raise _malformed("labels 8 and 15 of the protected header differ in who signed, or when")
    return said[0]


def _meta(value: CborValue) -> tuple[str, Validity]:
    """Read the meta map (section 4.2.3)."""
    if not isinstance(value, bytes):
        raise _malformed("the meta map (label 8) is not a byte string")
    fields = Map(_decoded(value, "corim-meta", _TAGS), "corim-meta", RefusalCode.CORIM_MALFORMED)
    signer = fields.map(0)
    validity = _validity(fields.value(1)) if 1 in fields else Validity()
    fields.finish()
    return text_or_hex(signer.value(0), "signer's name"), validity


def _claims(value: CborValue) -> tuple[str, Validity]:
    """Read CWT claims (section 4.2.2): issuer, exp and nbf; sub, iat and cti change nothing."""
    fields = Map(value, "cwt-claims", RefusalCode.CORIM_MALFORMED)
    issuer = text_or_hex(fields.value(1), "issuer")
    end = _seconds(fields.value(4)) if 4 in fields else None  # noqa: PLR2004 - RFC 8392: exp
    begin = _seconds(fields.value(5)) if 5 in fields else None  # noqa: PLR2004 - RFC 8392: nbf
    for harmless in (2, 6, 7):
        if harmless in fields:
            fields.value(harmless)
    fields.finish()
    return issuer, Validity(not_before=begin, not_after=end)


def _seconds(value: CborValue) -> datetime:
    return _time(value if isinstance(value, Tagged) else Tagged(_TIME, value))


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CORIM_MALFORMED, reason, structure=_STRUCTURE)
