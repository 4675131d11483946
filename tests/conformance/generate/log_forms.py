"""Cases of kind ``firmware-log``: N21, N24 to N26: sizes, PCR indices, banks and their digests.

``logs`` has the logs that are written as they should be, and lie.
"""

from __future__ import annotations

from attestation.logs.event_types import EventType
from attestation.logs.tcg import parse_firmware_log
from attestation.reader import pack
from tests.conformance.generate.logs import (
    SHA256,
    Events,
    first,
    given,
    held_by,
    original,
    pieces,
    refused,
)
from tests.conformance.generate.model import Json, case, patch


def cases() -> list[Json]:
    """Every case of this file."""
    return [*_sizes(), *_indices(), *_banks(), *_digests(), *_left_out()]


def _end() -> int:
    return len(original())


def _spec_id_count_at() -> int:
    return 32 + 16 + 4 + 4


def _announced() -> dict[str, tuple[str, str, list[Json]]]:
    """Sizes that no log has: title, code and what is changed, by name."""
    banks = ((4, 20), (11, 32), (12, 48))
    digests = b"".join(pack("<H", alg) + bytes(size) for alg, size in banks)
    huge = pack("<III", 4, 5, 3) + digests + pack("<I", 3 * 1024**3)
    header = len(pieces(original())[0])
    algorithms = _spec_id_count_at() + 4
    return {
        "log-event-of-three-gigabytes": (
            "An event that announces three gigabytes is refused before it is read",
            "truncated",
            [patch(_end(), 0, huge)],
        ),
        "log-truncated": (
            "A log that ends inside an event is malformed, and accuses nobody",
            "truncated",
            [patch(_end() - 3, 3)],
        ),
        "log-of-four-billion-algorithms": (
            "A header that announces 4294967295 digest algorithms is refused",
            "too-many",
            [patch(_spec_id_count_at(), 4, b"\xff" * 4)],
        ),
        "log-digest-size-zero": (
            "A header that gives SHA-256 digests of no bytes is refused",
            "log-malformed",
            [patch(algorithms + 4 + 2, 2, pack("<H", 0))],
        ),
        "log-digest-size-huge": (
            "A header that gives SHA-256 digests of 65535 bytes is refused",
            "log-malformed",
            [patch(algorithms + 4 + 2, 2, pack("<H", 0xFFFF))],
        ),
        "log-digest-count-huge": (
            "An event that announces 4294967295 digests is refused",
            "log-malformed",
            [patch(header + 8, 4, b"\xff" * 4)],
        ),
    }


def _sizes() -> list[Json]:
    why = "Sizes are the attacker's: hold each against what is left before anything is allocated."
    made = [
        refused(
            name,
            "N24",
            title,
            code,
            why,
            patches=changes,
            held=held_by(original()),
            verdict="malformed",
        )
        for name, (title, code, changes) in _announced().items()
    ]
    made.append(
        refused(
            "log-larger-than-any",
            "N24",
            "A log of five million bytes is refused by its size alone",
            "too-large",
            why,
            patches=[{**patch(_end(), 0, b"\x00"), "times": 5_000_000}],
            held=held_by(original()),
            verdict="malformed",
        )
    )
    return made


def _indices() -> list[Json]:
    header = len(pieces(original())[0])
    told = {
        "32": (32, "PCR 32"),
        "24": (24, "PCR 24, the first that no PC has"),
        "none": (0xFFFFFFFF, "PCR 0xFFFFFFFF in an event that extends"),
    }
    made = [
        refused(
            f"log-pcr-index-{name}",
            "N25",
            f"An event of {words} is malformed",
            "log-malformed",
            "An index beyond the last PCR has been a write beyond an array (GHSA-qp88-8f4j-wv7q).",
            patches=[patch(_extending(header), 4, pack("<I", index))],
            held=held_by(original()),
            verdict="malformed",
        )
        for name, (index, words) in told.items()
    ]

    def of_no_pcr(events: Events) -> Events:
        digests = tuple((alg, bytes(len(value))) for alg, value in events[0].digests)
        told = events[0]._replace(
            pcr=0xFFFFFFFF, type=int(EventType.NO_ACTION), digests=digests, event=b"trust point"
        )
        return [told, *events]

    made.append(
        case(
            "log-no-action-of-no-pcr",
            "N25 N32",
            "An EV_NO_ACTION event of PCR 0xFFFFFFFF, as Windows logs it, is taken",
            kind="firmware-log",
            given=given(of_no_pcr),
            verdict="accepted",
            why="Real Windows logs end so: refusing them refuses honest machines.",
        )
    )
    return made


def _extending(offset: int) -> int:
    """The offset of the first event that extends."""
    for event, piece in zip(
        parse_firmware_log(original()).events[1:], pieces(original())[1:], strict=True
    ):
        if event.type != EventType.NO_ACTION:
            return offset
        offset += len(piece)
    raise ValueError("no event extends")


def _banks() -> list[Json]:
    def no_separators(events: Events) -> Events:
        return [one for one in events if one.type != EventType.SEPARATOR]

    return [
        refused(
            "log-empty-bank",
            "N21",
            "A bank in which the firmware measured no separator is refused",
            "log-event-contradicts",
            "Firmware that leaves a bank unextended leaves it to whoever extends it next with a "
            "log of his own (CVE-2021-42299).",
            edit=no_separators,
            seen=True,
            importance="critical",
        ),
        refused(
            "log-of-another-bank",
            "N21 N26",
            "A SHA-1 log beside SHA-256 PCRs explains nothing",
            "log-bank-missing",
            "A log without the bank that was quoted proves nothing about it.",
            path="tests/data/tpm2-software_tpm2-tools/event-uefi-sha1-log.bin",
            patches=[],
            held=held_by(original()),
        ),
    ]


def _digests() -> list[Json]:
    header = len(pieces(original())[0])
    algorithms = _spec_id_count_at() + 4

    def doubled(events: Events) -> Events:
        place = first(events, 4)
        one = events[place].digests[0]
        events[place] = events[place]._replace(digests=(one, one, *events[place].digests[2:]))
        return events

    why = "Readers that take the first and readers that take the last see two logs."
    held = held_by(original())
    stranger = pack("<H", 0x12)
    at = _extending(header) + 12
    return [
        refused(
            "log-algorithm-named-twice",
            "N26",
            "A header that names one algorithm twice is malformed",
            "log-malformed",
            why,
            patches=[patch(algorithms + 4, 4, pack("<HH", 4, 20))],
            held=held,
            verdict="malformed",
        ),
        refused(
            "log-algorithm-unannounced",
            "N26",
            "An event with a digest of an algorithm that the header does not name is malformed",
            "log-malformed",
            why,
            patches=[patch(at, 2, stranger)],
            held=held,
            verdict="malformed",
        ),
        refused(
            "log-algorithm-twice-in-an-event",
            "N26",
            "An event with two digests of one algorithm is malformed",
            "log-malformed",
            why,
            edit=doubled,
            held=held,
            verdict="malformed",
        ),
    ]


def _left_out() -> list[Json]:
    def lacking(events: Events) -> Events:
        place = first(events, 4)
        digests = tuple(one for one in events[place].digests if one[0] != SHA256)
        events[place] = events[place]._replace(digests=digests)
        return events

    return [
        refused(
            "log-event-without-the-bank",
            "N26",
            "A PCR with an event that lacks the quoted bank is not explained by the log",
            "pcr-not-covered",
            "An extend that the log cannot replay in this bank leaves the whole PCR unexplained.",
            edit=lacking,
            held=held_by(original()),
            pcr=4,
        ),
    ]
