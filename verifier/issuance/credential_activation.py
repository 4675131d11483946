"""Credential activation: the proof that an attestation key lives in the TPM of an endorsement key.

The verifier wraps a secret to an EK and to the *Name* of the attestation key; only the TPM that
holds both unwraps it (TPM2_ActivateCredential). TPM 2.0 Library Part 1: 24 (credential protection),
B.10 (RSA secret sharing), C.6 (ECDH secret sharing), 11.4.10 (KDFa, KDFe). Whoever wraps computes
the Name from the submitted public area and never takes it from the sender. At enrolment:
:mod:`verifier.issuance.activation`; on a manufacturer's line: :mod:`verifier.services.manufacture`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from attestation.algorithms import HashAlgorithm
from attestation.errors import Unsupported
from attestation.identity import KeyName
from attestation.reader import pack
from attestation.refusals import RefusalCode

SECRET_BYTES: Final = 32
"""The secret inside; at most the size of the EK's nameAlg digest (Part 2, 12.4.3)."""

_SEED_LABEL: Final = "IDENTITY"
_STRUCTURE: Final = "credential activation"
_MAX_SEED_BYTES: Final = 64
_EXTRA_SCALAR_BYTES: Final = 8
"""Beyond the order's size, so that the reduction leaves no bias (FIPS 186-5, A.2.1)."""
_MAX_SCALAR_BYTES: Final = 66 + _EXTRA_SCALAR_BYTES

WRAPPING_ENTROPY_BYTES: Final = _MAX_SEED_BYTES + _MAX_SCALAR_BYTES
"""What :func:`make_credential` takes: seed, ephemeral scalar."""

ACTIVATION_ENTROPY_BYTES: Final = SECRET_BYTES + WRAPPING_ENTROPY_BYTES
"""The same after a secret that is drawn too."""

EkKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EkTemplate:
    """What the TCG's EK templates fix beside the key (EK Credential Profile 2.5, B.3 and B.4).

    Attributes:
        name_alg: nameAlg of the EK: hash of the key derivations and of the HMAC.
        aes_bits: Key size of its symmetric parameters, AES-CFB.
    """

    name_alg: HashAlgorithm
    aes_bits: int


