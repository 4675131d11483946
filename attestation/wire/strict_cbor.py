"""The one CBOR door: bounded, duplicate-free decoding and deterministic encoding.

Accepted are whole numbers of 64 bits, byte and text strings, arrays, maps with text (or, where
asked for, integer) keys, booleans and null (RFC 8949 section 3). Refused are duplicate keys,
indefinite lengths, every tag that was not asked for, floats, undefined and other simple values,
trailing bytes, and whatever is larger, deeper or more numerous than we take. Sizes are judged
before a byte is decoded; nothing that cbor2 raises leaves this module as it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, cast

import cbor2

from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_CBOR_DEPTH
from attestation.reader import Reader
from attestation.refusals import RefusalCode

CborKey = int | str
"""Key of a map; one map has text keys only unless integer keys were asked for."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a tag (RFC 8949 section 3.4); the tag means nothing to this door.

    Attributes:
        tag: The tag's number.
        value: The tagged value.
    """

    tag: int
    value: CborValue


CborValue = (
    None | bool | int | str | bytes | Sequence["CborValue"] | Mapping[CborKey, "CborValue"] | Tagged
)
"""What this door lets through, in both directions; decoded containers are lists and dicts."""

MAX_CBOR_ITEMS: Final = 4096
"""Data items in one large input: a 6 MiB array of empty maps would become 400 MB of objects."""

UNCOUNTED_BYTES: Final = 64 * 1024
"""Inputs up to this size are not counted beforehand: their objects cannot exceed a few MiB."""

_SCALARS: Final = frozenset({bool, bytes, int, str, type(None)})
_WORD: Final = range(-(1 << 64), 1 << 64)


class _TagRefusedError(ValueError):
    """A semantic tag was met; cbor2 wraps this, and :func:`_refused` finds it again."""


def _refuse_tag(*_: object) -> NoReturn:
    raise _TagRefusedError


class _RefuseEveryTag(dict[int, Callable[..., object]]):
    """The semantic decoders we give cbor2: whatever the tag number, it is refused.

    Holds no entry and takes none, so that hostile tag numbers cannot make it grow.
    """

    def __missing__(self, key: int) -> Callable[..., object]:
        return _refuse_tag


_NO_TAGS: Final = _RefuseEveryTag()


class _TakeTags(_RefuseEveryTag):
    """As above, but the named tags become :class:`Tagged`, whatever they usually mean."""

    def __init__(self, tags: frozenset[int]) -> None:
        super().__init__({tag: partial(_tagged, tag) for tag in tags})


def _tagged(tag: int, value: CborValue, _immutable: object) -> Tagged:
    return Tagged(tag, value)


def decode(
    raw: bytes,
    *,
    limit_bytes: int,
    structure: str,
    integer_keys: bool = False,
    tags: frozenset[int] = frozenset(),
    max_depth: int = MAX_CBOR_DEPTH,
) -> CborValue:
    """Decode exactly one CBOR data item (RFC 8949 section 3).

    Args:
        raw: The whole encoding.
        limit_bytes: Largest accepted size; judged before anything is decoded.
        structure: The structure's name, used in errors.
        integer_keys: Take maps whose keys are whole numbers; otherwise keys must be text.
        tags: Tags to take; all others are refused.
        max_depth: How deep containers and tags may be nested.

    Returns:
        Numbers, strings, booleans, None, lists, dicts and, if tags were asked for, ``Tagged``.

    Raises:
        LimitExceeded: Too large, too many items, or nested deeper than ``max_depth``
            (``too-large``, ``too-many``, ``cbor-too-deep``).
        MalformedInput: Not one well-formed item of the accepted kinds (``cbor-malformed``,
            ``cbor-duplicate-key``, ``trailing-bytes``).
    """
    if len(raw) > limit_bytes:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(raw)} bytes of CBOR, at most {limit_bytes} are accepted",
            structure=structure,
        )
    if len(raw) > UNCOUNTED_BYTES:
        _count_items(raw, structure)
    source = io.BytesIO(raw)
    try:
        value: CborValue = cbor2.CBORDecoder(
            source,
            semantic_decoders=_TakeTags(tags) if tags else _NO_TAGS,
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=not integer_keys,
        ).decode()
    except Exception as error:  # whatever a decoder raises on hostile bytes
        raise _refused(error, structure, max_depth) from error
    if source.tell() != len(raw):
        raise MalformedInput(
            RefusalCode.TRAILING_BYTES,
            f"{len(raw) - source.tell()} bytes follow the end of the CBOR item",
            structure=structure,
            offset=source.tell(),
        )
    _check_kinds(value, int if integer_keys else str, structure)
    return value


def encode(value: CborValue) -> bytes:
    """Encode deterministically: shortest forms, definite lengths, keys in bytewise order.

    The order is that of RFC 8949 section 4.2.1, not the length-first order of RFC 7049 that
    cbor2 calls canonical.

    Raises:
        TypeError: For a value of a kind that :func:`decode` would refuse.
    """
    return cbor2.dumps(_ordered(value))


def _ordered(value: CborValue) -> CborValue:
    if isinstance(value, Mapping):
        entries = [(cbor2.dumps(_plain(key)), key, item) for key, item in value.items()]
        entries.sort(key=lambda entry: entry[0])
        return {key: _ordered(item) for _, key, item in entries}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, Tagged):
        return cast("CborValue", cbor2.CBORTag(value.tag, _ordered(value.value)))
    return _plain(value)


def _plain(value: object) -> CborValue:
    if isinstance(value, (bool, bytes, str)) or value is None:
        return value
    if isinstance(value, int) and value in _WORD:
        return int(value)
    raise TypeError(f"a {type(value).__name__} cannot be written through the strict CBOR door")


def _check_kinds(value: object, key_kind: type, structure: str) -> None:
    """Refuse floats, undefined, simple values and foreign keys, wherever they hide."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str and type(key) is not key_kind:
                raise _malformed(f"a map key is a {type(key).__name__}, wanted text", structure)
        items: Iterable[object] = value.values()
    elif isinstance(value, list):
        items = value
    elif isinstance(value, Tagged):
        items = (value.value,)
    elif type(value) in _SCALARS:
        return
    else:
        raise _malformed(
            f"a value is a {type(value).__name__}; wanted a whole number, string, boolean, null, "
            "array or map",
            structure,
        )
    for item in items:
        if type(item) not in _SCALARS:  # most are: a call saved
            _check_kinds(item, key_kind, structure)


