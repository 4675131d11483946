"""What a verifier said of a case, in the words of the cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from attestation.boot.facts import BootFacts, ImageKind
from attestation.errors import AttestationError, InputError
from attestation.result import AttestationResult, TrustTier, tier_of
from verifier.issuance.enrolment_policy import ProofsMissing

_WORDS: Final = {
    TrustTier.NONE: "warning",
    TrustTier.AFFIRMING: "accepted",
    TrustTier.WARNING: "warning",
    TrustTier.CONTRAINDICATED: "refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One answer.

    Attributes:
        verdict: ``accepted``, ``warning``, ``refused`` or ``malformed``.
        codes: The codes that decided it; of a result, those of its worst tier.
        told: Every code that was told, the deciding ones included.
        pcrs: The PCRs that the deciding codes name.
        facts: Further facts that a case may expect, by name.
        detail: For people.
    """

    verdict: str
    codes: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    pcrs: frozenset[int] = frozenset()
    facts: tuple[tuple[str, object], ...] = ()
    detail: str = ""


def of_error(error: AttestationError) -> Outcome:
    """Malformed bytes accuse nobody; a proof that does not hold does."""
    return Outcome(
        verdict="malformed" if isinstance(error, InputError) else "refused",
        codes=frozenset({str(error.code)}),
        told=frozenset({str(error.code)}),
        facts=(("missing", list(error.missing)),) if isinstance(error, ProofsMissing) else (),
        detail=error.describe(),
    )


def of_result(result: AttestationResult) -> Outcome:
    """The result's status and the findings that decided it."""
    worst = [one for one in result.findings if tier_of(one.value) == result.status]
    accused = () if result.status is TrustTier.AFFIRMING else worst
    return Outcome(
        verdict=_WORDS[result.status],
        codes=frozenset(str(one.code) for one in accused),
        told=frozenset(str(one.code) for one in result.findings),
        pcrs=frozenset(one.pcr for one in accused if one.pcr is not None),
        facts=() if result.boot is None else _facts(result.boot),
        detail="; ".join(result.reasons),
    )


def _facts(boot: BootFacts) -> tuple[tuple[str, object], ...]:
    """The boot facts that a case may ask for."""
    dbx = boot.databases.get("dbx")
    return (
        ("secure_boot", boot.secure_boot.value if boot.secure_boot else None),
        ("exit_boot_services", boot.exit_boot_services.value if boot.exit_boot_services else None),
        ("dbx_entries", dbx.value.entries if dbx else None),
        (
            "boot_applications",
            [
                fact.value.digest.hex()
                for fact in boot.images
                if fact.value.kind is ImageKind.APPLICATION
            ],
        ),
    )


def attempt(judge: Callable[[], Outcome]) -> Outcome:
    """Return what was said, also when it was said by raising."""
    try:
        return judge()
    except AttestationError as error:
        return of_error(error)
