"""Which set a maker's manifest may replace: its own signer's, by no older version of its tag."""

from __future__ import annotations

from collections.abc import Iterable

from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused
from verifier.reference_values.model import ReferenceSet


def require_heir(chosen: ReferenceSet, present: Iterable[ReferenceSet], *, named: bool) -> None:
    """Check that a set made of a manifest may take the place of those of its name.

    Args:
        chosen: The new set; one that was made otherwise may replace any.
        present: All sets.
        named: Whether the operator gave the set its name.

    Raises:
        RequestRefused: ``conflict`` if a set of that name is another signer's or the operator's and
            nobody said that it shall be replaced, or holds a later version of the same tag.
    """
    new = chosen.manifest
    if new is None:
        return
    for older in (one for one in present if one.name == chosen.name):
        known = older.manifest
        if not named and (known is None or known.signer != new.signer):
            owner = "not made of a manifest" if known is None else f"of signer {known.signer!r}"
            raise RequestRefused(
                RefusalCode.CONFLICT,
                f"{older.id!r} is {owner}, this one of {new.signer!r}. If it shall be replaced, "
                "say so with --name",
            )
        if known is not None and known.tag == new.tag and known.version > new.version:
            raise RequestRefused(
                RefusalCode.CONFLICT,
                f"it holds version {new.version} of tag {new.tag!r}, and version {known.version} "
                "is here already. If the maker's step back is meant, remove the set first",
            )