def _count_items(raw: bytes, structure: str) -> None:
    """Refuse a large input of too many data items before cbor2 makes objects of them.

    Only heads are read (RFC 8949 section 3); what is broken is left for the decoder to refuse,
    which stops at the same place.
    """
    reader = Reader(raw, structure)
    count = 0
    while reader.remaining:
        count += 1
        if count > MAX_CBOR_ITEMS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"more than {MAX_CBOR_ITEMS} CBOR data items",
                structure=structure,
                offset=reader.offset,
            )
        try:
            _skip_item_head(reader)
        except MalformedInput:
            return


def _skip_item_head(reader: Reader) -> None:
    """Step over one head and, for strings, their content."""
    initial = reader.u8("initial byte")
    major, short = initial >> 5, initial & 0x1F
    argument = short
    if short >= 24:  # noqa: PLR2004 - RFC 8949 section 3: 24..27 announce 1, 2, 4 or 8 bytes
        if short > 27:  # noqa: PLR2004 - reserved or indefinite: the decoder refuses it here too
            raise reader.wrong("additional information", short, "0 to 27")
        argument = int.from_bytes(reader.take(1 << (short - 24), "argument"))
    if major in (2, 3):
        reader.take(argument, "string")


def _malformed(reason: str, structure: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CBOR_MALFORMED, reason, structure=structure)


def _refused(error: Exception, structure: str, max_depth: int) -> InputError:
    """Translate what cbor2 raised; its duplicate-key message holds the key, so is not kept."""
    text = str(error)
    if isinstance(error.__cause__, _TagRefusedError):
        return _malformed("a CBOR tag is used that is not accepted here", structure)
    if "uplicate map key" in text:
        return MalformedInput(
            RefusalCode.CBOR_DUPLICATE_KEY, "a map names the same key twice", structure=structure
        )
    if "nesting depth" in text:
        return LimitExceeded(
            RefusalCode.CBOR_TOO_DEEP,
            f"nested deeper than {max_depth} levels",
            structure=structure,
        )
    if isinstance(error, cbor2.CBORError):
        return _malformed(f"not well-formed CBOR: {text[:160]}", structure)
    return _malformed(f"the CBOR decoder gave up: {type(error).__name__}", structure)


