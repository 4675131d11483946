"""What the cases say in plain words (policy, references, enrolment), as this verifier takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.algorithms import HashAlgorithm, hash_by_label
from attestation.identity import DeviceId
from attestation.pcr import PcrBanks, parse_selection
from attestation.result import Claim
from attestation.tpm.public import parse_public_any
from tests.conformance.cases import pcr_values
from tests.conformance.generate.device import FixedMaker
from verifier.appraisal.boot_file import boot_rules
from verifier.appraisal.boot_rules import BootRules
from verifier.appraisal.enrolment import Enrolment
from verifier.appraisal.policy_model import AppraisalPolicy, Coverage, Match, PcrRule
from verifier.appraisal.policy_table import Table
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.reference_values.model import ReferenceLibrary, ReferenceSet

NOW: Final = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
DEVICE: Final = DeviceId("box-0042")


def banks(values: Mapping[str, Mapping[str, str]]) -> PcrBanks:
    """PCR values of a case."""
    return {hash_by_label(label): held for label, held in pcr_values(values).items()}


def policy_of(given: Mapping[str, Any]) -> AppraisalPolicy:
    """The appraisal policy that a case's ``policy`` describes."""
    selections = parse_selection(given["selection"])
    known = {int(pcr) for bank in given.get("reference", {}).values() for pcr in bank}
    required = set(given.get("log_required", ()))
    groups: dict[tuple[Match, Coverage], set[int]] = {}
    for pcr in {pcr for one in selections for pcr in one.indices}:
        match = Match.VALUE if pcr in known else Match.LOG
        coverage = Coverage.REQUIRED if pcr in required else Coverage.REPORTED
        groups.setdefault((match, coverage), set()).add(pcr)
    return AppraisalPolicy(
        id="conformance/1",
        description="as the case says",
        selections=selections,
        rules=tuple(
            PcrRule(
                indices=tuple(sorted(pcrs)),
                claim=Claim.EXECUTABLES,
                known=3,
                unknown=96,
                missing=33,
                match=match,
                coverage=coverage,
            )
            for (match, coverage), pcrs in groups.items()
        ),
        check_event_contents=given.get("event_contents", True),
        separators=given.get("separators", False),
        boot=_boot_of(given["boot"]) if "boot" in given else None,
        nonce_ttl=timedelta(seconds=given.get("nonce_lifetime_s", 120)),
    )


def _boot_of(asked: Mapping[str, Any]) -> BootRules:
    """The boot rules that a case asks for; an event that cannot be read is always refused."""
    table: dict[str, object] = {"unknown_events": 96}
    if "secure_boot" in asked:
        table["secure_boot"] = {"state": asked["secure_boot"], "otherwise": 96, "missing": 96}
    if asked.get("exit_boot_services"):
        table["exit_boot_services"] = {"otherwise": 96, "missing": 96}
    if "dbx_entries" in asked:
        table["dbx"] = {"entries": asked["dbx_entries"], "otherwise": 96, "missing": 96}
    return boot_rules(Table("boot", table))


def reference_of(given: Mapping[str, Any]) -> ReferenceLibrary:
    """The known-good PCR values that a case's ``policy`` names."""
    values = banks(given.get("reference", {}))
    if not values:
        return ReferenceLibrary()
    known: dict[HashAlgorithm, dict[int, frozenset[bytes]]] = {
        bank: {index: frozenset({value}) for index, value in held.items()}
        for bank, held in values.items()
    }
    return ReferenceLibrary(
        sets=(ReferenceSet(name="known good", version=1, created=NOW, pcrs=known),)
    )


def enrolment_of(ak: bytes) -> tuple[Enrolment, TrustAnchors]:
    """A device that was enrolled with this attestation key (TPM2B_PUBLIC or TPMT_PUBLIC).

    Raises:
        InputError: If the key is not one that may be enrolled.
    """
    public = parse_public_any(ak)
    root = FixedMaker().root_der
    enrolment = Enrolment(
        device=DEVICE,
        ak_public=public.raw,
        ak_name=public.name,
        anchor_sha256=hashlib.sha256(root).digest(),
        endorsed_from=NOW - timedelta(days=365),
        endorsed_until=NOW + timedelta(days=365),
    )
    return enrolment, anchors_of([root])


def anchors_of(certificates: list[bytes]) -> TrustAnchors:
    """Trust anchors from DER certificates."""
    pems = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates]
    return TrustAnchors.from_pem(*pems)


def moment(text: str) -> datetime:
    """A moment as the cases write it."""
    return datetime.fromisoformat(text)
