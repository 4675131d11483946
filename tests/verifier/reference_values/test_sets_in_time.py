"""Reference sets begin, end, follow one another and are reviewed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attestation.errors import LimitExceeded, MalformedInput
from attestation.pcr import parse_selection
from tests.verifier.appraisal.courtroom import SHA256, replayed_log
from verifier.reference_values.difference import differences
from verifier.reference_values.golden import learn
from verifier.reference_values.model import (
    MAX_SETS,
    ReferenceLibrary,
    ReferenceSet,
    library_at,
)
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set

AT = datetime(2026, 5, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
A, B = (bytes([n]) * 32 for n in (1, 2))


def box(version: int = 1, value: bytes = A, name: str = "box") -> ReferenceSet:
    return ReferenceSet(
        name=name, version=version, created=AT, pcrs={SHA256: {0: frozenset((value,))}}
    )


def matched(sets: list[ReferenceSet], value: bytes, at: datetime) -> str | None:
    found = library_at(at, sets, {}, {}).library.match([(SHA256, 0, value)]).matched
    return found.id if found else None


@pytest.mark.parametrize(
    ("one", "at", "expected"),
    [
        (replace(box(), valid_from=AT), AT, True),
        (replace(box(), valid_from=AT), AT - TICK, False),
        (replace(box(), valid_until=AT), AT - TICK, True),
        (replace(box(), valid_until=AT), AT, False),
        (replace(box(), accepted_until=AT), AT - TICK, True),
        (replace(box(), accepted_until=AT), AT, False),
        (replace(box(), accepted_until=AT + TICK, valid_until=AT), AT, False),
    ],
)
def test_set_is_in_force_up_to_its_edge(one: ReferenceSet, at: datetime, expected: bool) -> None:  # noqa: FBT001 - a table
    assert one.in_force(at) is expected
    assert matched([one], A, at) == ("box/1" if expected else None)


def test_set_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(MalformedInput, match="ends before"):
        replace(box(), valid_from=AT, valid_until=AT)


def test_older_version_is_accepted_beside_the_newer_until_its_day() -> None:
    sets = [box(2, B), replace(box(1, A), accepted_until=AT)]

    assert matched(sets, A, AT - TICK) == "box/1"
    assert matched(sets, A, AT) is None
    assert matched(sets, B, AT) == "box/2"


def test_set_out_of_force_that_would_have_matched_is_named() -> None:
    ended = replace(box(1, A), valid_until=AT)
    library = library_at(AT, [box(1, B, "other"), ended], {}, {}).library

    found = library.match([(SHA256, 0, A)])

    assert found.matched is None
    assert found.resting == ended
    assert found.nearest is not None
    assert found.nearest.id == "other/1"
    assert library.match([(SHA256, 0, B)]).resting is None


def test_set_in_force_wins_over_an_earlier_one_that_is_not() -> None:
    ended = replace(box(1, A), accepted_until=AT)
    library = library_at(AT, [ended, box(2, A)], {}, {}).library

    found = library.match([(SHA256, 0, A)])

    assert found.matched == box(2, A)
    assert found.resting is None


def test_library_says_for_which_span_it_is_right() -> None:
    sets = [
        replace(box(), valid_from=AT, valid_until=AT + 3 * TICK),
        replace(box(2), valid_from=AT + TICK),
    ]

    dated = library_at(AT + TICK, sets, {}, {})

    assert (dated.since, dated.until) == (AT + TICK, AT + 3 * TICK)
    assert [dated.holds(AT + n * TICK) for n in range(4)] == [False, True, True, False]
    assert library_at(AT, [box()], {}, {}).holds(AT - timedelta(days=9000))


def test_resting_sets_count_towards_the_bound() -> None:
    sets = tuple(box(n + 1) for n in range(MAX_SETS))
    with pytest.raises(LimitExceeded):
        ReferenceLibrary(sets=sets, resting=(box(name="one too many"),))


def test_learnt_set_waits_for_a_review_of_what_is_new() -> None:
    log = replayed_log()
    selection = parse_selection("sha256:0,4,7")
    first = learn("gold", log, log.pcrs, selection, AT)
    assert (first.to_review, first.reviewed) == ({0, 4, 7}, False)

    reviewed = replace(first, to_review=frozenset())
    changed = {SHA256: {**log.pcrs[SHA256], 4: A}}
    second = learn("gold", log, changed, selection, AT, version=2, older=reviewed)
    assert second.to_review == {4}

    half = replace(first, to_review=frozenset({7}))
    assert learn("gold", log, log.pcrs, selection, AT, version=2, older=half).to_review == {7}
    assert not half.reviewed


def test_learnt_events_say_what_they_are() -> None:
    log = replayed_log()

    learnt = learn("gold", log, log.pcrs, parse_selection("sha256:0,4,7"), AT)

    assert set(learnt.labels) == learnt.events
    assert all(label.startswith("EV_") for label in learnt.labels.values())
    assert load_reference_set(dump_reference_set(learnt), "test") == learnt


def test_every_field_reads_back_from_the_file() -> None:
    whole = replace(
        box(),
        valid_from=AT,
        valid_until=AT + timedelta(days=9),
        accepted_until=AT + timedelta(days=3),
        reviewed_by='the "night" shift',
        reviewed_at=AT + TICK,
        to_review=frozenset({0, 7}),
        events=frozenset({(0, A), (0, B)}),
        labels={(0, A): "EV_SEPARATOR"},
    )

    assert load_reference_set(dump_reference_set(whole), "test") == whole


GOOD = f"""name = "x"
version = 1
created = 2026-05-01T00:00:00Z
valid_from = 2026-05-01T00:00:00Z
to_review = [0]

