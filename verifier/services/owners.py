"""Owners of AI agents: whose signatures bind agents to them, and to what at most."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from verifier.errors import NotFound
from verifier.issuance.owners import Owner, load_owner, pack_owner
from verifier.ports import DocumentKind, ReferenceDocument, Store
from verifier.services.reference_documents import ReferenceDocuments


class Owners:
    """What operators do with owners.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._documents = ReferenceDocuments(store)

    def add(self, name: str, key_pem: str, scope: tuple[str, ...] | None, at: datetime) -> Owner:
        """Add an owner, or give one another key or bound. Certificates given before stay.

        Args:
            name: The owner's id, as bindings name it.
            key_pem: The public key.
            scope: What may be given at most, in canonical order; None for no bound.
            at: Now.

        Raises:
            InputError: For an id, key or scope that we do not take.
            RequestRefused: For an id of more than 128 characters.
        """
        document = pack_owner(key_pem, scope)
        owner = load_owner(name, document)
        self._documents.put(DocumentKind.OWNER, name, document, at)
        return owner

    def all(self) -> Sequence[tuple[ReferenceDocument, Owner | None]]:
        """Return every owner by name; None for one whose document cannot be read."""
        return [(one, _loaded(one)) for one in self._documents.list(DocumentKind.OWNER)]

    def remove(self, name: str) -> None:
        """Remove an owner: no binding counts from now on. Certificates given before stay.

        Raises:
            NotFound: ``owner-unknown``.
        """
        try:
            self._documents.remove(DocumentKind.OWNER, name)
        except NotFound as error:
            raise NotFound(RefusalCode.OWNER_UNKNOWN, f"no owner is named {name!a}") from error


def _loaded(document: ReferenceDocument) -> Owner | None:
    try:
        return load_owner(document.name, document.document)
    except AttestationError:
        return None
