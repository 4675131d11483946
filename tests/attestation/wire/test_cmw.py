"""Conceptual Message Wrapper: records, collections, and telling the forms apart."""

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput, Unsupported
from attestation.limits import MAX_CMW_PARTS
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.cmw import (
    CmwCollection,
    CmwForm,
    CmwRecord,
    Indicator,
    decode_collection,
    decode_record,
    encode_collection,
    encode_record,
    form_of,
)


def collection(value: object) -> CmwCollection:
    raw = strict_cbor.encode(value)  # type: ignore[arg-type]
    return decode_collection(raw, limit_bytes=10_000)


@pytest.mark.parametrize(
    ("first", "form"),
    [
        (0x82, CmwForm.CBOR_RECORD),
        (0x83, CmwForm.CBOR_RECORD),
        (0x9F, CmwForm.CBOR_RECORD),
        (0xA0, CmwForm.CBOR_COLLECTION),
        (0xBB, CmwForm.CBOR_COLLECTION),
        (0xBF, CmwForm.CBOR_COLLECTION),
        (0xDA, CmwForm.CBOR_TAG),
        (0x5B, CmwForm.JSON_RECORD),
        (0x7B, CmwForm.JSON_COLLECTION),
    ],
)
def test_the_first_byte_tells_the_form(first: int, form: CmwForm) -> None:
    assert form_of(bytes([first, 0])) is form


def test_every_other_first_byte_is_no_cmw() -> None:
    known = {0x82, 0x83, 0x9F, 0xDA, 0x5B, 0x7B, 0xBF, *range(0xA0, 0xBC)}

    for first in set(range(256)) - known:
        with pytest.raises(MalformedInput):
            form_of(bytes([first]))
    with pytest.raises(MalformedInput):
        form_of(b"")


@pytest.mark.parametrize(
    "raw", [b'["text/plain","AA"]', b'{"a":["text/plain","AA"]}', b"\xda\x63\x74\x01\x01\x41\x00"]
)
def test_other_forms_are_recognised_and_refused(raw: bytes) -> None:
    with pytest.raises(Unsupported, match="form"):
        decode_collection(raw, limit_bytes=100)
    with pytest.raises(Unsupported, match="form"):
        decode_record(raw, limit_bytes=100)


@pytest.mark.parametrize(
    "record",
    [
        CmwRecord(media_type="text/plain", value=b""),
        CmwRecord(media_type="a/b;c=d", value=b"x", indicator=Indicator.EVIDENCE),
        CmwRecord(media_type=30001, value=b"\xff", indicator=Indicator(31)),
    ],
)
def test_a_record_comes_back_as_it_went(record: CmwRecord) -> None:
    assert decode_record(encode_record(record), limit_bytes=100) == record


def test_a_record_by_hand_is_read() -> None:
    """[30001, h'2347da55', 4] as the draft's CDDL has it."""
    raw = bytes.fromhex("83197531442347da5504")

    record = decode_record(raw, limit_bytes=100)

    assert record == CmwRecord(
        media_type=30001, value=bytes.fromhex("2347da55"), indicator=Indicator.EVIDENCE
    )


def test_a_collection_comes_back_as_it_went() -> None:
    sent = CmwCollection(
        collection_type="urn:x:1",
        records={
            "b": CmwRecord(media_type="a/b", value=b"1"),
            "a": CmwRecord(media_type=7, value=b""),
        },
    )

    assert decode_collection(encode_collection(sent), limit_bytes=100) == sent
    assert decode_collection(
        encode_collection(CmwCollection(collection_type=None, records=sent.records)),
        limit_bytes=100,
    ) == CmwCollection(collection_type=None, records=sent.records)


@pytest.mark.parametrize(
    "record",
    [
        ["a/b"],
        ["a/b", b"x", 4, 4],
        ["a/b", "text"],
        ["a/b", None],
        ["", b"x"],
        ["no-slash", b"x"],
        ["/b", b"x"],
        ["a/", b"x"],
        ["a/" + "b" * 200, b"x"],
        [True, b"x"],
        [-1, b"x"],
        [65536, b"x"],
        [b"a/b", b"x"],
        ["a/b", b"x", 0],
        ["a/b", b"x", 32],
        ["a/b", b"x", -4],
        ["a/b", b"x", True],
        ["a/b", b"x", None],
        ["a/b", b"x", "4"],
        {"inner": ["a/b", b"x"]},
        b"x",
        None,
    ],
)
def test_a_malformed_record_is_refused(record: object) -> None:
    with pytest.raises(MalformedInput) as caught:
        collection({"label": record})

    assert caught.value.code is RefusalCode.EVIDENCE_MALFORMED


@pytest.mark.parametrize("type_", ["", "x" * 129, 1, b"urn:x"])
def test_a_malformed_collection_type_is_refused(type_: object) -> None:
    with pytest.raises(MalformedInput, match="__cmwc_t"):
        collection({"__cmwc_t": type_, "a": ["a/b", b"x"]})


@pytest.mark.parametrize("value", [{}, {"__cmwc_t": "urn:x"}, {"": ["a/b", b"x"]}])
def test_a_collection_without_a_labelled_record_is_refused(value: object) -> None:
    with pytest.raises(MalformedInput):
        collection(value)


def test_the_most_records_are_read_and_one_more_refused() -> None:
    parts = {f"p{number}": ["a/b", b"x"] for number in range(MAX_CMW_PARTS)}
    assert len(collection({"__cmwc_t": "urn:x", **parts}).records) == MAX_CMW_PARTS

    with pytest.raises(LimitExceeded) as caught:
        collection({**parts, "more": ["a/b", b"x"]})

    assert caught.value.code is RefusalCode.TOO_MANY


def test_a_collection_above_its_size_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        decode_collection(b"\xa1" + bytes(100), limit_bytes=100)


def test_a_repeated_label_is_refused() -> None:
    entry = strict_cbor.encode("a") + strict_cbor.encode(["a/b", b"x"])

    with pytest.raises(InputError) as caught:
        decode_collection(b"\xa2" + entry * 2, limit_bytes=100)

    assert caught.value.code is RefusalCode.CBOR_DUPLICATE_KEY
