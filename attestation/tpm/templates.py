"""Public templates, policies and places of a device's keys.

IDevID and IAK follow TCG "TPM 2.0 Keys for Device Identity and Attestation" 1.10 (templates H-1,
H-2, H-3, section 7.3); their policies are computed here by the formulas of TPM 2.0 Part 3, 23, so
that a device can also satisfy one branch. Nothing here touches a TPM.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum, unique
from typing import Final

from attestation.algorithms import HashAlgorithm
from attestation.reader import pack
from attestation.tpm.constants import (
    TPM_ALG_NULL,
    TPM_RH_ENDORSEMENT,
    CommandCode,
    EccCurve,
    KeyType,
    ObjectAttributes,
    SignatureScheme,
    SymmetricCipher,
    SymmetricMode,
)

IDEVID_HANDLE: Final = 0x81020000
"""IDevID key (TCG TPM 2.0 Provisioning Guidance, 7.8)."""

IAK_HANDLE: Final = 0x81020001
"""IAK: next in the same range, which is otherwise the vendor's choice."""

SRK_HANDLE: Final = 0x81000001
"""Storage root key (TCG TPM 2.0 Provisioning Guidance, 7.5.1)."""

LDEVID_HANDLE: Final = 0x81000010
"""LDevID: in the owner's range, clear of the SRK."""

IDEVID_CERTIFICATE_NV: Final = 0x01C90000
"""NV index of the IDevID certificate (TCG Registry of Reserved TPM 2.0 Handles)."""

IAK_CERTIFICATE_NV: Final = 0x01C90001
"""NV index of the IAK certificate."""

IDEVID_UNIQUE: Final = b"IDEVID"
IAK_UNIQUE: Final = b"IAK"

CERTIFY_BRANCH: Final = 1
"""Position of the PolicyOR branch that allows TPM2_Certify of the key."""

_NV_POLICY_ATTRIBUTES: Final = 0x220F1008
"""TPMA_NV of the policy indices that PolicyAuthorizeNV names (EK Credential Profile 2.5, B.6)."""

_IDEVID_POLICY_NV: Final = {
    HashAlgorithm.SHA256: 0x01C90010,
    HashAlgorithm.SHA384: 0x01C90011,
    HashAlgorithm.SHA512: 0x01C90012,
}
_IAK_POLICY_NV: Final = {
    HashAlgorithm.SHA256: 0x01C90018,
    HashAlgorithm.SHA384: 0x01C90019,
    HashAlgorithm.SHA512: 0x01C9001A,
}

_IDEVID_ATTRIBUTES: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.ADMIN_WITH_POLICY
    | ObjectAttributes.SIGN
)
_IAK_ATTRIBUTES: Final = _IDEVID_ATTRIBUTES | ObjectAttributes.RESTRICTED
_LDEVID_ATTRIBUTES: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.NO_DA
    | ObjectAttributes.SIGN
)
_SRK_ATTRIBUTES: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.NO_DA
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.DECRYPT
)


@unique
class KeyTemplate(StrEnum):
    """TCG template names of the device keys that we make."""

    RSA_2048 = "H-1"
    P_256 = "H-2"
    P_384 = "H-3"

    @property
    def hash(self) -> HashAlgorithm:
        """The template's nameAlg, policy hash and scheme hash."""
        return HashAlgorithm.SHA384 if self is KeyTemplate.P_384 else HashAlgorithm.SHA256


def policy_a(algorithm: HashAlgorithm) -> bytes:
    """Return PolicySecret(TPM_RH_ENDORSEMENT) with an empty policyRef.

    TPM 2.0 Part 3, 23.4: H(H(0…0 || TPM_CC_PolicySecret || entity) || policyRef). "PolicyA" of the
    EK Credential Profile 2.5, B.6.2.
    """
    command = pack(">II", CommandCode.POLICY_SECRET, TPM_RH_ENDORSEMENT)
    return algorithm.digest(algorithm.digest(bytes(algorithm.size) + command))


def policy_command_code(algorithm: HashAlgorithm, policy: bytes, command: CommandCode) -> bytes:
    """Return ``policy`` extended by PolicyCommandCode (TPM 2.0 Part 3, 23.11)."""
    return algorithm.digest(policy + pack(">II", CommandCode.POLICY_COMMAND_CODE, command))


def policy_authorize_nv(algorithm: HashAlgorithm, index: int) -> bytes:
    """Return PolicyAuthorizeNV over a policy index as the TCG profiles define it.

    TPM 2.0 Part 3, 23.22; the index holds ``u16 algorithm || digest``, is written, and is owned by
    PolicyA (EK Credential Profile 2.5, B.6.4).

    Args:
        algorithm: Hash of the policy and of the index's Name.
        index: NV index handle.
    """
    authority = policy_a(algorithm)
    nv_public = pack(">IHIH", index, algorithm, _NV_POLICY_ATTRIBUTES, len(authority))
    nv_public += authority + pack(">H", 2 + algorithm.size)
    name = pack(">H", algorithm) + algorithm.digest(nv_public)
    command = pack(">I", CommandCode.POLICY_AUTHORIZE_NV)
    return algorithm.digest(bytes(algorithm.size) + command + name)


def policy_or(algorithm: HashAlgorithm, branches: Sequence[bytes]) -> bytes:
    """Return PolicyOR over branch digests in order (TPM 2.0 Part 3, 23.6)."""
    command = pack(">I", CommandCode.POLICY_OR)
    return algorithm.digest(bytes(algorithm.size) + command + b"".join(branches))


