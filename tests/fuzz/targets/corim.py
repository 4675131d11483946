"""CoRIMs, signed and not, and their CoMIDs."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.wire.corim import SignedCorim, open_corim, read_payload
from verifier.reference_values.corim_sets import sets_of

_AT = datetime(2026, 5, 1, tzinfo=UTC)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    opened = open_corim(data)
    sets_of(read_payload(opened.message) if isinstance(opened, SignedCorim) else opened, None, _AT)
