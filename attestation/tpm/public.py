"""TPMT_PUBLIC: a key's public area, its Name, and what its attributes allow (Part 2, 12.2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import (
    IdentityMismatch,
    MalformedInput,
    SignatureInvalid,
    Unsupported,
)
from attestation.identity import KeyName
from attestation.limits import MAX_TPM_STRUCTURE_BYTES
from attestation.reader import Reader, Struct, pack
from attestation.refusals import RefusalCode
from attestation.tpm.constants import (
    KNOWN_ATTRIBUTE_BITS,
    TPM_ALG_NULL,
    EccCurve,
    KeyType,
    ObjectAttributes,
    SignatureScheme,
    SymmetricCipher,
    SymmetricMode,
)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""The two kinds of key that we verify with."""

SchemeChoice = tuple[SignatureScheme, HashAlgorithm] | tuple[None, None]
"""A key's own signing scheme and hash, or (None, None) for TPM_ALG_NULL: the caller chooses."""

_Known = TypeVar("_Known", bound=IntEnum)

_STRUCTURE: Final = "TPMT_PUBLIC"
_HEAD: Final = Struct(">HHI")
_MAX_POLICY_BYTES: Final = 64
_MAX_UNIQUE_BYTES: Final = 512
_RSA_BITS: Final = (2048, 3072, 4096)
_RSA_EXPONENT: Final = 65537
_AES_BITS: Final = (128, 192, 256)
_CURVES: Final[dict[EccCurve, ec.EllipticCurve]] = {
    EccCurve.NIST_P256: ec.SECP256R1(),
    EccCurve.NIST_P384: ec.SECP384R1(),
    EccCurve.NIST_P521: ec.SECP521R1(),
}

