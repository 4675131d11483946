"""The CBOR door: what it lets through and everything it refuses."""

import tracemalloc

import pytest

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_CBOR_DEPTH, MAX_EVIDENCE_BYTES
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.strict_cbor import MAX_CBOR_ITEMS, UNCOUNTED_BYTES, Map, Tagged


def decode(text: str, *, integer_keys: bool = False, limit_bytes: int = 4096) -> object:
    return strict_cbor.decode(
        bytes.fromhex(text), limit_bytes=limit_bytes, structure="test", integer_keys=integer_keys
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00", 0),
        ("1bffffffffffffffff", (1 << 64) - 1),
        ("3bffffffffffffffff", -(1 << 64)),
        ("4161", b"a"),
        ("6161", "a"),
        ("83f4f5f6", [False, True, None]),
        ("a1616181a0", {"a": [{}]}),
    ],
)
def test_every_accepted_kind_is_read(text: str, expected: object) -> None:
    assert decode(text) == expected


def test_integer_keys_are_read_only_where_asked_for() -> None:
    assert decode("a10b00", integer_keys=True) == {11: 0}
    with pytest.raises(MalformedInput) as caught:
        decode("a10b00")

    assert caught.value.code is RefusalCode.CBOR_MALFORMED


@pytest.mark.parametrize("text", ["a2616100616101", "a20b000b01", "a20100f500"])
def test_a_duplicate_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        decode(text, integer_keys=True)

    assert caught.value.code is RefusalCode.CBOR_DUPLICATE_KEY
    assert "'a'" not in str(caught.value)


def test_a_duplicate_key_cannot_dress_up_as_another_fault() -> None:
    key = strict_cbor.encode("nesting depth")

    with pytest.raises(MalformedInput) as caught:
        strict_cbor.decode(b"\xa2" + (key + b"\x00") * 2, limit_bytes=100, structure="test")

    assert caught.value.code is RefusalCode.CBOR_DUPLICATE_KEY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9f01ff", "indefinite array"),
        ("bfff", "indefinite map"),
        ("5f4101ff", "indefinite bytes"),
        ("7f6161ff", "indefinite text"),
        ("f97e00", "half float NaN"),
        ("fa3f800000", "single float"),
        ("81fb3ff0000000000000", "double float inside"),
        ("f7", "undefined"),
        ("f0", "simple value 16"),
        ("f8ff", "simple value 255"),
        ("61ff", "text that is not UTF-8"),
        ("1c", "reserved head"),
        ("ff", "break"),
        ("", "nothing"),
        ("58ff00", "truncated bytes"),
        ("a1a000", "map as key"),
        ("a1810100", "array as key"),
        ("a1f93c0000", "float as key"),
        ("a1f600", "null as key"),
        ("a1f500", "boolean as key"),
        ("a1416100", "bytes as key"),
    ],
)
@pytest.mark.parametrize("integer_keys", [False, True])
def test_what_is_not_plain_is_refused(text: str, why: str, *, integer_keys: bool) -> None:
    with pytest.raises(MalformedInput) as caught:
        decode(text, integer_keys=integer_keys)

    assert caught.value.code is RefusalCode.CBOR_MALFORMED, why


@pytest.mark.parametrize("tag", [*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799, 1 << 40])
@pytest.mark.parametrize("content", ["00", "4101", "6128", "80", "824101f6"])
def test_every_tag_is_refused(tag: int, content: str) -> None:
    head = b"\xdb" + tag.to_bytes(8)

    with pytest.raises(MalformedInput, match="a CBOR tag is used") as caught:
        strict_cbor.decode(head + bytes.fromhex(content), limit_bytes=100, structure="test")

    assert caught.value.code is RefusalCode.CBOR_MALFORMED


def test_a_container_as_key_is_refused_before_it_is_hashed() -> None:
    """Hashes of number tuples can be made to collide; text is hashed with a secret."""
    with pytest.raises(MalformedInput, match="map key must be a text string"):
        decode("a2820102008201020" + "0")


def test_refused_tags_leave_nothing_behind() -> None:
    for tag in range(2000):
        with pytest.raises(MalformedInput):
            strict_cbor.decode(b"\xda" + tag.to_bytes(4) + b"\x00", limit_bytes=9, structure="t")

    assert len(strict_cbor._NO_TAGS) == 0


def test_trailing_bytes_are_refused_with_their_place() -> None:
    with pytest.raises(MalformedInput) as caught:
        decode("820001" + "00")

    assert caught.value.code is RefusalCode.TRAILING_BYTES
    assert caught.value.offset == 3


def test_the_deepest_accepted_nesting_is_read_and_one_more_refused() -> None:
    deep = "81" * MAX_CBOR_DEPTH + "00"
    assert decode(deep) is not None

    with pytest.raises(LimitExceeded) as caught:
        decode("81" + deep)

    assert caught.value.code is RefusalCode.CBOR_TOO_DEEP


@pytest.mark.parametrize("head", ["81", "a16161", "d8ff", "9f", "c1"])
def test_a_nesting_bomb_is_refused_without_recursion(head: str) -> None:
    with pytest.raises(InputError):
        decode(head * 500_000, limit_bytes=MAX_EVIDENCE_BYTES)


@pytest.mark.parametrize(
    "head",
    [f"{major}b{claim}" for major in "3579b"[1:] for claim in ("10" + "00" * 7, "ff" * 8)]
    + ["9a7fffffff", "ba7fffffff", "5a7fffffff", "7affffffff"],
)
def test_a_length_nobody_sends_allocates_nothing(head: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedInput):
            decode(head + "00" * 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


def test_input_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded) as caught:
        decode("ff" * 11, limit_bytes=10)

    assert caught.value.code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize("item", [b"\x00", b"\x80", b"\xa0", b"\x40", b"\x81\x00", b"\x19\x01\x00"])
