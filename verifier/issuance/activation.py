"""Activations that are in nobody's memory until they are answered, whichever replica began them.

An activation is ``u64 microseconds || 16 random bytes || SHA-256 of the EK's SubjectPublicKeyInfo
|| SHA-256 of the subject || Name of the attestation key || HMAC-SHA256(key, domain || all of
that)``. The secret that is wrapped to the TPM is an HMAC over the activation with the same key, so
that whoever has the key knows it, and nobody else. A stranger can ask for as many as the door lets
pass and occupies nothing.

That each has one try (N12) is for whoever calls :meth:`ActivationAuthority.open`: it says what to
remember, and until when.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from attestation.errors import IdentityMismatch, NotFresh
from attestation.identity import KeyName
from attestation.reader import pack
from attestation.refusals import RefusalCode
from verifier.appraisal.freshness import MIN_KEY_BYTES, REPLICA_SKEW, issued_at, microseconds
from verifier.issuance.credential_activation import (
    WRAPPING_ENTROPY_BYTES,
    Credential,
    EkKey,
    make_credential,
)

ACTIVATION_TTL: Final = timedelta(minutes=5)
"""A TPM answers in seconds; the rest is for a slow line."""

_RANDOM_BYTES: Final = 16
BEGIN_ENTROPY_BYTES: Final = _RANDOM_BYTES + WRAPPING_ENTROPY_BYTES
"""What :meth:`ActivationAuthority.begin` takes."""

_DOMAIN: Final = b"device-attestation/activation/v1\x00"
_SECRET_DOMAIN: Final = b"device-attestation/activation-secret/v1\x00"
_STRUCTURE: Final = "credential activation"
_DIGEST: Final = 32
_MICROSECOND: Final = timedelta(microseconds=1)
_HEAD: Final = 8 + _RANDOM_BYTES
_NAMES: Final = frozenset({2 + 32, 2 + 48, 2 + 64})
"""Lengths of a Name: nameAlg and digest."""


class Begun(NamedTuple):
    """An activation, and what the TPM is given with it."""

    activation: bytes
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation of ours that is in time; nothing is proven yet.

    Attributes:
        ek_sha256: SHA-256 of the SubjectPublicKeyInfo that the secret was wrapped to.
        subject_sha256: SHA-256 of who must answer.
        ak_name: Name of the attestation key that it was wrapped to.
        ends_at: After this moment it is over (aware).
        sha256: What to remember of it, so that it is tried once.
    """

    ek_sha256: bytes
    subject_sha256: bytes
    ak_name: KeyName
    ends_at: datetime
    sha256: bytes
    _secret: bytes = field(repr=False)

    def require_of(self, *, ek_sha256: bytes, ak_name: KeyName, subject: str) -> None:
        """Check that it was begun for these keys and this connection.

        Raises:
            IdentityMismatch: ``ek-mismatch``, ``ak-not-resident``.
            NotFresh: ``credential-activation-spent``: none waits for this subject.
        """
        if not hmac.compare_digest(self.ek_sha256, ek_sha256):
            raise IdentityMismatch(
                RefusalCode.EK_MISMATCH,
                "the activation was begun for another endorsement key than the request names",
                structure=_STRUCTURE,
            )
        if not hmac.compare_digest(self.ak_name, ak_name):
            raise IdentityMismatch(
                RefusalCode.AK_NOT_RESIDENT,
                "the attestation key of the request is not the one that was activated beside the "
                "endorsement key",
                structure=_STRUCTURE,
            )
        if not hmac.compare_digest(self.subject_sha256, _subject(subject)):
            raise _spent()

    def prove(self, answer: bytes) -> KeyName:
        """Return the Name of the attestation key, now proven to live beside the EK.

        Raises:
            IdentityMismatch: ``credential-activation-failed``.
        """
        if not hmac.compare_digest(answer, self._secret):
            raise IdentityMismatch(
                RefusalCode.CREDENTIAL_ACTIVATION_FAILED,
                "the TPM did not give back the secret: attestation key and endorsement key do not "
                "live in one TPM; begin again with a new challenge",
                structure=_STRUCTURE,
            )
        return self.ak_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAuthority:
    """Makes and opens activations.

    Attributes:
        keys: HMAC keys shared by all replicas, newest first; the first begins, all are accepted.
        ttl: How long an activation may be answered.

    Raises:
        ValueError: If there is no key, or one is below 32 bytes.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    ttl: timedelta = ACTIVATION_TTL

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) < MIN_KEY_BYTES for key in self.keys):
            raise ValueError(f"at least one key of {MIN_KEY_BYTES} bytes is needed")

    def begin(
        self,
        ek: EkKey,
        *,
        ek_sha256: bytes,
        ak_name: KeyName,
        subject: str,
        at: datetime,
        entropy: bytes,
    ) -> Begun:
        """Wrap a secret to an EK and an attestation key's Name.

        Args:
            ek: An endorsement key that somebody vouches for.
            ek_sha256: SHA-256 of its SubjectPublicKeyInfo.
            ak_name: :attr:`attestation.tpm.public.TpmPublic.name`, computed here from the
                submitted public area, never taken from the sender.
            subject: Who must answer.
            at: Now (aware).
            entropy: ``BEGIN_ENTROPY_BYTES`` fresh random bytes. (The padding of RSA-OAEP is
                drawn by the cryptographic library itself.)

        Raises:
            Unsupported: ``ek-key-not-accepted`` if there is no EK template for such a key.
            ValueError: If the entropy has another length.
        """
        if len(entropy) != BEGIN_ENTROPY_BYTES:
            raise ValueError(f"wanted {BEGIN_ENTROPY_BYTES} bytes of entropy")
        random, wrapping = entropy[:_RANDOM_BYTES], entropy[_RANDOM_BYTES:]
        head = pack(">Q", microseconds(at)) + random + ek_sha256 + _subject(subject) + ak_name
        key = self.keys[0]
        activation = head + hmac.digest(key, _DOMAIN + head, "sha256")
        secret = _secret(key, activation)
        credential = make_credential(ek, ak_name, secret, entropy=wrapping)
        return Begun(activation=activation, credential=credential)

    def open(self, activation: bytes, at: datetime) -> Activation:
        """Prove that an activation is ours and in time.

        Raises:
            NotFresh: ``credential-activation-spent``.
        """
        key = self._key_of(activation)
        age = microseconds(at) - int.from_bytes(activation[:8])
        if not -(REPLICA_SKEW // _MICROSECOND) <= age <= self.ttl // _MICROSECOND:
            raise _spent()
        place = _HEAD + 2 * _DIGEST
        return Activation(
            ek_sha256=activation[_HEAD : _HEAD + _DIGEST],
            subject_sha256=activation[_HEAD + _DIGEST : place],
            ak_name=KeyName(activation[place:-_DIGEST]),
            ends_at=issued_at(activation) + self.ttl,
            sha256=hashlib.sha256(activation).digest(),
            _secret=_secret(key, activation),
        )

    def _key_of(self, activation: bytes) -> bytes:
        """Return the key that an activation was made with."""
        if len(activation) - _HEAD - 3 * _DIGEST not in _NAMES:
            raise _spent()
        head, tag = activation[:-_DIGEST], activation[-_DIGEST:]
        # Every key is tried, whichever matches, so that timing tells nothing about key age.
        fitting = [
            key
            for key in self.keys
            if hmac.compare_digest(tag, hmac.digest(key, _DOMAIN + head, "sha256"))
        ]
        if not fitting:
            raise _spent()
        return fitting[0]


def _subject(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()


def _secret(key: bytes, activation: bytes) -> bytes:
    return hmac.digest(key, _SECRET_DOMAIN + activation, "sha256")


def _spent() -> NotFresh:
    return NotFresh(
        RefusalCode.CREDENTIAL_ACTIVATION_SPENT,
        "no credential activation waits for this answer: it was tried before, its time is over, or "
        "it was begun for another connection; ask for a new challenge",
        structure=_STRUCTURE,
    )
