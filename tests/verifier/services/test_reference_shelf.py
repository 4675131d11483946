"""The library in use while several threads ask for it and the store is slow or fails."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from importlib import resources
from pathlib import Path
from threading import Event

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.refusals import RefusalCode
from tests.simulators.stored import AT, a_reference_set
from tests.verifier.appraisal.test_runtime import FILES, Running
from verifier.appraisal.policy_file import load_policy
from verifier.errors import Unavailable
from verifier.ports import DocumentKind, StoredReferenceSets
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.runtime_policy_file import load_runtime_policy
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import REFRESH, ReferenceShelf, ReferenceValues
from verifier.store.engine import make_engine
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore

POLICY = load_policy(
    (resources.files("verifier.policies") / "development.toml").read_text(), "development"
)


def golden(version: int, value: int) -> ReferenceSet:
    pcrs = {HashAlgorithm.SHA256: {4: frozenset({bytes([value]) * 32})}}
    return replace(a_reference_set(version=version), pcrs=pcrs)


class SlowStore(SqlStore):
    """A store whose answers can be held back, as a busy database does."""

    held: Event | None = None
    asked: Event
    broken: bool = False

    def reference_sets(self) -> StoredReferenceSets:
        if self.broken:
            raise Unavailable(RefusalCode.STORE_UNAVAILABLE, "the store: no answer")
        found = super().reference_sets()
        if self.held is not None and not self.asked.is_set():
            self.asked.set()
            assert self.held.wait(30)
        return found


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowStore]:
    url = f"sqlite:///{tmp_path}/slow.db"
    migrate(url)
    opened = SlowStore(make_engine(url), with_outbox=False)
    opened.asked = Event()
    yield opened
    opened.close()


def test_nobody_is_judged_against_an_empty_library_while_the_first_one_is_read(
    slow: SlowStore,
) -> None:
    ReferenceValues(slow, POLICY).put(golden(1, 1))
    shelf, slow.held = ReferenceShelf(slow), Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shelf.current, AT)
        assert slow.asked.wait(30)
        second = pool.submit(shelf.current, AT)
        wait([second], timeout=0.2)
        slow.held.set()
        assert [len(one.result(30).sets) for one in (first, second)] == [1, 1]


def test_nobody_is_judged_against_an_empty_library_after_a_failing_store(slow: SlowStore) -> None:
    ReferenceValues(slow, POLICY).put(golden(1, 1))
    shelf, slow.broken = ReferenceShelf(slow), True
    for _ in range(2):
        with pytest.raises(Unavailable):
            shelf.current(AT)

    slow.broken = False
    assert len(shelf.current(AT).sets) == 1


def test_slow_look_at_the_store_cannot_bring_back_what_was_removed(slow: SlowStore) -> None:
    service = ReferenceValues(slow, POLICY)
    service.put(golden(1, 1))
    shelf = ReferenceShelf(slow)
    shelf.current(AT)
    service.put(golden(2, 2))
    slow.held, later = Event(), AT + REFRESH
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(shelf.current, later)
        assert slow.asked.wait(30)
        service.remove("golden")
        shelf.current(later + REFRESH)
        slow.held.set()
        before.result(30)

    assert shelf.current(later + REFRESH).sets == ()


def test_one_compiled_runtime_policy_serves_every_device_until_its_text_changes(
    slow: SlowStore,
) -> None:
    documents, service = ReferenceDocuments(slow), ReferenceValues(slow, POLICY)
    documents.put(DocumentKind.RUNTIME_POLICY, "box", runtime_text(b"one"), AT)
    shelf = ReferenceShelf(slow)
    first = shelf.current(AT).runtime["box"]

    again = shelf.current(AT).runtime["box"]
    service.put(golden(1, 1))
    beside = shelf.current(AT + REFRESH)
    documents.put(DocumentKind.RUNTIME_POLICY, "box", runtime_text(b"two"), AT)
    changed = shelf.current(AT + 2 * REFRESH).runtime["box"]

    assert len(beside.sets) == 1
    assert again is first
    assert beside.runtime["box"] is first
    assert changed.id != first.id


def runtime_text(*files: bytes) -> str:
    rows = "\n".join(
        f"sha256:{hashlib.sha256(one).hexdigest()}  /bin/{one.decode()}" for one in files
    )
    return f"name = 'box'\nfiles = '''\n{rows}\n'''"


def test_fleet_under_one_runtime_policy_keeps_little_for_each_device() -> None:
    """What is kept of a device does not grow with the policy, nor with the length of its list."""
    names = [b"file%d" % number for number in range(2_000)]
    tracemalloc.start()
    policy = load_runtime_policy(runtime_text(*names), "test")
    of_policy = tracemalloc.get_traced_memory()[0]
    court = Running()
    for name in names:
        court.kernel.measure(b"/bin/" + name, name)
    court.reference = replace(court.reference, runtime={"box": policy})
    court.look()
    before = tracemalloc.get_traced_memory()[0]

    kept = []
    for _ in range(20):
        court.enrolment = replace(court.enrolment, progress=None)
        kept.append(court.look().progress)
    each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    tracemalloc.stop()

    assert [one.entries for one in kept if one is not None] == [2_000 + 1 + len(FILES)] * 20
    assert of_policy > 200_000
    assert each < 8_000
