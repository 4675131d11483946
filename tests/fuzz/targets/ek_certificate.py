"""EK certificates in every form, judged up to their chain."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.ek.certificate import parse_maker_certificate
from attestation.ek.forms import read_certificate
from tests.conformance.generate.endorsement_keys import maker
from verifier.endorsement.ek import judge_ek
from verifier.endorsement.vendor_roots import VendorRoots

_AT = datetime(2026, 5, 1, tzinfo=UTC)
_ROOTS = VendorRoots(roots=(parse_maker_certificate(maker().root_der),))


def run(data: bytes) -> None:
    """Read hostile bytes."""
    judge_ek(read_certificate(data, from_nv=True), (), _ROOTS, _AT)
