"""Numbers of the TPM 2.0 Library specification that we read or write, by their standard's names."""

from __future__ import annotations

from enum import IntEnum, IntFlag, unique
from typing import Final

TPM_GENERATED: Final = 0xFF544347
"""TPM_GENERATED_VALUE: first field of everything a TPM attests (Part 2, 6.2)."""

TPM_ST_ATTEST_CERTIFY: Final = 0x8017
"""Structure tag of a TPM2_Certify attestation (Part 2, 6.9)."""

TPM_ST_ATTEST_QUOTE: Final = 0x8018
"""Structure tag of a TPM2_Quote attestation (Part 2, 6.9)."""

TPM_RH_ENDORSEMENT: Final = 0x4000000B
"""Handle of the endorsement hierarchy (Part 2, 7.4)."""

TPM_ALG_NULL: Final = 0x0010
"""The "no algorithm" selector of every optional scheme."""


@unique
class KeyType(IntEnum):
    """TPMI_ALG_PUBLIC values that we take (Part 2, 12.2.2)."""

    RSA = 0x0001
    ECC = 0x0023


@unique
class SignatureScheme(IntEnum):
    """TPMI_ALG_SIG_SCHEME values that we take (Part 2, 11.2.1.5)."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018

    @property
    def key_type(self) -> KeyType:
        """The type of key that makes such signatures."""
        return KeyType.ECC if self is SignatureScheme.ECDSA else KeyType.RSA


@unique
class SymmetricCipher(IntEnum):
    """TPMI_ALG_SYM_OBJECT values that we take: what a storage key protects children with."""

    AES = 0x0006


@unique
class SymmetricMode(IntEnum):
    """TPMI_ALG_SYM_MODE values that we take; a storage key must use CFB (Part 2, 11.1.9)."""

    CFB = 0x0043


@unique
class EccCurve(IntEnum):
    """TPM_ECC_CURVE values that we take (TCG Algorithm Registry, 6.3)."""

    NIST_P256 = 0x0003
    NIST_P384 = 0x0004
    NIST_P521 = 0x0005

    @property
    def coordinate_size(self) -> int:
        """Bytes in one affine coordinate."""
        return _COORDINATE_SIZES[self]


_COORDINATE_SIZES: Final = {
    EccCurve.NIST_P256: 32,
    EccCurve.NIST_P384: 48,
    EccCurve.NIST_P521: 66,
}


@unique
class CommandCode(IntEnum):
    """TPM_CC values that take part in policy digests (Part 2, 6.5.2)."""

    ACTIVATE_CREDENTIAL = 0x00000147
    CERTIFY = 0x00000148
    POLICY_SECRET = 0x00000151
    POLICY_COMMAND_CODE = 0x0000016C
    POLICY_OR = 0x00000171
    POLICY_AUTHORIZE_NV = 0x00000192


class ObjectAttributes(IntFlag):
    """TPMA_OBJECT bits (Part 2, 8.3); every other bit is reserved and must be clear."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


KNOWN_ATTRIBUTE_BITS: Final = int(
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.ST_CLEAR
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.ADMIN_WITH_POLICY
    | ObjectAttributes.FIRMWARE_LIMITED
    | ObjectAttributes.SVN_LIMITED
    | ObjectAttributes.NO_DA
    | ObjectAttributes.ENCRYPTED_DUPLICATION
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.DECRYPT
    | ObjectAttributes.SIGN
    | ObjectAttributes.X509_SIGN
)
"""Mask of the TPMA_OBJECT bits that have a meaning."""