[pcrs.sha256]
0 = ["{A.hex()}"]

[events]
0 = [
    "{A.hex()} EV_SEPARATOR",
    "{B.hex()}",
]
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("valid_from = 2026-05-01T00:00:00Z", 'valid_from = "soon"', "line 4: valid_from"),
        ("to_review = [0]", "to_review = [true]", "line 5: to_review"),
        ("[pcrs.sha256]", "[pcrs.md4]", "line 7: pcrs.md4"),
        (f"{B.hex()}", "xyz", "line 13: events.0"),
        ("EV_SEPARATOR", "E" * 200, "line 12: events.0"),
        ("0 = [\n", "0 = 5\n0x = [\n", "line 11: events.0"),
        ('name = "x"', 'name = ""', "line 1: name"),
    ],
)
def test_wrong_file_is_refused_by_line(old: str, new: str, named: str) -> None:
    assert load_reference_set(GOOD, "ref.toml")
    with pytest.raises(MalformedInput, match=named):
        load_reference_set(GOOD.replace(old, new), "ref.toml")


def test_differences_are_told_by_pcr_and_event() -> None:
    older = replace(
        box(1, A),
        events=frozenset({(0, A), (4, A)}),
        labels={(0, A): "EV_POST_CODE old firmware", (4, A): "EV_IPL same"},
    )
    newer = replace(
        box(2, B),
        events=frozenset({(0, B), (4, A)}),
        labels={(0, B): "EV_POST_CODE new firmware"},
    )

    told = differences(older, newer)

    assert told[0] == f"PCR 0 (sha256): accepts {B.hex()[:16]}…, before {A.hex()[:16]}…"
    assert told[1].startswith("  + EV_POST_CODE new firmware (")
    assert told[2].startswith("  - EV_POST_CODE old firmware (")
    assert len(told) == 3
    assert differences(newer, newer) == ()
    assert differences(None, newer)[0].startswith("PCR 0 (sha256): new")
    assert (
        "no longer listed"
        in differences(
            replace(newer, pcrs={SHA256: {0: frozenset((B,)), 7: frozenset((A,))}}), newer
        )[0]
    )


def test_event_that_changed_alone_is_under_its_pcr() -> None:
    told = differences(box(), replace(box(2), events=frozenset({(0, B)})))

    assert told[0] == "PCR 0: the values are the same, the events differ"
