from __future__ import annotations

from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import AttestationError
from attestation.logs.replay import check_event_contents, replay
from attestation.logs.tcg import UnverifiedLog, parse_firmware_log
from tests.simulators.firmware_log import SHA256, agile_event, header

DATA = Path(__file__).parents[1] / "data"
FILES = (
    "tpm2-software_tpm2-tools/event-sd-boot-fedora37.bin",
    "tpm2-software_tpm2-tools/event-uefi-sha1-log.bin",
    "google_go-eventlog/tpm/glinux-alex.bin",
    "google_go-attestation/short_no_action_eventlog",
)


@cache
def real(file: str) -> bytes:
    return (DATA / file).read_bytes()


def judged(content: bytes) -> UnverifiedLog | None:
    """Parse, replay and check; None if refused. Anything but a refusal escapes."""
    try:
        log = parse_firmware_log(content)
        for bank in replay(log).pcrs:
            check_event_contents(log, bank)
    except AttestationError:
        return None
    return log


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_or_parsed(content: bytes) -> None:
    judged(content)


@given(st.binary(max_size=300))
def test_random_bytes_after_a_good_start_are_refused_or_parsed(tail: bytes) -> None:
    judged(header() + tail)


@settings(max_examples=300)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_mutated_real_log_is_refused_or_parsed(file: str, edits: list[tuple[int, bytes]]) -> None:
    content = bytearray(real(file))
    for place, patch in edits:
        at = place % len(content)
        content[at : at + len(patch)] = patch
    judged(bytes(content))


@settings(max_examples=200)
@given(st.sampled_from(FILES), st.integers(0, 2**20), st.integers(0, 255))
def test_no_byte_can_change_without_being_seen(file: str, place: int, value: int) -> None:
    """A changed byte is refused, or shows in what was parsed: no byte is passed over unread.

    Bytes of the Specification ID event that carry no meaning (versions) change its content.
    """
    content = bytearray(real(file))
    at = place % len(content)
    if content[at] == value:
        return
    content[at] = value
    changed = judged(bytes(content))
    assert changed is None or changed != parse_firmware_log(real(file))


def test_every_truncation_of_a_real_log_is_refused_or_is_a_prefix_of_it() -> None:
    for file in FILES[:2] + FILES[3:]:
        whole = parse_firmware_log(real(file))
        prefixes = 0
        for length in range(len(real(file))):
            part = judged(real(file)[:length])
            if part is not None:
                prefixes += 1
                assert part.events == whole.events[: len(part.events)]
        assert prefixes == len(whole.events) - 1


@given(st.lists(st.binary(max_size=6), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_order_of_events_matters(contents: list[bytes], random: object) -> None:
    shuffled = list(contents)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    values = [
        replay(
            parse_firmware_log(header() + b"".join(agile_event(4, 1, item) for item in order))
        ).pcrs[SHA256][4]
        for order in (contents, shuffled)
    ]
    assert (values[0] == values[1]) == (contents == shuffled)
