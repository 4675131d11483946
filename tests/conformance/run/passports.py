"""Kind ``passport``: a result shown in place of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attestation.identity import device_id
from attestation.result import TrustTier
from attestation.tpm.public import parse_public
from tests.conformance.cases import octets
from tests.conformance.run.bench import enrolment_of, moment
from tests.conformance.run.outcome import Outcome
from verifier.issuance.passport import ResultSigners, read_result, require_standing

_TIERS: Final = {tier.label: tier for tier in TrustTier}


def run(given: Mapping[str, Any]) -> Outcome:
    """Read a result and hold it against what is known; a refusal is raised."""
    ak_name = parse_public(octets(given["iak_public"])).name
    shown = read_result(
        given["result"],
        signers_of(given["keys"]["ours"], given["keys"]["others"]),
        device_id(given["device"]),
        ak_name,
        moment(given["at"]),
    )
    known, newest = given["known"], given["newest"]
    require_standing(
        shown,
        ak_name,
        enrolment_of(octets(known["iak_public"]))[0] if known else None,
        (_TIERS[newest["status"]], moment(newest["at"])) if newest else None,
    )
    return Outcome(verdict="accepted")


def signers_of(
    ours: list[Mapping[str, object]], others: list[Mapping[str, object]]
) -> ResultSigners:
    """Whose results are believed, from lists of public keys (JWK)."""
    return ResultSigners(
        ours={"keys": [dict(key) for key in ours]},
        others={str(key["kid"]): dict(key) for key in others},
    )
