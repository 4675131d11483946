"""The TCG's templates of endorsement keys, and the NV indices that belong to each.

TCG EK Credential Profile for TPM Family 2.0, version 2.5: 2.2.1.4 (NV indices), B.3 (low range:
used by policy alone) and B.4 (high range: also by an empty password). SM2 is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack
from attestation.tpm.constants import (
    TPM_ALG_NULL,
    EccCurve,
    KeyType,
    ObjectAttributes,
    SymmetricCipher,
    SymmetricMode,
)
from attestation.tpm.templates import policy_a, policy_authorize_nv, policy_or

EK_HANDLES: Final = range(0x81010000, 0x81010100)
"""Persistent handles where makers and provisioning keep endorsement keys (TCG TPM 2.0 Provisioning
Guidance, 7.8)."""

EK_CHAIN_INDICES: Final = range(0x01C00100, 0x01C00200)
"""NV indices of the certificates above the EK certificates (2.2.1.5)."""

_POLICY_NV: Final = {
    HashAlgorithm.SHA256: 0x01C07F01,
    HashAlgorithm.SHA384: 0x01C07F02,
    HashAlgorithm.SHA512: 0x01C07F03,
}
_LOW: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.ADMIN_WITH_POLICY
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.DECRYPT
)
_HIGH: Final = _LOW | ObjectAttributes.USER_WITH_AUTH


@unique
class EkTemplate(StrEnum):
    """The profile's names of its templates; those most to be wished for first."""

    P_256_LOW = "L-2"
    P_384 = "H-3"
    P_256 = "H-2"
    P_521 = "H-4"
    RSA_2048_LOW = "L-1"
    RSA_2048 = "H-1"
    RSA_3072 = "H-6"
    RSA_4096 = "H-7"

    @property
    def is_low(self) -> bool:
        """Whether its keys are used by policy alone."""
        return self in (EkTemplate.RSA_2048_LOW, EkTemplate.P_256_LOW)

    @property
    def hash(self) -> HashAlgorithm:
        """NameAlg of its keys, and the hash of their policy."""
        return _FACTS[self].hash

    @property
    def certificate_nv(self) -> int:
        """NV index of the certificate of its key."""
        return _FACTS[self].nv

    @property
    def nonce_nv(self) -> int | None:
        """NV index of a nonce that belongs into ``unique``; None in the high range."""
        return _FACTS[self].nv + 1 if self.is_low else None

    @property
    def template_nv(self) -> int:
        """NV index of a TPMT_PUBLIC that the maker used in place of the profile's."""
        return _FACTS[self].nv + (2 if self.is_low else 1)

    @property
    def policy(self) -> bytes:
        """AuthPolicy of its keys: PolicyA, or PolicyB in the high range (B.6)."""
        return policy_a(self.hash) if self.is_low else policy_or(self.hash, ek_branches(self.hash))


@dataclass(frozen=True, slots=True)
class _Facts:
    key: EccCurve | int
    """The curve, or the bits of the modulus."""
    hash: HashAlgorithm
    aes_bits: int
    nv: int


_FACTS: Final = {
    EkTemplate.RSA_2048_LOW: _Facts(2048, HashAlgorithm.SHA256, 128, 0x01C00002),
    EkTemplate.P_256_LOW: _Facts(EccCurve.NIST_P256, HashAlgorithm.SHA256, 128, 0x01C0000A),
    EkTemplate.RSA_2048: _Facts(2048, HashAlgorithm.SHA256, 128, 0x01C00012),
    EkTemplate.P_256: _Facts(EccCurve.NIST_P256, HashAlgorithm.SHA256, 128, 0x01C00014),
    EkTemplate.P_384: _Facts(EccCurve.NIST_P384, HashAlgorithm.SHA384, 256, 0x01C00016),
    EkTemplate.P_521: _Facts(EccCurve.NIST_P521, HashAlgorithm.SHA512, 256, 0x01C00018),
    EkTemplate.RSA_3072: _Facts(3072, HashAlgorithm.SHA384, 256, 0x01C0001C),
    EkTemplate.RSA_4096: _Facts(4096, HashAlgorithm.SHA384, 256, 0x01C0001E),
}


def ek_branches(algorithm: HashAlgorithm) -> tuple[bytes, bytes]:
    """Return the branches of PolicyB: PolicyA; PolicyAuthorizeNV (B.6.5)."""
    return policy_a(algorithm), policy_authorize_nv(algorithm, _POLICY_NV[algorithm])


def ek_template(template: EkTemplate, *, nonce: bytes = b"", zeros: bool = False) -> bytes:
    """Return an EK's TPMT_PUBLIC for TPM2_CreatePrimary in the endorsement hierarchy.

    Args:
        template: Which.
        nonce: What the nonce index holds; the low range begins ``unique`` with it.
        zeros: Fill ``unique`` with zeros in the high range, as some makers did; the profile leaves
            it empty there and fills it in the low range.

    Raises:
        ValueError: If the nonce is longer than ``unique``.
    """
    facts = _FACTS[template]
    attributes = _LOW if template.is_low else _HIGH
    kind = KeyType.ECC if isinstance(facts.key, EccCurve) else KeyType.RSA
    head = pack(">HHI", kind, facts.hash, attributes) + _sized(template.policy)
    head += pack(">HHH", SymmetricCipher.AES, facts.aes_bits, SymmetricMode.CFB)
    head += pack(">H", TPM_ALG_NULL)
    size = facts.key.coordinate_size if isinstance(facts.key, EccCurve) else facts.key // 8
    if len(nonce) > size:
        raise ValueError(f"a nonce of {len(nonce)} bytes does not fit into {size}")
    filled = template.is_low or zeros
    unique_bytes = _sized(nonce.ljust(size, b"\x00") if filled else b"")
    if isinstance(facts.key, EccCurve):
        y = _sized(bytes(size) if filled else b"")
        return head + pack(">HH", facts.key, TPM_ALG_NULL) + unique_bytes + y
    return head + pack(">HI", facts.key, 0) + unique_bytes


def with_nonce(public: bytes, template: EkTemplate, nonce: bytes) -> bytes:
    """Put a nonce into the ``unique`` of a low-range template that was read from NV.

    Raises:
        ValueError: If the template ends otherwise than one of that kind with a full ``unique``.
    """
    facts = _FACTS[template]
    ecc = isinstance(facts.key, EccCurve)
    size = facts.key.coordinate_size if isinstance(facts.key, EccCurve) else facts.key // 8
    tail = 2 * (2 + size) if ecc else 2 + size
    at = len(public) - tail
    if at < 0 or public[at : at + 2] != pack(">H", size) or len(nonce) > size:
        raise ValueError("the template in NV has no unique of the size that its nonce wants")
    field = nonce.ljust(size, b"\x00")
    return public[: at + 2] + field + public[at + 2 + size :]


def _sized(content: bytes) -> bytes:
    return pack(">H", len(content)) + content
