"""What initial trust is judged by: TPM makers' roots, listed keys, clouds' keys; as values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_LISTED_EKS
from attestation.refusals import RefusalCode
from verifier.endorsement.ek import EkRules
from verifier.endorsement.vendor_roots import VendorRoots
from verifier.issuance.cloud_aws import AwsKeys
from verifier.issuance.cloud_azure import AzureKeys

_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_STRUCTURE: Final = "EK allow list"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSources:
    """Everything outside the policy's text that its expressions need.

    Attributes:
        ek_roots: TPM makers believed; None where no class names ``tpm-ek``.
        ek_rules: What is asked of EK certificates.
        listed_eks: SHA-256 of the SubjectPublicKeyInfo of each listed EK.
        aws: None where no class names ``aws-iid``.
        azure: None where no class names ``azure-msi``.
    """

    ek_roots: VendorRoots | None = None
    ek_rules: EkRules = field(default_factory=EkRules)
    listed_eks: frozenset[bytes] = frozenset()
    aws: AwsKeys | None = None
    azure: AzureKeys | None = None

    @property
    def endorsers(self) -> frozenset[bytes]:
        """What may stand as a device's anchor beside manufacturers' roots.

        SHA-256 of TPM makers' roots, and of listed EKs, each of which stands for itself.
        """
        roots = self.ek_roots.roots if self.ek_roots is not None else ()
        return frozenset(root.sha256 for root in roots) | self.listed_eks


def read_ek_list(text: str, origin: str) -> frozenset[bytes]:
    """Read an allow list: one digest a line, hexadecimal; blank lines and ``#`` comments pass.

    Args:
        text: Each digest is the SHA-256 of an EK's SubjectPublicKeyInfo (DER).
        origin: Where it came from, for messages.

    Raises:
        MalformedInput: ``policy-invalid`` for a line of another form, or an empty list.
        LimitExceeded: If there are too many.
    """
    found: set[bytes] = set()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not _DIGEST.fullmatch(word):
            raise _invalid(f"{origin}, line {number}: wanted a SHA-256 digest of 64 hex digits")
        if len(found) >= MAX_LISTED_EKS:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{origin}: more than {MAX_LISTED_EKS} endorsement keys",
                structure=_STRUCTURE,
            )
        found.add(bytes.fromhex(word))
    if not found:
        raise _invalid(f"{origin}: the list is empty; it would let in no device")
    return frozenset(found)


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.POLICY_INVALID, reason, structure=_STRUCTURE)
