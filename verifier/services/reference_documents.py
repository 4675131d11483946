"""Reference documents: put, listed and removed by operators, compiled for the library in use.

A document that no longer loads is left out and named, never half used: what then lacks its
reference is judged as lacking it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from verifier.errors import NotFound, RequestRefused
from verifier.ports import DeviceReader, DocumentKind, ReferenceDocument, Store
from verifier.reference_values.aibom import AiBom
from verifier.reference_values.runtime_policy import RuntimePolicy

MAX_NAME_CHARS = 128
"""The store's column."""


class ReferenceDocuments:
    """What operators do with reference documents.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, kind: DocumentKind) -> Sequence[ReferenceDocument]:
        """Return all documents of one kind by name."""
        return self._store.documents(kind)

    def get(self, kind: DocumentKind, name: str) -> ReferenceDocument:
        """Return one document.

        Raises:
            NotFound: If there is none of that kind and name.
        """
        for found in self._store.documents(kind):
            if found.name == name:
                return found
        raise _absent(kind, name)

    def put(self, kind: DocumentKind, name: str, document: str, at: datetime) -> ReferenceDocument:
        """Add or replace a document; its version counts up. The caller has checked its text.

        Raises:
            RequestRefused: If the name is empty, too long or not printable.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"a {kind} needs a name of 1 to {MAX_NAME_CHARS} printable characters",
            )
        older = [found.version for found in self._store.documents(kind) if found.name == name]
        made = ReferenceDocument(
            kind=kind,
            name=name,
            version=max(older, default=0) + 1,
            created_at=at,
            document=document,
        )
        with self._store.work() as work:
            work.put_document(made)
        return made

    def remove(self, kind: DocumentKind, name: str) -> None:
        """Remove a document.

        Raises:
            NotFound: If there is none of that kind and name.
        """
        with self._store.work() as work:
            if not work.remove_document(kind, name):
                raise _absent(kind, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something in the store that could not be loaded and is therefore not in use.

    Attributes:
        kind: ``reference-set`` or a document's kind.
        name: Its name; of reference sets with the version.
        reason: Why not.
    """

    kind: str
    name: str
    reason: str


RuntimePolicyLoader = Callable[[str, str], RuntimePolicy]
"""(text, origin) to a compiled policy; raises AttestationError."""

AiBomLoader = Callable[[str, str, Mapping[str, str]], AiBom]
"""(stored document, origin, providers' PEM texts by name) to an AIBOM; raises AttestationError."""


Compiled = TypeVar("Compiled")


class _Shelf(Generic[Compiled]):
    """Compiled documents of one kind; those whose text did not change are not compiled again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, Compiled]] = {}

    def compiled(
        self,
        documents: Sequence[ReferenceDocument],
        load: Callable[[str, str], Compiled],
        beside: object,
    ) -> tuple[list[Compiled], list[LeftOut]]:
        known: dict[str, tuple[object, Compiled]] = {}
        left_out: list[LeftOut] = []
        for one in documents:
            made_of = (one.version, one.document, beside)
            older = self._known.get(one.name)
            if older is not None and older[0] == made_of:
                known[one.name] = older
                continue
            try:
                known[one.name] = (made_of, load(one.document, f"{one.kind} {one.name}"))
            except AttestationError as error:
                left_out.append(LeftOut(kind=one.kind.value, name=one.name, reason=error.reason))
        self._known = known
        return [compiled for _, compiled in known.values()], left_out


class DocumentShelf:
    """Runtime policies and AIBOMs as the library wants them.

    Args:
        store: Where documents are.
        load_runtime_policy: Compiles a runtime policy.
        load_aibom: Compiles an AIBOM with its providers.
    """

    def __init__(
        self,
        store: DeviceReader,
        load_runtime_policy: RuntimePolicyLoader,
        load_aibom: AiBomLoader,
    ) -> None:
        self._store = store
        self._load_runtime_policy = load_runtime_policy
        self._load_aibom = load_aibom
        self._policies = _Shelf[RuntimePolicy]()
        self._aiboms = _Shelf[AiBom]()

    def compiled(self) -> tuple[list[RuntimePolicy], list[AiBom], list[LeftOut]]:
        """Return what loads, and what does not."""
        policies, left_out = self._policies.compiled(
            self._store.documents(DocumentKind.RUNTIME_POLICY), self._load_runtime_policy, None
        )
        providers = {one.name: one.document for one in self._store.documents(DocumentKind.PROVIDER)}
        aiboms, more = self._aiboms.compiled(
            self._store.documents(DocumentKind.AIBOM),
            lambda text, origin: self._load_aibom(text, origin, providers),
            providers,
        )
        return policies, aiboms, [*left_out, *more]


def _absent(kind: DocumentKind, name: str) -> NotFound:
    return NotFound(RefusalCode.REFERENCE_MISSING, f"no {kind} is named {name!r}")