def idevid_branches(algorithm: HashAlgorithm) -> tuple[bytes, ...]:
    """Return the IDevID's PolicyOR branches, in the order TPM2_PolicyOR needs.

    PolicyA; PolicyA and Certify (:data:`CERTIFY_BRANCH`); PolicyA and ActivateCredential;
    PolicyAuthorizeNV.
    """
    return _branches(algorithm, _IDEVID_POLICY_NV[algorithm])


def iak_branches(algorithm: HashAlgorithm) -> tuple[bytes, ...]:
    """Return the IAK's PolicyOR branches; the order is that of :func:`idevid_branches`."""
    return _branches(algorithm, _IAK_POLICY_NV[algorithm])


def idevid_template(template: KeyTemplate, unique_label: bytes = IDEVID_UNIQUE) -> bytes:
    """Return the IDevID's TPMT_PUBLIC for TPM2_CreatePrimary in the endorsement hierarchy.

    Args:
        template: H-1, H-2 or H-3.
        unique_label: Contents of ``unique``; some manufacturers chose others, and another label
            makes another key.
    """
    scheme = SignatureScheme.ECDSA if template is not KeyTemplate.RSA_2048 else None
    policy = policy_or(template.hash, idevid_branches(template.hash))
    return _device_key(template, _IDEVID_ATTRIBUTES, policy, scheme, unique_label)


def is_idevid_policy(auth_policy: bytes) -> bool:
    """Say whether a key's policy is that of the TCG's IDevID templates: no other key has it."""
    return any(
        auth_policy == policy_or(algorithm, idevid_branches(algorithm))
        for algorithm in _IDEVID_POLICY_NV
    )


def iak_template(template: KeyTemplate, unique_label: bytes = IAK_UNIQUE) -> bytes:
    """Return the IAK's TPMT_PUBLIC for TPM2_CreatePrimary in the endorsement hierarchy.

    Args:
        template: H-1 (RSAPSS), H-2 or H-3 (ECDSA).
        unique_label: As for :func:`idevid_template`.
    """
    ecc = template is not KeyTemplate.RSA_2048
    scheme = SignatureScheme.ECDSA if ecc else SignatureScheme.RSAPSS
    policy = policy_or(template.hash, iak_branches(template.hash))
    return _device_key(template, _IAK_ATTRIBUTES, policy, scheme, unique_label)


def ldevid_template() -> bytes:
    """Return the LDevID's TPMT_PUBLIC for TPM2_Create under the SRK.

    P-256, not restricted, scheme NULL so that TLS may use any hash; certified with its own
    (empty) authorisation, since adminWithPolicy is clear.
    """
    head = _head(KeyType.ECC, HashAlgorithm.SHA256, _LDEVID_ATTRIBUTES, b"")
    return (
        head
        + pack(">H", TPM_ALG_NULL)
        + _ecc_tail(EccCurve.NIST_P256, b"", None, HashAlgorithm.SHA256)
    )


def srk_template() -> bytes:
    """Return the storage root key's TPMT_PUBLIC: P-256, restricted decrypt, AES-128-CFB, noDA.

    TCG TPM 2.0 Provisioning Guidance, 7.5.1, with ``unique`` empty.
    """
    head = _head(KeyType.ECC, HashAlgorithm.SHA256, _SRK_ATTRIBUTES, b"")
    symmetric = pack(">HHH", SymmetricCipher.AES, 128, SymmetricMode.CFB)
    return head + symmetric + _ecc_tail(EccCurve.NIST_P256, b"", None, HashAlgorithm.SHA256)


def _branches(algorithm: HashAlgorithm, policy_nv: int) -> tuple[bytes, ...]:
    authority = policy_a(algorithm)
    return (
        authority,
        policy_command_code(algorithm, authority, CommandCode.CERTIFY),
        policy_command_code(algorithm, authority, CommandCode.ACTIVATE_CREDENTIAL),
        policy_authorize_nv(algorithm, policy_nv),
    )


def _device_key(
    template: KeyTemplate,
    attributes: ObjectAttributes,
    policy: bytes,
    scheme: SignatureScheme | None,
    unique_label: bytes,
) -> bytes:
    no_symmetric = pack(">H", TPM_ALG_NULL)
    if template is KeyTemplate.RSA_2048:
        head = _head(KeyType.RSA, template.hash, attributes, policy)
        tail = _scheme(scheme, template.hash) + pack(">HI", 2048, 0) + _sized(unique_label)
        return head + no_symmetric + tail
    curve = EccCurve.NIST_P384 if template is KeyTemplate.P_384 else EccCurve.NIST_P256
    head = _head(KeyType.ECC, template.hash, attributes, policy)
    return head + no_symmetric + _ecc_tail(curve, unique_label, scheme, template.hash)


def _head(
    key_type: KeyType, algorithm: HashAlgorithm, attributes: ObjectAttributes, policy: bytes
) -> bytes:
    return pack(">HHI", key_type, algorithm, attributes) + _sized(policy)


def _ecc_tail(
    curve: EccCurve,
    unique_label: bytes,
    scheme: SignatureScheme | None,
    algorithm: HashAlgorithm,
) -> bytes:
    point = _sized(unique_label) + _sized(unique_label)
    return _scheme(scheme, algorithm) + pack(">HH", curve, TPM_ALG_NULL) + point


def _scheme(scheme: SignatureScheme | None, algorithm: HashAlgorithm) -> bytes:
    if scheme is None:
        return pack(">H", TPM_ALG_NULL)
    return pack(">HH", scheme, algorithm)


def _sized(content: bytes) -> bytes:
    return pack(">H", len(content)) + content
