"""Revocation lists of makers."""

from __future__ import annotations

from tests.conformance.generate.device import FixedMaker
from verifier.endorsement.revocation import read_revocation_lists

_ANCHORS = (FixedMaker().root,)


def run(data: bytes) -> None:
    """Read hostile bytes."""
    read_revocation_lists([data], _ANCHORS)
