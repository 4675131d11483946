"""Step 7, trust vector: findings become AR4SI claims; the worst finding of a claim wins.

Claim values follow draft-ietf-rats-ar4si 2.3.4 as the policy chose them; values given here are
those that no policy may soften: a failed proof.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from attestation.errors import VerificationError
from attestation.refusals import RefusalCode
from attestation.result import CRYPTO_FAILED, Claim, Finding, TrustVector, tier_of

IDENTITY_RECOGNISED: Final = 2
"""instance-identity: recognised, not known to be compromised."""

IDENTITY_NOT_TRUSTWORTHY: Final = 96
"""instance-identity: recognised, but not to be trusted."""

_TIERS: Final = {value: tier_of(value) for value in range(-128, 128)}
_ALL: Final = (Claim.HARDWARE, Claim.EXECUTABLES, Claim.INSTANCE_IDENTITY)
_STATE: Final = (Claim.HARDWARE, Claim.EXECUTABLES)
_LAST_IDENTITY_STEP: Final = 3


def failed_proof(error: VerificationError, step: int) -> tuple[Finding, ...]:
    """Return the findings of a step that raised: nothing after it can be believed.

    A failed signature, binding or nonce speaks against everything (99 in hardware, executables
    and instance-identity); a quote that does not answer what was asked speaks against the state
    only, since whose quote it is was proven; a revoked device is recognised and not trusted.

    Args:
        error: What was raised.
        step: The step that raised it.
    """
    claims: tuple[Claim, ...] = _ALL if step <= _LAST_IDENTITY_STEP else _STATE
    value = CRYPTO_FAILED
    if error.code is RefusalCode.DEVICE_REVOKED:
        claims, value = (Claim.INSTANCE_IDENTITY,), IDENTITY_NOT_TRUSTWORTHY
    place = f"{error.structure}: " if error.structure else ""
    return tuple(
        Finding(
            code=error.code, claim=claim, value=value, reason=f"{place}{error.reason}", step=step
        )
        for claim in claims
    )


def vector_of(findings: tuple[Finding, ...]) -> tuple[TrustVector, str]:
    """Fold all findings into the trustworthiness vector; the worst tier of a claim wins.

    Returns:
        The vector and its status in words. Values repeat from device to device, so both are
        remembered by the chosen values.
    """
    chosen: dict[Claim, int] = {}
    for finding in findings:
        seen = chosen.get(finding.claim)
        if seen is None or _TIERS[finding.value] > _TIERS[seen]:
            chosen[finding.claim] = finding.value
    return _vector(tuple(chosen.items()))


@lru_cache(maxsize=1024)
def _vector(chosen: tuple[tuple[Claim, int], ...]) -> tuple[TrustVector, str]:
    vector = TrustVector.from_claims({claim.value: value for claim, value in chosen})
    return vector, vector.status.label
