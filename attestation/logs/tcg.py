"""Firmware event logs as UEFI and Linux hand them over (``binary_bios_measurements``).

Two formats, both little endian (TCG PC Client Platform Firmware Profile 1.06, section 10):

- crypto agile: the first event is a TCG_PCR_EVENT holding TCG_EfiSpecIDEvent ("Spec ID Event03"),
  all others are TCG_PCR_EVENT2 with one digest per bank;
- SHA-1 (TPM 1.2 style): every event is a TCG_PCR_EVENT with one SHA-1 digest.

The parser says only that the bytes are a log. Whether the log tells the truth is decided by
replay against a quote (:mod:`attestation.logs.replay`). It is stricter than the standard's prose
where no real log needs the latitude (each was measured over every log in ``tests/data``):

- an event carries at least one digest, each of a bank named by the Specification ID event, none
  twice. Windows and its boot manager log events for some banks only, so a bank may be absent: the
  replay then does not cover that PCR in that bank;
- nothing may follow the last event, not even zeros: no real log is padded, and in the SHA-1
  format 32 zero bytes would read as one more event that extends PCR 0;
- StartupLocality comes at most once, before PCR 0 is first extended, and says 0, 3 or 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from attestation.algorithms import DIGEST_SIZES, HashAlgorithm
from attestation.errors import InputError, LimitExceeded, MalformedInput
from attestation.limits import MAX_FIRMWARE_LOG_BYTES, MAX_FIRMWARE_LOG_EVENTS, MAX_LOG_BANKS
from attestation.logs.event_types import EventType
from attestation.pcr import PCR_COUNT
from attestation.reader import LE_U32, Reader, Struct, pack
from attestation.refusals import RefusalCode

_STRUCTURE: Final = "firmware log"
_SHA1_HEADER: Final = Struct("<II20sI")
_AGILE_START: Final = Struct("<III")
_ALG_ID: Final = Struct("<H")
_SPEC_ID_START: Final = Struct("<16sIBBBBI")
_SPEC_ID_ALGORITHM: Final = Struct("<HH")

_SPEC_ID_AGILE: Final = b"Spec ID Event03\x00"
_LOCALITY_SIGNATURE: Final = b"StartupLocality\x00"
_LOCALITIES: Final = (0, 3, 4)
_NO_PCR: Final = 0xFFFFFFFF
_NO_ACTION: Final = int(EventType.NO_ACTION)
_SHA1: Final = int(HashAlgorithm.SHA1)
_MAX_DIGEST_BYTES: Final = 64
"""Also of an algorithm that we do not know: none in the registry has longer digests."""


class UnverifiedEvent(NamedTuple):
    """One event as the log tells it, believed by nobody yet.

    A named tuple, because a log is parsed within the time of a request and building a frozen
    dataclass costs three times as much.

    Attributes:
        number: Position in the log; the Specification ID event, if any, is number 0.
        pcr: PCR index, 0..23, or 0xFFFFFFFF for an EV_NO_ACTION event of no PCR.
        type: TCG_EVENTTYPE; not covered by the digest.
        digests: (TPM_ALG_ID, digest) in the order of the log's banks.
        event: The event's content, as logged.
    """

    number: int
    pcr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    event: bytes

    def digest(self, bank: HashAlgorithm) -> bytes | None:
        """Return the digest for ``bank``, None if the event does not carry that bank."""
        for alg_id, digest in self.digests:
            if alg_id == bank:
                return digest
        return None


_EVENT: Final[Callable[[tuple[Any, ...]], UnverifiedEvent]] = partial(
    tuple.__new__, UnverifiedEvent
)
"""As ``UnverifiedEvent._make``, for fields of the right number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedLog:
    """A whole firmware log, well formed, believed by nobody yet.

    Attributes:
        banks: TPM_ALG_IDs in Specification ID order; ``(SHA1,)`` for the SHA-1 format. May name
            algorithms that we do not compute.
        events: All events in order, those that extend nothing included.
        startup_locality: Locality of TPM2_Startup (0, 3 or 4): the last byte of PCR 0 at start.
        crypto_agile: False for the SHA-1 format.
        findings: Oddities worth a person's look, none of them a refusal.
    """

    banks: tuple[int, ...]
    events: tuple[UnverifiedEvent, ...]
    startup_locality: int
    crypto_agile: bool
    findings: tuple[str, ...]


def parse_firmware_log(content: bytes) -> UnverifiedLog:
    """Parse a firmware log whole.

    Args:
        content: The bytes of ``binary_bios_measurements``.

    Returns:
        The log: its banks and every event.

    Raises:
        MalformedInput: If the bytes are not exactly one log (``truncated``, ``log-malformed``).
        LimitExceeded: If the log or one of its counts is above :mod:`attestation.limits`
            (``too-large``, ``too-many``).
    """
    if len(content) > MAX_FIRMWARE_LOG_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the log has {len(content)} bytes, at most {MAX_FIRMWARE_LOG_BYTES} are accepted",
            structure=_STRUCTURE,
        )
    reader = Reader(content, _STRUCTURE)
    events: list[UnverifiedEvent] = []
    try:
        return _read_log(reader, events)
    except InputError as error:
        raise type(error)(
            error.code,
            f"event {len(events)}: {error.reason}",
            structure=error.structure,
            offset=error.offset,
        ) from error


