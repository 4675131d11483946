"""Credential activation: the proof that an attestation key lives in the TPM of an endorsement key.

The verifier wraps a secret to an EK and to the *Name* of the attestation key; only the TPM that
holds both unwraps it (TPM2_ActivateCredential). TPM 2.0 Library Part 1: 24 (credential protection),
B.10 (RSA secret sharing), C.6 (ECDH secret sharing), 11.4.10 (KDFa, KDFe). Not offered by any door
yet: whoever does computes the Name from the submitted public area, never takes it from the sender.

One try: a challenge is dropped when it is answered, rightly or not, and when its time is over.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from attestation.algorithms import HashAlgorithm
from attestation.errors import IdentityMismatch, LimitExceeded, NotFresh, Unsupported
from attestation.identity import KeyName
from attestation.limits import MAX_PENDING_ACTIVATIONS
from attestation.reader import pack
from attestation.refusals import RefusalCode

SECRET_BYTES: Final = 32
"""The secret inside; at most the size of the EK's nameAlg digest (Part 2, 12.4.3)."""

ACTIVATION_TTL: Final = timedelta(minutes=5)
"""A TPM answers in seconds; the rest is for a slow line."""

_SEED_LABEL: Final = "IDENTITY"
_STRUCTURE: Final = "credential activation"
_MAX_SEED_BYTES: Final = 64
_EXTRA_SCALAR_BYTES: Final = 8
"""Beyond the order's size, so that the reduction leaves no bias (FIPS 186-5, A.2.1)."""
_MAX_SCALAR_BYTES: Final = 66 + _EXTRA_SCALAR_BYTES

ACTIVATION_ENTROPY_BYTES: Final = SECRET_BYTES + _MAX_SEED_BYTES + _MAX_SCALAR_BYTES
"""What :func:`begin_activation` takes: secret, seed, ephemeral scalar."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationChallenge:
    """One activation that was begun; the secret shows up nowhere.

    Attributes:
        subject: Who must answer, e.g. the digest of the connection's certificate.
        ek_sha256: SHA-256 of the EK's SubjectPublicKeyInfo or certificate, as the caller chose.
        ak_name: Name of the attestation key, computed from its public area.
        ends: After this moment it is spent (aware).
        credential: What to send.
    """

    subject: str
    ek_sha256: bytes
    ak_name: KeyName
    ends: datetime
    credential: Credential = field(repr=False)
    _secret: bytes = field(repr=False)

    def prove(self, answer: bytes, subject: str, at: datetime) -> None:
        """Check an answer; called once by :meth:`PendingActivations.redeem`.

        Raises:
            NotFresh: ``credential-activation-spent`` if it is too late.
            IdentityMismatch: ``credential-activation-failed`` for a wrong answer or answerer.
        """
        if at > self.ends:
            raise _spent()
        right = hmac.compare_digest(answer, self._secret)
        if not right or not hmac.compare_digest(subject.encode(), self.subject.encode()):
            raise IdentityMismatch(
                RefusalCode.CREDENTIAL_ACTIVATION_FAILED,
                "the TPM did not give back the secret: attestation key and endorsement key do not "
                "live in one TPM, or another device answered; begin again with a new challenge",
                structure=_STRUCTURE,
            )


class PendingActivations:
    """The challenges that wait for their one answer, in memory, bounded."""

    __slots__ = ("_limit", "_waiting")

    def __init__(self, limit: int = MAX_PENDING_ACTIVATIONS) -> None:
        self._limit = limit
        self._waiting: dict[str, ActivationChallenge] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, challenge: ActivationChallenge, at: datetime) -> None:
        """Remember a challenge; an older one of the same subject is dropped.

        Raises:
            LimitExceeded: ``too-many`` if the table is full of challenges in time.
        """
        self._waiting.pop(challenge.subject, None)
        if len(self._waiting) >= self._limit:
            self._waiting = {name: one for name, one in self._waiting.items() if at <= one.ends}
        if len(self._waiting) >= self._limit:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"{self._limit} credential activations wait already; try again later",
                structure=_STRUCTURE,
            )
        self._waiting[challenge.subject] = challenge

    def redeem(self, subject: str, answer: bytes, at: datetime) -> ActivationChallenge:
        """Take the subject's challenge out and check the answer: there is no second try.

        Returns:
            The challenge that was answered; its ``ek_sha256`` and ``ak_name`` are now proven to
            live in one TPM.

        Raises:
            NotFresh: ``credential-activation-spent`` if none waits, or it is too late.
            IdentityMismatch: ``credential-activation-failed``.
        """
        challenge = self._waiting.pop(subject, None)
        if challenge is None:
            raise _spent()
        challenge.prove(answer, subject, at)
        return challenge


def begin_activation(
    ek: EkKey,
    ak_name: KeyName,
    *,
    subject: str,
    ek_sha256: bytes,
    entropy: bytes,
    at: datetime,
    ttl: timedelta = ACTIVATION_TTL,
) -> ActivationChallenge:
    """Make a secret and wrap it to an EK and an attestation key's Name.

    Args:
        ek: The endorsement key of a certificate that was judged.
        ak_name: :attr:`attestation.tpm.public.TpmPublic.name`, computed there.
        subject: Who must answer.
        ek_sha256: What to remember of the EK.
        entropy: ``ACTIVATION_ENTROPY_BYTES`` fresh random bytes. (The padding of RSA-OAEP is drawn
            by the cryptographic library itself.)
        at: Now (aware).
        ttl: How long it may be answered.

    Raises:
        Unsupported: ``ek-key-not-accepted`` if there is no EK template for such a key.
        ValueError: If the entropy has another length.
    """
    if len(entropy) != ACTIVATION_ENTROPY_BYTES:
        raise ValueError(f"wanted {ACTIVATION_ENTROPY_BYTES} bytes of entropy")
    secret = entropy[:SECRET_BYTES]
    return ActivationChallenge(
        subject=subject,
        ek_sha256=ek_sha256,
        ak_name=ak_name,
        ends=at + ttl,
        credential=make_credential(ek, ak_name, secret, entropy=entropy[SECRET_BYTES:]),
        _secret=secret,
    )


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
    if len(secret) > digest.size or len(entropy) < _MAX_SEED_BYTES + _MAX_SCALAR_BYTES:
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


def _spent() -> NotFresh:
    return NotFresh(
        RefusalCode.CREDENTIAL_ACTIVATION_SPENT,
        "no credential activation waits for this answer: it was tried before, or its time is "
        "over; ask for a new challenge",
        structure=_STRUCTURE,
    )
