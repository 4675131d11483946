"""How far a list is proven, as text: what is not exactly ours is not read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from attestation.algorithms import HashAlgorithm
from attestation.logs.ima.progress import RuntimeProgress
from tests.simulators.stored import a_device, a_judgement, a_progress, put_enrolment
from verifier.store.migrate import migrate
from verifier.store.progress_rows import decode_progress, encode_progress
from verifier.store.sql_store import open_store
from verifier.store.tables import devices

WORDS = st.text(max_size=20)
PCRS = st.dictionaries(
    st.sampled_from(HashAlgorithm), st.sets(st.integers(0, 23), max_size=3)
).flatmap(
    lambda banks: st.fixed_dictionaries(
        {
            bank: st.fixed_dictionaries(
                {index: st.binary(min_size=bank.size, max_size=bank.size) for index in indices}
            )
            for bank, indices in banks.items()
        }
    )
)
PROGRESS = st.builds(
    RuntimeProgress,
    reset_count=st.integers(0, 2**32 - 1),
    entries=st.integers(0, 500_000),
    pcrs=PCRS,
    padded=st.none() | st.booleans(),
    policy=WORDS,
    counts=st.dictionaries(WORDS, st.integers(0, 500_000), max_size=4),
    samples=st.dictionaries(WORDS, st.lists(WORDS, max_size=3).map(tuple), max_size=4),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = json.loads(encode_progress(a_progress()))


@given(PROGRESS)
def test_progress_comes_back_as_it_went(progress: RuntimeProgress) -> None:
    text = encode_progress(progress)

    assert decode_progress(text) == progress
    text.encode()


def test_every_field_is_kept() -> None:
    assert {field.name for field in dataclasses.fields(RuntimeProgress)} == set(FIELDS) - {"form"}


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_other_values_are_not_read_or_come_back_as_they_are(name: str, value: object) -> None:
    read = decode_progress(json.dumps({**FIELDS, name: value}))

    if read is not None:
        assert decode_progress(encode_progress(read)) == read


@given(st.none() | st.text(max_size=60) | JSON.map(json.dumps))
def test_no_text_makes_the_reader_fail_otherwise(text: str | None) -> None:
    assert decode_progress(text) is None


@pytest.mark.parametrize(
    "change",
    [
        {"form": 1},
        {"form": None},
        {"reset_count": -1},
        {"reset_count": 2**32},
        {"reset_count": True},
        {"entries": -1},
        {"aggregates": -1},
        {"entries": 500_001},
        {"entries": 1.0},
        {"entries": "1"},
        {"padded": 0},
        {"policy": None},
        {"pcrs": []},
        {"pcrs": {"md5": {"10": "00"}}},
        {"pcrs": {"sha256": []}},
        {"pcrs": {"sha256": {"24": "00" * 32}}},
        {"pcrs": {"sha256": {"-1": "00" * 32}}},
        {"pcrs": {"sha256": {"\u0661": "00" * 32}}},
        {"pcrs": {"sha256": {"10": "00" * 31}}},
        {"pcrs": {"sha256": {"10": "zz" * 32}}},
        {"pcrs": {"sha256": {"10": 5}}},
        {"counts": {"a": -1}},
        {"counts": ["a"]},
        {"samples": {"a": "b"}},
        {"samples": {"a": [1]}},
        {"more": 1},
    ],
)
def test_what_we_do_not_write_is_not_read(change: dict[str, object]) -> None:
    assert decode_progress(json.dumps({**FIELDS, **change})) is None


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_missing_field_is_not_read(name: str) -> None:
    assert decode_progress(json.dumps({k: v for k, v in FIELDS.items() if k != name})) is None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"form":1}'])
def test_damaged_row_means_that_the_list_is_asked_for_anew(tmp_path: Path, text: str) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    store = open_store(url, with_outbox=False)
    record = a_device()
    with store.work() as work:
        put_enrolment(work, record)
    store.record([a_judgement(progress=a_progress())])
    with store._engine.begin() as connection:
        connection.execute(update(devices).values(progress=text))

    found = store.device(record.device)

    store.close()
    assert found is not None
    assert found.enrolment.progress is None
    assert found.enrolment.last_seen is not None
