"""Reference sets: matching, learning, and the file that people read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError, MalformedInput
from attestation.pcr import parse_selection
from tests.verifier.appraisal.courtroom import SHA256, replayed_log
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary, ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set

AT = datetime(2026, 5, 1, tzinfo=UTC)
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))


def box(name: str, version: int = 1, **pcrs: bytes) -> ReferenceSet:
    """``box("x", p0=A)``: PCR 0 must be A."""
    values = {int(key[1:]): frozenset((value,)) for key, value in pcrs.items()}
    return ReferenceSet(name=name, version=version, created=AT, pcrs={SHA256: values})


def test_set_that_knows_every_value_matches() -> None:
    library = ReferenceLibrary(sets=(box("a", p0=A, p1=A), box("b", p0=B, p1=B)))

    found = library.match([(SHA256, 0, B), (SHA256, 1, B)])

    assert found.matched is library.sets[1]


def test_values_of_two_sets_together_match_neither() -> None:
    """Firmware of one machine beside the loader of another is no known machine."""
    library = ReferenceLibrary(sets=(box("a", p0=A, p1=A), box("b", p0=B, p1=B)))

    found = library.match([(SHA256, 0, A), (SHA256, 1, B)])

    assert found.matched is None
    assert found.unknown == ((SHA256, 1),)


def test_nearest_set_is_the_one_that_knows_most() -> None:
    library = ReferenceLibrary(sets=(box("a", p0=A, p1=A, p2=A), box("b", p0=B, p1=B, p2=B)))

    found = library.match([(SHA256, 0, B), (SHA256, 1, C), (SHA256, 2, B)])

    assert found.nearest is library.sets[1]
    assert found.unknown == ((SHA256, 1),)


def test_pcr_that_no_set_speaks_of_is_unlisted() -> None:
    found = ReferenceLibrary(sets=(box("a", p0=A),)).match([(SHA256, 0, A), (SHA256, 9, A)])

    assert (found.matched, found.unknown, found.unlisted) == (None, (), ((SHA256, 9),))


def test_same_value_in_another_bank_or_pcr_is_unknown() -> None:
    library = ReferenceLibrary(sets=(box("a", p0=A),))

    assert library.match([(SHA256, 1, A)]).matched is None
    assert library.match([(HashAlgorithm.SHA384, 0, A)]).matched is None


def test_empty_library_and_empty_question_match_nothing() -> None:
    assert ReferenceLibrary().match([(SHA256, 0, A)]).nearest is None
    assert ReferenceLibrary(sets=(box("a", p0=A),)).match([]).matched is None


def test_two_sets_of_one_id_are_refused() -> None:
    with pytest.raises(MalformedInput):
        ReferenceLibrary(sets=(box("a", p0=A), box("a", p0=B)))


def test_two_versions_of_a_set_may_both_apply() -> None:
    library = ReferenceLibrary(sets=(box("a", 1, p0=A), box("a", 2, p0=B)))

    assert library.match([(SHA256, 0, B)]).matched is library.sets[1]


@pytest.mark.parametrize(
    "pcrs", [{}, {SHA256: {}}, {SHA256: {24: frozenset((A,))}}, {SHA256: {0: frozenset()}}]
)
def test_impossible_set_is_refused(pcrs: dict[HashAlgorithm, dict[int, frozenset[bytes]]]) -> None:
    with pytest.raises(MalformedInput):
        ReferenceSet(name="x", version=1, created=AT, pcrs=pcrs)


def test_value_of_another_size_is_refused() -> None:
    with pytest.raises(MalformedInput):
        box("x", p0=b"\x01" * 20)


def test_golden_device_teaches_its_values_and_events() -> None:
    log = replayed_log()
    selection = parse_selection("sha256:0,4,7")

    learnt = learn("gold", log, log.pcrs, selection, AT)

    assert learnt.pcrs == {SHA256: {n: frozenset((log.pcrs[SHA256][n],)) for n in (0, 4, 7)}}
    assert {pcr for pcr, _ in learnt.events} == {0, 4, 7}
    assert {len(digest) for _, digest in learnt.events} == {32}


def test_pcr_without_a_value_cannot_be_learnt() -> None:
    with pytest.raises(MalformedInput):
        learn("gold", None, {SHA256: {0: A}}, parse_selection("sha256:0,1"), AT)


def test_learnt_set_reads_back_from_its_file() -> None:
    log = replayed_log()
    learnt = learn(
        "gold", log, log.pcrs, parse_selection("sha256:0,4,7"), AT, description='a "quoted" \n line'
    )

    text = dump_reference_set(learnt)

    assert load_reference_set(text, "test") == learnt
    assert f'4 = ["{log.pcrs[SHA256][4].hex()}"]' in text


@given(
    name=st.text(min_size=1, max_size=40),
    description=st.text(max_size=40),
    values=st.dictionaries(
        st.integers(0, 23),
        st.frozensets(st.binary(min_size=32, max_size=32), min_size=1, max_size=3),
        min_size=1,
        max_size=5,
    ),
    events=st.frozensets(
        st.tuples(st.integers(0, 23), st.binary(min_size=32, max_size=32)), max_size=5
    ),
)
def test_any_set_reads_back_from_its_file(
    name: str,
    description: str,
    values: dict[int, frozenset[bytes]],
    events: frozenset[tuple[int, bytes]],
) -> None:
    reference = ReferenceSet(
        name=name,
        version=3,
        created=AT,
        pcrs={SHA256: values},
        events=events,
        description=description,
    )

    assert load_reference_set(dump_reference_set(reference), "test") == reference


GOOD = f"""
name = "x"
version = 1
created = 2026-05-01T00:00:00Z
[pcrs.sha256]
0 = ["{A.hex()}"]
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "x"', 'name = "x"\ncolour = "red"', "colour"),
        ("version = 1", "version = 0", "version"),
        ("version = 1", 'version = "1"', "version"),
        ("created = 2026-05-01T00:00:00Z", "created = 2026-05-01T00:00:00", "created"),
        ("created = 2026-05-01T00:00:00Z", "", "created"),
        ("sha256", "sha3", "sha3"),
        ("0 = [", "x = [", "x"),
        ("0 = [", "99 = [", "99"),
        (f'["{A.hex()}"]', '["zz"]', "pcrs.sha256.0"),
        (f'["{A.hex()}"]', '"00"', "pcrs.sha256.0"),
        (f'["{A.hex()}"]', '["00"]', "line 6: pcrs.sha256.0"),
        (f'["{A.hex()}"]', "[]", "line 6: pcrs.sha256.0"),
        ("[pcrs.sha256]", "[pcrs.sha256", "not TOML"),
        ("[pcrs.sha256]", "[events]", "empty"),
    ],
)
def test_wrong_file_is_refused_by_the_name_of_its_key(old: str, new: str, named: str) -> None:
    assert load_reference_set(GOOD, "ref.toml")

    with pytest.raises(InputError, match=named) as caught:
        load_reference_set(GOOD.replace(old, new), "ref.toml")

    assert "ref.toml" in str(caught.value)
