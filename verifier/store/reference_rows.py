"""Reference sets as the store keeps them: the same TOML that operators import and export."""

from __future__ import annotations

from verifier.reference_values.model import ReferenceSet
from verifier.reference_values.toml_file import dump_reference_set, load_reference_set


def reference_set_document(chosen: ReferenceSet) -> str:
    """Return a set as TOML text."""
    return dump_reference_set(chosen)


def reference_set_from(document: str, name: str) -> ReferenceSet:
    """Build a set from TOML text.

    Raises:
        InputError: If the text is not a reference set.
    """
    return load_reference_set(document, f"reference set {name} in the store")