_COMPUTED: Final = frozenset(int(algorithm) for algorithm in HashAlgorithm)


def _read_log(reader: Reader, events: list[UnverifiedEvent]) -> UnverifiedLog:
    """Fill ``events``; an error belongs to the event that would have come next."""
    if not reader.remaining:
        raise _malformed(reader, "the log is empty, wanted at least one event")
    first = _read_sha1_event(reader, 0)
    crypto_agile = first.type == _NO_ACTION and first.event.startswith(_SPEC_ID_AGILE)
    sizes = _parse_spec_id(first.event) if crypto_agile else {_SHA1: HashAlgorithm.SHA1.size}
    locality = _accept(reader, events, first, None)
    read_usual = _usual_events(sizes) if crypto_agile else None
    while reader.remaining:
        if read_usual is not None:
            read_usual(reader, events)
            _require_few(reader, events)
            if not reader.remaining:
                break
            event = _read_agile_event(reader, sizes, len(events))
        else:
            event = _read_sha1_event(reader, len(events))
        locality = _accept(reader, events, event, locality)
    return UnverifiedLog(
        banks=tuple(sizes),
        events=tuple(events),
        startup_locality=locality or 0,
        crypto_agile=crypto_agile,
        findings=tuple(
            f"bank 0x{alg_id:04x} is of an algorithm that is not computed here: not replayed"
            for alg_id in sizes
            if alg_id not in _COMPUTED
        ),
    )


def _accept(
    reader: Reader, events: list[UnverifiedEvent], event: UnverifiedEvent, locality: int | None
) -> int | None:
    """Add one event; return the startup locality as far as it was stated."""
    if event.type == _NO_ACTION and event.event.startswith(_LOCALITY_SIGNATURE):
        if locality is not None or any(map(_extends_pcr0, events)):
            raise _malformed(
                reader,
                "StartupLocality may be stated once, before PCR 0 is extended; it comes "
                + ("a second time" if locality is not None else "later"),
            )
        locality = _startup_locality(reader, event)
    events.append(event)
    _require_few(reader, events)
    return locality


def _require_few(reader: Reader, events: list[UnverifiedEvent]) -> None:
    """Refuse a log that goes on after as many events as are taken."""
    if len(events) >= MAX_FIRMWARE_LOG_EVENTS and reader.remaining:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"a log may have {MAX_FIRMWARE_LOG_EVENTS} events, this one has more",
            structure=_STRUCTURE,
            offset=reader.offset,
        )


def _extends_pcr0(event: UnverifiedEvent) -> bool:
    return event.pcr == 0 and event.type != _NO_ACTION


def _startup_locality(reader: Reader, event: UnverifiedEvent) -> int:
    """Return the locality of a TCG_EfiStartupLocalityEvent (PFP 10.4.5.3)."""
    if len(event.event) != len(_LOCALITY_SIGNATURE) + 1 or event.pcr != 0:
        raise _malformed(
            reader,
            f"StartupLocality has {len(event.event)} bytes for PCR {event.pcr}, "
            "wanted 17 bytes for PCR 0",
        )
    locality = event.event[-1]
    if locality not in _LOCALITIES:
        raise _malformed(reader, f"StartupLocality is {locality}, wanted 0, 3 or 4")
    return locality


def _read_sha1_event(reader: Reader, number: int) -> UnverifiedEvent:
    """Read one TCG_PCR_EVENT (PFP 10.2.1)."""
    pcr, kind, digest, size = reader.unpack(_SHA1_HEADER, "event header")
    if pcr >= PCR_COUNT:
        _check_pcr(reader, pcr, kind)
    content = reader.take(size, "event content")
    return UnverifiedEvent(number, pcr, kind, ((_SHA1, digest),), content)


def _usual_events(sizes: dict[int, int]) -> Callable[[Reader, list[UnverifiedEvent]], None]:
    """Return what reads TCG_PCR_EVENT2s as long as they are as nearly all are (PFP 10.2.2).

    That is: they extend, and carry every bank in Specification ID order. They are read by one
    precompiled layout: PCR, type, count with the first algorithm, then digests with the algorithms
    between them, and size. Any other, and any fault, is left to be read field by field.
    """
    banks = tuple(sizes)
    layout = Struct("<II6s" + "s2s".join(map(str, sizes.values())) + "sI")
    heads = (pack("<IH", len(banks), banks[0]), *(pack("<H", bank) for bank in banks[1:]))
    if len(banks) == 1:
        return partial(_read_one_bank, layout, banks[0], heads[0])
    return partial(_read_banks, layout, banks, heads)