_RESIDENT: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
)
"""Made inside this TPM and never to leave it (Part 1, 25.1.3)."""
_RESIDENT_BITS: Final = int(_RESIDENT)
_RESTRICTED_SIGN: Final = int(ObjectAttributes.RESTRICTED | ObjectAttributes.SIGN)
_DECRYPT: Final = int(ObjectAttributes.DECRYPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPublic:
    """One public area; two are equal when their bytes are. Parse once, verify often.

    Attributes:
        raw: The TPMT_PUBLIC bytes that the Name is made of.
        type: RSA or ECC.
        name_alg: Hash of the Name and of policies.
        attributes: TPMA_OBJECT.
        auth_policy: Policy digest, or empty.
        scheme: The key's own (scheme, hash), or (None, None).
        name: nameAlg || H(raw) (Part 1, 16), computed.
        key: The key as cryptography verifies with it.
        spki_der: SubjectPublicKeyInfo, DER: compare it with a certificate's.
    """

    raw: bytes
    type: KeyType = field(compare=False)
    name_alg: HashAlgorithm = field(compare=False)
    attributes: ObjectAttributes = field(compare=False)
    auth_policy: bytes = field(compare=False)
    scheme: SchemeChoice = field(compare=False)
    name: KeyName = field(compare=False)
    key: PublicKey = field(compare=False, repr=False)
    spki_der: bytes = field(compare=False, repr=False)

    @property
    def is_restricted_signing(self) -> bool:
        """Whether the TPM lets this key sign nothing but what the TPM itself made."""
        # As plain numbers: asked for every quote, and flags build a new flag at each step.
        return int(self.attributes) & (_RESTRICTED_SIGN | _DECRYPT) == _RESTRICTED_SIGN


def parse_public(raw: bytes) -> TpmPublic:
    """Read a TPMT_PUBLIC holding an RSA or ECC key (TPM 2.0 Part 2, 12.2.4).

    Args:
        raw: The structure without a TPM2B size.

    Returns:
        The public area with its Name and a key ready for use.

    Raises:
        MalformedInput: If it is truncated, trailed by bytes, sets reserved attribute bits, or
            (``key-malformed``) holds no valid key: point off the curve, modulus of another size.
        LimitExceeded: If a field is larger than any real key's.
        Unsupported: For other key types, curves, key sizes, schemes, exponents or hashes.
    """
    reader = Reader(raw, _STRUCTURE, limit=MAX_TPM_STRUCTURE_BYTES)
    type_id, name_alg_id, bits = reader.unpack(_HEAD, "type, nameAlg and objectAttributes")
    key_type = _known(reader, KeyType, type_id, "type")
    name_alg = _strong_hash(reader, name_alg_id, "nameAlg")
    if bits & ~KNOWN_ATTRIBUTE_BITS:
        raise reader.wrong("objectAttributes", f"0x{bits:08x}", "no reserved bit set")
    auth_policy = reader.sized("authPolicy", limit=_MAX_POLICY_BYTES)
    if len(auth_policy) not in (0, name_alg.size):
        raise reader.wrong("authPolicy size", len(auth_policy), f"0 or {name_alg.size}")
    _read_symmetric(reader)
    scheme = _read_scheme(reader, key_type)
    key = _read_ecc_key(reader) if key_type is KeyType.ECC else _read_rsa_key(reader)
    reader.end()
    return TpmPublic(
        raw=raw,
        type=key_type,
        name_alg=name_alg,
        attributes=ObjectAttributes(bits),
        auth_policy=auth_policy,
        scheme=scheme,
        name=KeyName(pack(">H", name_alg) + name_alg.digest(raw)),
        key=key,
        spki_der=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def parse_public_any(raw: bytes) -> TpmPublic:
    """Read a TPM2B_PUBLIC or a TPMT_PUBLIC, whichever it is.

    The two cannot be confused: the first word is the length of the rest, or a key type, and no
    public area is as short as the numbers of the key types.

    Raises:
        MalformedInput: As :func:`parse_public`.
        LimitExceeded: As :func:`parse_public`.
        Unsupported: As :func:`parse_public`.
    """
    reader = Reader(raw, "TPM2B_PUBLIC")
    if reader.u16("size") == reader.remaining:
        return parse_public(reader.rest())
    return parse_public(raw)


def require_accepted_key(key: PublicKey) -> None:
    """Hold a key that came as SubjectPublicKeyInfo to the rules that TPMT_PUBLIC keys pass.

    Raises:
        Unsupported: For curves other than P-256, P-384, P-521; RSA below 2048 or above 4096 bits;
            an RSA exponent other than 65537.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        accepted = isinstance(key.curve, tuple(type(curve) for curve in _CURVES.values()))
        seen = f"curve {key.curve.name}"
    else:
        exponent = key.public_numbers().e
        accepted = _RSA_BITS[0] <= key.key_size <= _RSA_BITS[-1] and exponent == _RSA_EXPONENT
        seen = f"RSA with {key.key_size} bits and exponent {exponent}"
    if not accepted:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            f"{seen} is not supported, wanted P-256, P-384, P-521, or RSA with 2048 to 4096 bits "
            "and exponent 65537",
            structure="SubjectPublicKeyInfo",
        )


def require_attestation_key(public: TpmPublic) -> None:
    """Check that a key signs only what its TPM made, and lives only in that TPM.

    TPM 2.0 Part 1, 25.1.3 and 31.3.2: without *restricted* a holder of the key could sign a forged
    TPMS_ATTEST; without *fixedTPM* another TPM could hold it.

    Raises:
        SignatureInvalid: ``ak-not-restricted`` or ``ak-attributes-wrong``.
    """
    if not public.is_restricted_signing:
        raise SignatureInvalid(
            RefusalCode.AK_NOT_RESTRICTED,
            f"attributes are {_describe(public.attributes)}: an attestation key must be "
            "restricted, sign and not decrypt",
            structure=_STRUCTURE,
        )
    resident = int(public.attributes) & _RESIDENT_BITS == _RESIDENT_BITS
    if not resident or public.scheme[0] is None:
        raise SignatureInvalid(
            RefusalCode.AK_ATTRIBUTES_WRONG,
            f"attributes are {_describe(public.attributes)}: an attestation key must be fixedTPM, "
            "fixedParent, sensitiveDataOrigin and have a signing scheme",
            structure=_STRUCTURE,
        )


def require_device_key(public: TpmPublic) -> None:
    """Check that a key can sign freely (TLS, CSR) and lives only in its TPM: IDevID or LDevID.

    Raises:
        IdentityMismatch: ``key-attributes-wrong``.
    """
    barred = ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT
    wanted = _RESIDENT | ObjectAttributes.SIGN
    if public.attributes & (wanted | barred) != wanted:
        raise IdentityMismatch(
            RefusalCode.KEY_ATTRIBUTES_WRONG,
            f"attributes are {_describe(public.attributes)}: a device key must be fixedTPM, "
            "fixedParent, sensitiveDataOrigin, sign, not restricted and not decrypt",
            structure=_STRUCTURE,
        )


def _read_symmetric(reader: Reader) -> None:
    cipher = reader.u16("symmetric")
    if cipher == TPM_ALG_NULL:
        return
    _known(reader, SymmetricCipher, cipher, "symmetric")
    bits = reader.u16("symmetric.keyBits")
    if bits not in _AES_BITS:
        raise _unsupported(reader, f"AES with {bits} bits", "128, 192 or 256")
    _known(reader, SymmetricMode, reader.u16("symmetric.mode"), "symmetric.mode")


def _read_scheme(reader: Reader, key_type: KeyType) -> SchemeChoice:
    scheme_id = reader.u16("scheme")
    if scheme_id == TPM_ALG_NULL:
        return None, None
    scheme = _known(reader, SignatureScheme, scheme_id, "scheme")
    if scheme.key_type is not key_type:
        raise reader.wrong("scheme", scheme.name, f"a scheme of {key_type.name} keys")
    return scheme, _strong_hash(reader, reader.u16("scheme.hash"), "scheme.hash")


def _read_ecc_key(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve = _known(reader, EccCurve, reader.u16("curveID"), "curveID")
    kdf = reader.u16("kdf")
    if kdf != TPM_ALG_NULL:
        raise _unsupported(reader, f"kdf 0x{kdf:04x}", "none")
    x = reader.sized("unique.x", limit=curve.coordinate_size)
    y = reader.sized("unique.y", limit=curve.coordinate_size)
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), _CURVES[curve])
    try:
        return numbers.public_key()
    except ValueError as error:
        raise _key_malformed(reader, f"unique is not a point on {curve.name}") from error


def _read_rsa_key(reader: Reader) -> rsa.RSAPublicKey:
    bits = reader.u16("keyBits")
    if bits not in _RSA_BITS:
        raise _unsupported(reader, f"RSA with {bits} bits", "2048, 3072 or 4096")
    exponent = reader.u32("exponent")
    if exponent not in (0, _RSA_EXPONENT):
        raise _unsupported(reader, f"RSA exponent {exponent}", "65537 (or 0, which means it)")
    modulus = int.from_bytes(reader.sized("unique.rsa", limit=_MAX_UNIQUE_BYTES))
    if modulus.bit_length() != bits:
        raise _key_malformed(
            reader, f"the modulus has {modulus.bit_length()} bits, keyBits says {bits}"
        )
    try:
        return rsa.RSAPublicNumbers(_RSA_EXPONENT, modulus).public_key()
    except ValueError as error:
        raise _key_malformed(reader, "unique is not an RSA modulus") from error


def _strong_hash(reader: Reader, alg_id: int, field_name: str) -> HashAlgorithm:
    algorithm = hash_by_id(alg_id)
    if algorithm is HashAlgorithm.SHA1:
        raise _unsupported(reader, f"{field_name} SHA-1", "SHA-256, SHA-384 or SHA-512")
    return algorithm


def _known(reader: Reader, family: type[_Known], seen: int, field_name: str) -> _Known:
    try:
        return family(seen)
    except ValueError as error:
        wanted = ", ".join(f"{member.name} (0x{member:04x})" for member in family)
        raise _unsupported(reader, f"{field_name} 0x{seen:04x}", wanted) from error


def _unsupported(reader: Reader, seen: str, wanted: str) -> Unsupported:
    return Unsupported(
        RefusalCode.UNSUPPORTED_ALGORITHM,
        f"{seen} is not supported, wanted {wanted}",
        structure=reader.structure,
        offset=reader.offset,
    )


def _key_malformed(reader: Reader, reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.KEY_MALFORMED, reason, structure=reader.structure, offset=reader.offset
    )


def _describe(attributes: ObjectAttributes) -> str:
    return " ".join(str(flag.name).lower() for flag in attributes) or "none"