class Map:
    """One decoded map, read field by field with the type and size each field must have.

    Every accessor removes its key; :meth:`finish` refuses what nobody asked for.

    Args:
        value: A decoded value that should be a map with text keys.
        structure: The structure's name, used in errors.
        code: The code of every refusal but :class:`LimitExceeded`.
    """

    __slots__ = ("_code", "_left", "structure")

    def __init__(self, value: CborValue, structure: str, code: RefusalCode) -> None:
        self.structure = structure
        self._code = code
        if not isinstance(value, dict):
            raise self.refusal(f"is a {type(value).__name__}, wanted a map")
        self._left: dict[CborKey, CborValue] = dict(value)

    def __contains__(self, key: CborKey) -> bool:
        return key in self._left

    def text(self, key: CborKey, *, limit: int) -> str:
        """Take a text string of 1 to ``limit`` characters. Raises MalformedInput, LimitExceeded."""
        value = self._take(key)
        if not isinstance(value, str):
            raise self._wrong_type(key, value, "text")
        self._check_size(key, len(value), limit)
        return value

    def octets(self, key: CborKey, *, limit: int, least: int = 1) -> bytes:
        """Take a byte string of ``least`` (0 or 1) to ``limit`` bytes.

        Raises:
            MalformedInput: If it is missing, of another kind, or empty where that is not allowed.
            LimitExceeded: If it is longer.
        """
        value = self._take(key)
        if not isinstance(value, bytes):
            raise self._wrong_type(key, value, "a byte string")
        if value or least:
            self._check_size(key, len(value), limit)
        return value

    def integer(self, key: CborKey, *, lowest: int, highest: int) -> int:
        """Take a whole number within ``lowest..highest``. Raises MalformedInput."""
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong_type(key, value, "a whole number")
        if not lowest <= value <= highest:
            raise self.refusal(f"{key!r} is {value}, wanted {lowest} to {highest}")
        return value

    def array(self, key: CborKey, *, limit: int) -> list[CborValue]:
        """Take an array of 1 to ``limit`` elements. Raises MalformedInput, LimitExceeded."""
        value = self._take(key)
        if not isinstance(value, list):
            raise self._wrong_type(key, value, "an array")
        self._check_size(key, len(value), limit)
        return value

    def map(self, key: CborKey) -> Map:
        """Take a nested map. Raises MalformedInput."""
        return Map(self._take(key), f"{self.structure}.{key}", self._code)

    def value(self, key: CborKey) -> CborValue:
        """Take whatever is there, for the caller to look at. Raises MalformedInput if missing."""
        return self._take(key)

    def finish(self) -> None:
        """Check that every key was asked for.

        Raises:
            MalformedInput: If keys remain.
        """
        if self._left:
            names = ", ".join(repr(key)[:40] for key in list(self._left)[:4])
            raise self.refusal(f"has unknown keys: {names}")

    def refusal(self, reason: str) -> MalformedInput:
        """Make (not raise) the error for something wrong with this map."""
        return MalformedInput(self._code, reason, structure=self.structure)

    def _take(self, key: CborKey) -> CborValue:
        try:
            return self._left.pop(key)
        except KeyError as error:
            raise self.refusal(f"{key!r} is missing") from error

    def _wrong_type(self, key: CborKey, value: object, wanted: str) -> MalformedInput:
        return self.refusal(f"{key!r} is a {type(value).__name__}, wanted {wanted}")

    def _check_size(self, key: CborKey, size: int, limit: int) -> None:
        if size == 0:
            raise self.refusal(f"{key!r} is empty")
        if size > limit:
            raise LimitExceeded(
                RefusalCode.TOO_LARGE,
                f"{key!r} holds {size}, at most {limit} are accepted",
                structure=self.structure,
            )