def test_a_large_input_of_many_items_is_refused_before_objects_are_made(item: bytes) -> None:
    raw = b"\x9a" + (1 << 20).to_bytes(4) + item * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded) as caught:
            strict_cbor.decode(raw, limit_bytes=len(raw), structure="test")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.code is RefusalCode.TOO_MANY
    assert peak < 1 << 20


def test_a_large_input_of_few_items_is_read() -> None:
    value = {"log": bytes(UNCOUNTED_BYTES * 2), "items": list(range(MAX_CBOR_ITEMS - 10))}
    raw = strict_cbor.encode(value)

    assert strict_cbor.decode(raw, limit_bytes=len(raw), structure="test") == value


def test_a_large_broken_input_is_called_malformed() -> None:
    raw = b"\x82\x5a" + (UNCOUNTED_BYTES * 2).to_bytes(4) + bytes(UNCOUNTED_BYTES * 2) + b"\x1c"

    with pytest.raises(MalformedInput) as caught:
        strict_cbor.decode(raw, limit_bytes=len(raw), structure="test")

    assert caught.value.code is RefusalCode.CBOR_MALFORMED


def test_encoding_is_shortest_and_ordered_bytewise() -> None:
    """RFC 8949 section 4.2.1, with its own example of key order."""
    value = {100: 0, 10: 0, "z": 0, -1: 0, "aa": 0, 24: 0}

    assert strict_cbor.encode(value).hex() == "a60a001818001864002000617a0062616100"


@pytest.mark.parametrize("value", [1.5, float("nan"), 1 << 64, -(1 << 64) - 1, {1, 2}, [object()]])
def test_what_would_be_refused_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        strict_cbor.encode(value)  # type: ignore[arg-type]


def fields(**values: object) -> Map:
    return Map(values, "test", RefusalCode.REQUEST_INVALID)  # type: ignore[arg-type]


def test_a_map_gives_each_field_once_and_ends_empty() -> None:
    read = fields(a="t", b=b"o", c=3, d=[1], e={"x": b"y"})

    assert read.text("a", limit=1) == "t"
    assert read.octets("b", limit=1) == b"o"
    assert read.integer("c", lowest=0, highest=3) == 3
    assert read.array("d", limit=1) == [1]
    assert read.map("e").octets("x", limit=1) == b"y"
    read.finish()
    with pytest.raises(MalformedInput, match="missing"):
        read.text("a", limit=1)


def test_a_map_refuses_unknown_keys_at_the_end() -> None:
    with pytest.raises(MalformedInput, match="unknown keys: 'zz'") as caught:
        fields(zz=1).finish()

    assert caught.value.code is RefusalCode.REQUEST_INVALID


@pytest.mark.parametrize("wrong", [None, 1, True, b"o", "t", [1], {"x": 1}, -1, 4, "", b"", []])
def test_a_field_of_another_kind_or_range_is_refused(wrong: object) -> None:
    readers = {
        "text": lambda read: read.text("k", limit=9),
        "octets": lambda read: read.octets("k", limit=9),
        "integer": lambda read: read.integer("k", lowest=0, highest=3),
        "array": lambda read: read.array("k", limit=9),
        "map": lambda read: read.map("k"),
    }
    accepted = set()

    for name, reader in readers.items():
        try:
            reader(fields(k=wrong))
        except MalformedInput:
            continue
        accepted.add(name)

    kind = {bytes: "octets", str: "text", list: "array", dict: "map"}.get(type(wrong))
    usable = wrong not in (b"", "", [])
    expected = (
        {kind} if kind and usable else {"integer"} if wrong == 1 and wrong is not True else set()
    )
    assert accepted == expected


def test_a_field_above_its_limit_is_refused() -> None:
    for read in (
        lambda: fields(k="abc").text("k", limit=2),
        lambda: fields(k=b"abc").octets("k", limit=2),
        lambda: fields(k=[1, 2, 3]).array("k", limit=2),
    ):
        with pytest.raises(LimitExceeded):
            read()


def test_something_else_than_a_map_is_refused() -> None:
    with pytest.raises(MalformedInput, match="wanted a map"):
        Map([], "test", RefusalCode.REQUEST_INVALID)


TAGS = frozenset({18, 501})


def decode_tagged(text: str, *, max_depth: int = 16) -> object:
    return strict_cbor.decode(
        bytes.fromhex(text),
        limit_bytes=4096,
        structure="test",
        integer_keys=True,
        tags=TAGS,
        max_depth=max_depth,
    )


def test_tags_that_are_asked_for_are_read_and_written() -> None:
    value = Tagged(18, [Tagged(501, {1: b"x"})])

    assert decode_tagged("d281d901f5a1014178") == value
    assert strict_cbor.encode(value).hex() == "d281d901f5a1014178"


@pytest.mark.parametrize(
    "text",
    [
        "c100",
        "d281c100",
        "d901f6 00",
        "d25f ff",
        "d2fb3ff0000000000000",
        "d2f7",
        "a1d20100",
        "a1d28100 00",
        "d2a2010001 00",
        "d81c80",
        "d81d00",
        "d2",
    ],
)
def test_other_tags_and_what_hides_under_a_tag_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        decode_tagged(text)


def test_tags_count_as_levels() -> None:
    assert decode_tagged("d2" * 16 + "00")
    with pytest.raises(LimitExceeded) as caught:
        decode_tagged("d2" * 17 + "00")
    assert caught.value.code is RefusalCode.CBOR_TOO_DEEP
    with pytest.raises(LimitExceeded):
        decode_tagged("d281d28100", max_depth=3)