def _read_one_bank(
    layout: Struct, bank: int, head: bytes, reader: Reader, events: list[UnverifiedEvent]
) -> None:
    data, begin, end = reader.ahead()
    fixed, read, add = layout.size, layout.unpack_from, events.append
    last = end - fixed
    for number in range(len(events), MAX_FIRMWARE_LOG_EVENTS):
        if begin > last:
            break
        pcr, kind, seen, digest, size = read(data, begin)
        content = begin + fixed
        stop = content + size
        if stop > end or seen != head or pcr >= PCR_COUNT or kind == _NO_ACTION:
            break
        add(_EVENT((number, pcr, kind, ((bank, digest),), data[content:stop])))
        begin = stop
    reader.offset = begin


def _read_banks(
    layout: Struct,
    banks: tuple[int, ...],
    heads: tuple[bytes, ...],
    reader: Reader,
    events: list[UnverifiedEvent],
) -> None:
    data, begin, end = reader.ahead()
    fixed, read, add = layout.size, layout.unpack_from, events.append
    last = end - fixed
    for number in range(len(events), MAX_FIRMWARE_LOG_EVENTS):
        if begin > last:
            break
        fields = read(data, begin)
        pcr, kind = fields[0], fields[1]
        content = begin + fixed
        stop = content + fields[-1]
        if stop > end or fields[2:-1:2] != heads or pcr >= PCR_COUNT or kind == _NO_ACTION:
            break
        digests = tuple(zip(banks, fields[3:-1:2]))  # noqa: B905 - one length by layout
        add(_EVENT((number, pcr, kind, digests, data[content:stop])))
        begin = stop
    reader.offset = begin


def _read_agile_event(reader: Reader, sizes: dict[int, int], number: int) -> UnverifiedEvent:
    pcr, kind, digests, size = _read_agile_header(reader, sizes)
    if pcr >= PCR_COUNT:
        _check_pcr(reader, pcr, kind)
    return UnverifiedEvent(number, pcr, kind, digests, reader.take(size, "event content"))


def _read_agile_header(
    reader: Reader, sizes: dict[int, int]
) -> tuple[int, int, tuple[tuple[int, bytes], ...], int]:
    """Read PCR, type, digests (put in Specification ID order) and event size field by field."""
    pcr, kind, count = reader.unpack(_AGILE_START, "event header")
    if not 0 < count <= len(sizes):
        raise _malformed(
            reader, f"it has {count} digests, wanted 1 to {len(sizes)}: the banks of the log"
        )
    digests: dict[int, bytes] = {}
    for _ in range(count):
        alg_id = reader.unpack(_ALG_ID, "digest algorithm")[0]
        if alg_id not in sizes or alg_id in digests:
            fault = "twice" if alg_id in digests else "without being a bank of the log"
            raise _malformed(reader, f"algorithm 0x{alg_id:04x} appears {fault}")
        digests[alg_id] = reader.take(sizes[alg_id], "digest")
    size = reader.unpack(LE_U32, "event size")[0]
    ordered = tuple((alg_id, digests[alg_id]) for alg_id in sizes if alg_id in digests)
    return pcr, kind, ordered, size


def _check_pcr(reader: Reader, pcr: int, kind: int) -> None:
    """Refuse a PCR that no PC Client TPM has; 0xFFFFFFFF is for EV_NO_ACTION (PFP 10.2.1)."""
    if pcr != _NO_PCR or kind != _NO_ACTION:
        raise _malformed(reader, f"PCR {pcr} does not exist, wanted 0 to {PCR_COUNT - 1}")


def _parse_spec_id(content: bytes) -> dict[int, int]:
    """Return digest sizes in bytes by TPM_ALG_ID of a TCG_EfiSpecIDEvent (PFP 10.4.5.1).

    Raises:
        MalformedInput: If a size is not the algorithm's, an algorithm is named twice, or lengths
            disagree.
        LimitExceeded: If more than :data:`attestation.limits.MAX_LOG_BANKS` banks are named.
    """
    reader = Reader(content, "TCG_EfiSpecIDEvent")
    *_, count = reader.unpack(_SPEC_ID_START, "fixed fields")
    if count > MAX_LOG_BANKS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{count} banks are named, at most {MAX_LOG_BANKS} are accepted",
            structure=reader.structure,
            offset=reader.offset,
        )
    sizes: dict[int, int] = {}
    for _ in range(count):
        alg_id, size = reader.unpack(_SPEC_ID_ALGORITHM, "algorithm and digest size")
        if alg_id in sizes:
            raise _malformed(reader, f"algorithm 0x{alg_id:04x} is named twice")
        wanted = DIGEST_SIZES.get(alg_id, size)
        if size != wanted or not 0 < size <= _MAX_DIGEST_BYTES:
            raise _malformed(
                reader, f"algorithm 0x{alg_id:04x} is given digests of {size} bytes, not its own"
            )
        sizes[alg_id] = size
    if not sizes:
        raise _malformed(reader, "no bank is named, wanted at least one")
    reader.take(reader.u8("vendor information size"), "vendor information")
    reader.end()
    return sizes


def _malformed(reader: Reader, reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.LOG_MALFORMED, reason, structure=reader.structure, offset=reader.offset
    )
