"""Reference sets and documents as the store keeps them: the text that operators import."""

from __future__ import annotations

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from verifier.ports import DocumentKind, ReferenceDocument
from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set
from verifier.store.rows import AnyRow, from_us, to_us


def reference_set_document(chosen: ReferenceSet) -> str:
    """Return a set as TOML text."""
    return dump_reference_set(chosen)


def reference_set_from(document: str, name: str, version: int) -> ReferenceSet:
    """Build a set from TOML text.

    Raises:
        InputError: If the text is not a reference set, or not the one of that name and version.
    """
    found = load_reference_set(document, f"reference set {name} in the store")
    if (found.name, found.version) != (name, version):
        raise MalformedInput(
            RefusalCode.VALUE_OUT_OF_RANGE,
            f"the row of {name}/{version} holds the text of {found.id}",
            structure="ReferenceSet",
        )
    return found


def document_columns(document: ReferenceDocument) -> dict[str, object]:
    """Return a reference document as columns."""
    return {
        "kind": document.kind.value,
        "name": document.name,
        "version": document.version,
        "created_us": to_us(document.created_at),
        "document": document.document,
    }


def document_from(row: AnyRow) -> ReferenceDocument:
    """Build a reference document from its row."""
    return ReferenceDocument(
        kind=DocumentKind(row.kind),
        name=row.name,
        version=row.version,
        created_at=from_us(row.created_us),
        document=row.document,
    )
