"""Reference sets and documents as operators put them, and the library that follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from tests.simulators.stored import AT, a_reference_set
from verifier.appraisal.policy_file import load_policy
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DocumentKind
from verifier.reference_values.aibom import AiBom
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import REFRESH, ReferenceShelf, ReferenceValues
from verifier.store.migrate import migrate
from verifier.store.sql_store import SqlStore, open_store

DAY = timedelta(days=1)
POLICY = load_policy(
    (resources.files("verifier.policies") / "development.toml").read_text(), "development"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/store.db"
    migrate(url)
    opened = open_store(url, with_outbox=False)
    yield opened
    opened.close()


@pytest.fixture
def service(store: SqlStore) -> ReferenceValues:
    return ReferenceValues(store, POLICY)


def golden(version: int, value: int) -> ReferenceSet:
    pcrs = {HashAlgorithm.SHA256: {4: frozenset({bytes([value]) * 32})}}
    return replace(a_reference_set(version=version), pcrs=pcrs)


class Loaders:
    """Loaders that take any text but ``bad``, and count."""

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def runtime_policy(self, text: str, origin: str) -> RuntimePolicy:
        if text == "bad":
            raise MalformedInput(RefusalCode.RUNTIME_POLICY_INVALID, f"{origin}: bad")
        self.compiled.append(origin)
        return RuntimePolicy(name=text, version=1)

    def aibom(self, text: str, origin: str, providers: Mapping[str, str]) -> AiBom:
        self.compiled.append(f"{origin} by {sorted(providers)}")
        return AiBom(name=text, sha256=text.encode())


def test_new_version_replaces_the_older_at_once(service: ReferenceValues) -> None:
    service.put(golden(1, 1))
    service.put(golden(2, 2))

    assert [one.id for one in service.names()] == ["golden/2"]


def test_older_version_stays_until_its_day(service: ReferenceValues, store: SqlStore) -> None:
    service.put(golden(1, 1))
    service.put(golden(2, 2), keep_older_until=AT + DAY)
    shelf = ReferenceShelf(store)

    def accepted(at_days: float) -> list[str]:
        return [one.id for one in shelf.current(AT + at_days * DAY).sets]

    assert accepted(0) == ["golden/2", "golden/1"]
    assert accepted(1) == ["golden/2"]
    assert accepted(0.5) == ["golden/2", "golden/1"]

    service.put(golden(3, 3), keep_older_until=AT + 2 * DAY)
    assert service.named("golden/1").accepted_until == AT + DAY
    assert service.named("golden/2").accepted_until == AT + 2 * DAY
    assert service.named("golden").id == "golden/3"
    assert service.earlier(service.named("golden")) == service.named("golden/2")


def test_set_ends_to_the_microsecond_without_a_look_at_the_store(
    service: ReferenceValues, store: SqlStore
) -> None:
    ends = AT + REFRESH / 2
    service.put(replace(golden(1, 1), valid_until=ends))
    shelf = ReferenceShelf(store)

    assert len(shelf.current(AT).sets) == 1
    tick = timedelta(microseconds=1)
    assert len(shelf.current(ends - tick).sets) == 1
    assert shelf.current(ends - tick) is shelf.current(AT)
    library = shelf.current(ends)
    assert (len(library.sets), len(library.resting)) == (0, 1)


def test_version_that_is_not_newer_cannot_stand_beside(service: ReferenceValues) -> None:
    service.put(golden(2, 1))

    with pytest.raises(RequestRefused, match="version 3"):
        service.put(golden(2, 2), keep_older_until=AT)


def test_one_version_is_removed_by_its_id(service: ReferenceValues) -> None:
    service.put(golden(1, 1))
    service.put(golden(2, 2), keep_older_until=AT)

    service.remove("golden/1")

    assert [one.id for one in service.names()] == ["golden/2"]
    with pytest.raises(NotFound):
        service.remove("golden/1")
    service.remove("golden")
    assert service.names() == ()


def test_review_marks_pcrs_and_person(service: ReferenceValues) -> None:
    service.put(replace(golden(1, 1), to_review=frozenset({4, 7})))

    half = service.review("golden", "first shift", AT, frozenset({7}))
    assert (half.to_review, half.reviewed_by, half.reviewed_at) == ({4}, "first shift", AT)

    assert service.review("golden/1", "second shift", AT + DAY).reviewed
    assert service.named("golden").reviewed_by == "second shift"
    with pytest.raises(RequestRefused):
        service.review("golden", " ", AT)
    with pytest.raises(NotFound):
        service.review("silver", "x", AT)


def test_document_counts_its_versions(store: SqlStore) -> None:
    documents = ReferenceDocuments(store)
    kind = DocumentKind.RUNTIME_POLICY

    assert documents.put(kind, "edge", "one", AT).version == 1
    assert documents.put(kind, "edge", "two", AT).version == 2
    assert documents.get(kind, "edge").document == "two"
    assert [one.name for one in documents.list(kind)] == ["edge"]
    documents.remove(kind, "edge")
    for refused in (documents.get, documents.remove):
        with pytest.raises(NotFound):
            refused(kind, "edge")


@pytest.mark.parametrize("name", ["", "x" * 129, "two\nlines"])
def test_document_needs_a_printable_name(store: SqlStore, name: str) -> None:
    with pytest.raises(RequestRefused):
        ReferenceDocuments(store).put(DocumentKind.AIBOM, name, "x", AT)


def test_library_holds_documents_that_load_and_names_those_that_do_not(store: SqlStore) -> None:
    documents, loaders = ReferenceDocuments(store), Loaders()
    documents.put(DocumentKind.RUNTIME_POLICY, "good", "good", AT)
    documents.put(DocumentKind.RUNTIME_POLICY, "bad", "bad", AT)
    documents.put(DocumentKind.AIBOM, "agent", "agent", AT)
    shelf = ReferenceShelf(store, loaders.runtime_policy, loaders.aibom)

    library = shelf.current(AT)

    assert list(library.runtime) == ["good"]
    assert library.aiboms[b"agent"].name == "agent"
    assert [(one.kind, one.name) for one in shelf.left_out] == [("runtime-policy", "bad")]
    assert loaders.compiled == ["runtime-policy good", "aibom agent by []"]


def test_only_what_changed_is_compiled_again(store: SqlStore) -> None:
    documents, loaders = ReferenceDocuments(store), Loaders()
    documents.put(DocumentKind.RUNTIME_POLICY, "edge", "edge", AT)
    documents.put(DocumentKind.AIBOM, "agent", "agent", AT)
    shelf = ReferenceShelf(store, loaders.runtime_policy, loaders.aibom)
    first = shelf.current(AT)

    documents.put(DocumentKind.PROVIDER, "maker", "PEM", AT)
    second = shelf.current(AT + REFRESH)

    assert second.runtime["edge"] is first.runtime["edge"]
    assert loaders.compiled[2:] == ["aibom agent by ['maker']"]
    documents.remove(DocumentKind.RUNTIME_POLICY, "edge")
    assert shelf.current(AT + 2 * REFRESH).runtime == {}


def test_torn_set_is_left_out_and_the_others_stay(
    service: ReferenceValues, store: SqlStore
) -> None:
    service.put(golden(1, 1))
    with store.work() as work:
        work.put_reference_set(a_reference_set("torn"))
        work._connection.exec_driver_sql(
            "UPDATE reference_sets SET document = 'x' WHERE name = 'torn'"
        )
    shelf = ReferenceShelf(store)

    assert [one.id for one in shelf.current(AT).sets] == ["golden/1"]
    assert [(one.kind, one.name) for one in shelf.left_out] == [("reference-set", "torn/1")]