_SMALL: Final = EkTemplate(name_alg=HashAlgorithm.SHA256, aes_bits=128)
_LARGE: Final = EkTemplate(name_alg=HashAlgorithm.SHA384, aes_bits=256)
_TEMPLATES: Final = {
    "RSA-2048": _SMALL,
    "RSA-3072": _LARGE,
    "RSA-4096": _LARGE,
    "secp256r1": _SMALL,
    "secp384r1": _LARGE,
    "secp521r1": EkTemplate(name_alg=HashAlgorithm.SHA512, aes_bits=256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the TPM is given.

    Attributes:
        blob: TPM2B_ID_OBJECT: HMAC and encrypted secret.
        encrypted_seed: TPM2B_ENCRYPTED_SECRET.
    """

    blob: bytes
    encrypted_seed: bytes


def make_credential(ek: EkKey, ak_name: KeyName, secret: bytes, *, entropy: bytes) -> Credential:
    """Wrap a secret as TPM2_MakeCredential does (Part 1, 24.4 and 24.5).

    Args:
        ek: RSA-2048, -3072, -4096, P-256, P-384 or P-521; parameters as in the TCG's template.
        ak_name: Name of the object that must be loaded beside the EK.
        secret: At most the size of the template's digest.
        entropy: Seed (64 bytes), then ephemeral scalar (74 bytes); random.

    Raises:
        Unsupported: ``ek-key-not-accepted``.
        ValueError: If the secret is too long or the entropy too short.
    """
    template = _template(ek)
    digest = template.name_alg
    if len(secret) > digest.size or len(entropy) < WRAPPING_ENTROPY_BYTES:
        raise ValueError("the secret is too long for this key, or the entropy too short")
    if isinstance(ek, rsa.RSAPublicKey):
        seed = entropy[: digest.size]
        encrypted = _oaep(ek, digest, seed)
    else:
        seed, encrypted = _ecdh(ek, digest, entropy[_MAX_SEED_BYTES:])
    cipher_key = kdf_a(digest, seed, "STORAGE", ak_name, b"", template.aes_bits)
    # Zero IV as the standard wants it: the key is used once.
    encryptor = Cipher(algorithms.AES(cipher_key), CFB(bytes(16))).encryptor()
    identity = encryptor.update(pack(">H", len(secret)) + secret) + encryptor.finalize()
    mac_key = kdf_a(digest, seed, "INTEGRITY", b"", b"", 8 * digest.size)
    mac = hmac.digest(mac_key, identity + ak_name, digest.label)
    return Credential(
        blob=_sized(_sized(mac) + identity),
        encrypted_seed=_sized(encrypted),
    )


def kdf_a(digest: HashAlgorithm, key: bytes, label: str, u: bytes, v: bytes, bits: int) -> bytes:
    """Derive bits by KDFa (Part 1, 11.4.10.2; SP 800-108 counter mode with HMAC).

    Args:
        digest: Of the HMAC.
        key: HMAC key.
        label: ASCII; a zero octet is added.
        u: contextU.
        v: contextV.
        bits: How many; a multiple of 8.
    """
    fixed = label.encode() + b"\x00" + u + v + pack(">I", bits)
    made = b""
    counter = 0
    while 8 * len(made) < bits:
        counter += 1
        made += hmac.digest(key, pack(">I", counter) + fixed, digest.label)
    return made[: bits // 8]


def kdf_e(digest: HashAlgorithm, z: bytes, label: str, u: bytes, v: bytes, bits: int) -> bytes:
    """Derive bits by KDFe (Part 1, 11.4.10.3; SP 800-56A concatenation).

    Args:
        digest: The hash.
        z: The shared x coordinate, as long as the curve's field.
        label: ASCII; a zero octet is added.
        u: PartyUInfo, x of the ephemeral key.
        v: PartyVInfo, x of the static key.
        bits: How many; a multiple of 8.
    """
    fixed = z + label.encode() + b"\x00" + u + v
    made = b""
    counter = 0
    while 8 * len(made) < bits:
        counter += 1
        made += hashlib.new(digest.label, pack(">I", counter) + fixed).digest()
    return made[: bits // 8]


def _oaep(ek: rsa.RSAPublicKey, digest: HashAlgorithm, seed: bytes) -> bytes:
    """Encrypt the seed (Part 1, B.4 and B.10.4): the label ends with a zero octet."""
    chosen: hashes.HashAlgorithm = digest.for_signature()
    scheme = padding.OAEP(
        mgf=padding.MGF1(chosen), algorithm=chosen, label=_SEED_LABEL.encode() + b"\x00"
    )
    return ek.encrypt(seed, scheme)


def _ecdh(
    ek: ec.EllipticCurvePublicKey, digest: HashAlgorithm, entropy: bytes
) -> tuple[bytes, bytes]:
    """Agree on a seed with an ephemeral key (Part 1, C.6.1 and C.6.4); return it and the point."""
    size = (ek.curve.key_size + 7) // 8
    order = ek.curve.group_order
    scalar = int.from_bytes(entropy[: size + _EXTRA_SCALAR_BYTES]) % (order - 1) + 1
    ephemeral = ec.derive_private_key(scalar, ek.curve)
    shared = ephemeral.exchange(ec.ECDH(), ek)
    mine, theirs = ephemeral.public_key().public_numbers(), ek.public_numbers()
    x, y = mine.x.to_bytes(size), mine.y.to_bytes(size)
    seed = kdf_e(digest, shared, _SEED_LABEL, x, theirs.x.to_bytes(size), 8 * digest.size)
    return seed, _sized(x) + _sized(y)


def _template(ek: EkKey) -> EkTemplate:
    label = f"RSA-{ek.key_size}" if isinstance(ek, rsa.RSAPublicKey) else ek.curve.name
    found = _TEMPLATES.get(label)
    if found is None:
        raise Unsupported(
            RefusalCode.EK_KEY_NOT_ACCEPTED,
            f"there is no EK template for a key {label}; wanted one of {', '.join(_TEMPLATES)}",
            structure=_STRUCTURE,
        )
    return found


def _sized(value: bytes) -> bytes:
    return pack(">H", len(value)) + value
