"""Conceptual Message Wrapper: typed records and labelled collections in CBOR.

draft-ietf-rats-msg-wrap-23: a record is ``[type, value, ?indicator]``, a collection is a map from
label to record with an optional ``__cmwc_t``. The JSON forms, CBOR tags and nested collections
are recognised and refused: our evidence needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Final, NamedTuple, TypeGuard

from attestation.errors import LimitExceeded, MalformedInput, Unsupported
from attestation.limits import MAX_CMW_PARTS
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.strict_cbor import CborValue

_COLLECTION: Final = "CMW collection"
_RECORD: Final = "CMW record"
_TYPE_KEY: Final = "__cmwc_t"
_MAX_TYPE_CHARS: Final = 128
_MAX_CONTENT_FORMAT: Final = 0xFFFF
_RECORD_SIZES: Final = (2, 3)


class Indicator(IntFlag):
    """Which conceptual messages a record holds (draft-ietf-rats-msg-wrap-23, section 3.1)."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    APPRAISAL_POLICY = 16


_INDICATORS: Final = {bits: Indicator(bits) for bits in range(1, 32)}


class CmwForm(StrEnum):
    """The serialisations that the first byte tells apart."""

    CBOR_RECORD = "cbor-record"
    CBOR_COLLECTION = "cbor-collection"
    CBOR_TAG = "cbor-tag"
    JSON_RECORD = "json-record"
    JSON_COLLECTION = "json-collection"


class CmwRecord(NamedTuple):
    """One typed value.

    Attributes:
        media_type: The value's media type, or its CoAP content format number.
        value: The value's bytes.
        indicator: Which conceptual messages the value holds, if said.
    """

    media_type: str | int
    value: bytes
    indicator: Indicator | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CmwCollection:
    """Labelled records.

    Attributes:
        collection_type: ``__cmwc_t``: an absolute URI or OID; None if absent.
        records: The records by label, as received.
    """

    collection_type: str | None
    records: Mapping[str, CmwRecord]


def form_of(raw: bytes) -> CmwForm:
    """Tell the serialisation by the first byte (draft-ietf-rats-msg-wrap-23, section 5).

    Raises:
        MalformedInput: If it is none of them.
    """
    first = raw[0] if raw else -1
    if first in (0x82, 0x83, 0x9F):
        return CmwForm.CBOR_RECORD
    if 0xA0 <= first <= 0xBB or first == 0xBF:  # noqa: PLR2004 - heads of CBOR maps
        return CmwForm.CBOR_COLLECTION
    if first == 0xDA:  # noqa: PLR2004 - head of a CBOR tag of four bytes
        return CmwForm.CBOR_TAG
    if first == ord("["):
        return CmwForm.JSON_RECORD
    if first == ord("{"):
        return CmwForm.JSON_COLLECTION
    raise _malformed("the first byte begins no form of a CMW", "CMW")


def encode_record(record: CmwRecord) -> bytes:
    """Encode one record as CBOR."""
    return strict_cbor.encode(_record_value(record))


def decode_record(raw: bytes, *, limit_bytes: int) -> CmwRecord:
    """Decode one record from CBOR.

    Raises:
        LimitExceeded: If it is larger than ``limit_bytes``.
        MalformedInput: If it is not one CBOR record.
        Unsupported: If it is a CMW of another form.
    """
    _require_form(raw, CmwForm.CBOR_RECORD, _RECORD)
    value = strict_cbor.decode(raw, limit_bytes=limit_bytes, structure=_RECORD)
    return _record(value, _RECORD)


def encode_collection(collection: CmwCollection) -> bytes:
    """Encode a collection as CBOR, keys in deterministic order."""
    entries: dict[strict_cbor.CborKey, CborValue] = {
        label: _record_value(record) for label, record in collection.records.items()
    }
    if collection.collection_type is not None:
        entries[_TYPE_KEY] = collection.collection_type
    return strict_cbor.encode(entries)


def decode_collection(raw: bytes, *, limit_bytes: int) -> CmwCollection:
    """Decode a collection of records from CBOR.

    Raises:
        LimitExceeded: If it is larger than ``limit_bytes`` or has more than ``MAX_CMW_PARTS``.
        MalformedInput: If it is not a CBOR collection of records (``evidence-malformed`` or a
            ``cbor-…`` code); a nested collection is refused too.
        Unsupported: If it is a CMW of another form.
    """
    _require_form(raw, CmwForm.CBOR_COLLECTION, _COLLECTION)
    value = strict_cbor.decode(raw, limit_bytes=limit_bytes, structure=_COLLECTION)
    if not isinstance(value, dict):
        raise _malformed("is not a map", _COLLECTION)
    collection_type = value.pop(_TYPE_KEY, None)
    if collection_type is not None and (
        not isinstance(collection_type, str) or not 0 < len(collection_type) <= _MAX_TYPE_CHARS
    ):
        raise _malformed(f"{_TYPE_KEY} is not text of 1 to {_MAX_TYPE_CHARS}", _COLLECTION)
    if not value:
        raise _malformed("holds no record", _COLLECTION)
    if len(value) > MAX_CMW_PARTS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"holds {len(value)} records, at most {MAX_CMW_PARTS} are accepted",
            structure=_COLLECTION,
        )
    records: dict[str, CmwRecord] = {}
    for label, item in value.items():
        if not isinstance(label, str) or not label:
            raise _malformed("a label is not text", _COLLECTION)
        records[label] = _record(item, _RECORD)
    return CmwCollection(collection_type=collection_type, records=records)


def _record_value(record: CmwRecord) -> list[CborValue]:
    fields: list[CborValue] = [record.media_type, record.value]
    if record.indicator is not None:
        fields.append(int(record.indicator))
    return fields


def _record(value: CborValue, structure: str) -> CmwRecord:
    if not isinstance(value, list):
        raise _malformed(f"is a {type(value).__name__}, wanted an array (no nesting)", structure)
    if len(value) not in _RECORD_SIZES:
        raise _malformed(f"has {len(value)} elements, wanted 2 or 3", structure)
    media_type, content = value[0], value[1]
    if not _is_type(media_type):
        raise _malformed("the type is neither a media type nor a content format", structure)
    if not isinstance(content, bytes):
        raise _malformed(f"the value is a {type(content).__name__}, wanted bytes", structure)
    indicator: Indicator | None = None
    if len(value) == max(_RECORD_SIZES):
        bits = value[2]
        indicator = _INDICATORS.get(bits) if type(bits) is int else None
        if indicator is None:
            raise _malformed("the indicator is not a number of 1 to 31", structure)
    return CmwRecord(media_type=media_type, value=content, indicator=indicator)


def _is_type(value: CborValue) -> TypeGuard[str | int]:
    if isinstance(value, str):
        kind, _, subtype = value.partition("/")
        return bool(kind and subtype) and len(value) <= _MAX_TYPE_CHARS
    return type(value) is int and 0 <= value <= _MAX_CONTENT_FORMAT


def _require_form(raw: bytes, wanted: CmwForm, structure: str) -> None:
    seen = form_of(raw)
    if seen is not wanted:
        raise Unsupported(
            RefusalCode.EVIDENCE_MALFORMED,
            f"the message is a CMW of form {seen}, wanted {wanted}",
            structure=structure,
        )


def _malformed(reason: str, structure: str) -> MalformedInput:
    return MalformedInput(RefusalCode.EVIDENCE_MALFORMED, reason, structure=structure)
