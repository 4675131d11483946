"""CoMID: reference values of one kind of machine (draft-ietf-rats-corim-11, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.pcr import PCR_COUNT
from attestation.refusals import RefusalCode
from attestation.wire.strict_cbor import CborKey, CborValue, Map, Tagged

_STRUCTURE: Final = "CoMID"
_DIGESTS: Final[Mapping[object, HashAlgorithm]] = {
    1: HashAlgorithm.SHA256,
    7: HashAlgorithm.SHA384,
    8: HashAlgorithm.SHA512,
    "sha-256": HashAlgorithm.SHA256,
    "sha-384": HashAlgorithm.SHA384,
    "sha-512": HashAlgorithm.SHA512,
}
"""By number and name (IANA "Named Information Hash Algorithm Registry")."""
_TRIPLES: Final = {
    1: "endorsed values",
    2: "identity keys",
    3: "attestation keys",
    4: "dependencies",
    5: "memberships",
    6: "CoSWID references",
    8: "conditional endorsement series",
    10: "conditional endorsements",
}
_VALUES: Final = {
    0: "version",
    1: "security version number",
    3: "flags",
    4: "raw value",
    5: "raw value mask",
    6: "MAC address",
    7: "IP address",
    8: "serial number",
    9: "UEID",
    10: "UUID",
    11: "name",
    13: "keys",
    15: "number range",
}
_DIGESTS_KEY, _REGISTERS_KEY = 2, 14
_MAX_TEXT_CHARS: Final = 256

Registers = dict[HashAlgorithm, dict[int, set[bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """PCR values of one environment.

    Attributes:
        environment: Its vendor, model, layer and index in words, or its class id in hex.
        class_id: Its class id in hex; empty if it has none.
        pcrs: Accepted values by bank and PCR.
    """

    environment: str
    class_id: str
    pcrs: Mapping[HashAlgorithm, Mapping[int, frozenset[bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comid:
    """One CoMID, as far as we read it.

    Attributes:
        id: Its tag id: a text, or a UUID in hex.
        version: Its tag version.
        values: One for each environment that it gives PCR values for.
        notices: What it says besides; not used.
    """

    id: str
    version: int
    values: tuple[ReferenceValues, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Environment:
    """A class of machine; two are one only if every attribute is the same (section 5.1.4.2)."""

    attributes: tuple[tuple[CborKey, CborValue], ...]
    words: str
    class_id: str


@dataclass(slots=True)
class _Reading:
    """What is collected while a CoMID is read."""

    found: dict[_Environment, Registers] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def read_comid(value: CborValue) -> Comid:
    """Read a decoded CoMID.

    Values of one environment are put together; two values of one PCR are both accepted.

    Raises:
        MalformedInput: ``corim-malformed`` if it is not a CoMID, or has parts that no draft names.
    """
    fields = _map(value, _STRUCTURE)
    if 0 in fields:
        fields.value(0)  # its language
    identity = fields.map(1)
    tag_id = text_or_hex(identity.value(0), "tag id")
    version = identity.integer(1, lowest=0, highest=2**31 - 1) if 1 in identity else 0
    identity.finish()
    reading = _Reading()
    if 2 in fields:  # noqa: PLR2004 - the map's own keys, here and below
        fields.value(2)  # who made it: said by the signature
    if 3 in fields:  # noqa: PLR2004
        fields.value(3)
        reading.notices.append("links to other tags (replaces, supplements) are not followed")
    triples = fields.map(4)
    fields.finish()
    for key, what in _TRIPLES.items():
        if key in triples:
            triples.value(key)
            reading.notices.append(f"{what} are not used")
    references = _array(triples.value(0), "reference triples") if 0 in triples else []
    triples.finish()
    for triple in references:
        _read_triple(triple, reading)
    return Comid(
        id=tag_id,
        version=version,
        values=tuple(
            ReferenceValues(
                environment=environment.words,
                class_id=environment.class_id,
                pcrs={
                    bank: {index: frozenset(values) for index, values in sorted(pcrs.items())}
                    for bank, pcrs in sorted(banks.items())
                },
            )
            for environment, banks in reading.found.items()
        ),
        notices=tuple(dict.fromkeys(reading.notices)),
    )


def _read_triple(triple: CborValue, reading: _Reading) -> None:
    parts = _array(triple, "reference triple")
    if len(parts) != 2:  # noqa: PLR2004 - environment, measurements
        raise _malformed("a reference triple has not two parts")
    environment = _environment(parts[0], reading)
    many = isinstance(parts[1], list)  # older drafts: one map
    measurements = _array(parts[1], "measurements") if many else [parts[1]]
    for measurement in measurements:
        registers = _measurement(measurement, reading)
        if environment is None:
            continue
        for bank, pcrs in registers.items():
            known = reading.found.setdefault(environment, {}).setdefault(bank, {})
            for index, values in pcrs.items():
                known.setdefault(index, set()).update(values)


def _environment(value: CborValue, reading: _Reading) -> _Environment | None:
    """Read an environment; None if it is narrower than a kind of machine."""
    fields = _map(value, "environment")
    narrower = [what for key, what in ((1, "instance"), (2, "group")) if key in fields]
    if narrower:
        reading.notices.append(
            f"reference values for one {narrower[0]} only are not used: a set is for all devices"
        )
        return None
    attributes = fields.value(0)
    described = _map(attributes, "class")
    fields.finish()
    words = [described.text(key, limit=_MAX_TEXT_CHARS) for key in (1, 2) if key in described]
    class_id = text_or_hex(described.value(0), "class id") if 0 in described else ""
    if not all(word.isprintable() for word in words):
        raise _malformed("vendor or model is not printable")
    if class_id and not words:
        words.append(class_id)
    for key, what in ((3, "layer"), (4, "index")):
        if key in described:
            words.append(f"{what} {described.integer(key, lowest=0, highest=2**31 - 1)}")
    described.finish()
    if not words:
        raise _malformed("an environment's class says nothing")
    return _Environment(
        attributes=tuple(sorted(attributes.items())) if isinstance(attributes, dict) else (),
        words=" ".join(words),
        class_id=class_id,
    )


def _measurement(value: CborValue, reading: _Reading) -> Registers:
    fields = _map(value, "measurement")
    element = fields.value(0) if 0 in fields else None
    values = fields.map(1)
    conditional = 2 in fields  # noqa: PLR2004 - the map's own key
    if conditional:
        fields.value(2)
    fields.finish()
    for key, what in _VALUES.items():
        if key in values:
            values.value(key)
            reading.notices.append(f"a measurement's {what} is not compared")
    digests = values.value(_DIGESTS_KEY) if _DIGESTS_KEY in values else None
    registers = values.value(_REGISTERS_KEY) if _REGISTERS_KEY in values else {}
    values.finish()
    if conditional:
        reading.notices.append("measurements that somebody else must authorise are not used")
        return {}
    if not isinstance(registers, dict):
        raise _malformed("integrity registers are not a map")
    found: Registers = {}
    if digests is not None:
        _keep(found, element, digests, reading)
    for index, listed in registers.items():
        _keep(found, index, listed, reading)
    return found


def _keep(
    found: Registers, element: CborValue | CborKey, listed: CborValue, reading: _Reading
) -> None:
    """Take the digests of one element, if it is a PCR."""
    index = element if type(element) is int and 0 <= element < PCR_COUNT else None
    seen: set[HashAlgorithm] = set()
    for digest in _array(listed, "digests"):
        parts = _array(digest, "digest")
        if len(parts) != 2 or not isinstance(parts[1], bytes):  # noqa: PLR2004 - algorithm, value
            raise _malformed("a digest is not an algorithm with bytes")
        bank = _DIGESTS.get(parts[0]) if type(parts[0]) in (int, str) else None
        if bank is None:
            reading.notices.append(f"digests of algorithm {parts[0]!r:.40} are not used")
            continue
        if len(parts[1]) != bank.size:
            raise _malformed(f"a {bank.label} digest has {len(parts[1])} bytes")
        if bank in seen:
            raise _malformed(f"one element has two {bank.label} digests in one measurement")
        seen.add(bank)
        if index is None:
            reading.notices.append("measurements of something that is not a PCR are not used")
        else:
            found.setdefault(bank, {}).setdefault(index, set()).add(parts[1])


def text_or_hex(value: CborValue, what: str) -> str:
    """Return an id as text: texts as they are, bytes in hex, numbers in decimal, tags dropped.

    Raises:
        MalformedInput: If it is something else, empty, too long or not printable.
    """
    inner = value.value if isinstance(value, Tagged) else value
    text = inner.hex() if isinstance(inner, bytes) else inner
    if isinstance(inner, int) and not isinstance(inner, bool):
        text = str(inner)
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT_CHARS or not text.isprintable():
        raise _malformed(f"the {what} is not 1 to {_MAX_TEXT_CHARS} printable characters or bytes")
    return text


def _map(value: CborValue, what: str) -> Map:
    return Map(value, what, RefusalCode.CORIM_MALFORMED)


def _array(value: CborValue, what: str) -> list[CborValue]:
    if not isinstance(value, list) or not value:
        raise _malformed(f"{what}: wanted an array that is not empty")
    return value


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.CORIM_MALFORMED, reason, structure=_STRUCTURE)
