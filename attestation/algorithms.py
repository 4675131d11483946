"""TPM_ALG_ID numbers (TCG Algorithm Registry) tied to hashlib and cryptography; allow-lists.

Unknown numbers are refused by name, never guessed.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives import hashes

from attestation.errors import Unsupported
from attestation.refusals import RefusalCode


class HashAlgorithm(IntEnum):
    """Hash algorithms we compute, by TPM_ALG_ID (TCG Algorithm Registry 1.34, table 3)."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D

    @property
    def label(self) -> str:
        """The name used in JSON, TOML and on screens: ``sha256``."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Digest size in bytes."""
        return _SIZES[self]

    def digest(self, data: bytes) -> bytes:
        """Hash ``data``."""
        return hashlib.new(
            self.label, data, usedforsecurity=self is not HashAlgorithm.SHA1
        ).digest()

    def for_signature(self) -> hashes.HashAlgorithm:
        """Return the cryptography object for verifying a signature.

        Raises:
            Unsupported: For SHA-1: no signature over SHA-1 is believed.
        """
        if self is HashAlgorithm.SHA1:
            raise Unsupported(
                RefusalCode.UNSUPPORTED_ALGORITHM,
                "signatures over SHA-1 are not accepted; use SHA-256 or better",
            )
        return _SIGNATURE_HASHES[self]


_SHOWN_CHARS: Final = 16

_SIZES: Final = {
    HashAlgorithm.SHA1: 20,
    HashAlgorithm.SHA256: 32,
    HashAlgorithm.SHA384: 48,
    HashAlgorithm.SHA512: 64,
}
_SIGNATURE_HASHES: Final[dict[HashAlgorithm, hashes.HashAlgorithm]] = {
    HashAlgorithm.SHA256: hashes.SHA256(),
    HashAlgorithm.SHA384: hashes.SHA384(),
    HashAlgorithm.SHA512: hashes.SHA512(),
}

DIGEST_SIZES: Final = {
    0x0004: 20,
    0x000B: 32,
    0x000C: 48,
    0x000D: 64,
    0x0012: 32,  # SM3-256
    0x0027: 32,  # SHA3-256
    0x0028: 48,  # SHA3-384
    0x0029: 64,  # SHA3-512
}
"""Digest sizes of every hash a log may name, also of those we do not compute."""


def hash_by_id(alg_id: int) -> HashAlgorithm:
    """Return the hash algorithm for a TPM_ALG_ID.

    Raises:
        Unsupported: If it is not one we compute.
    """
    try:
        return HashAlgorithm(alg_id)
    except ValueError as error:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM, f"hash algorithm 0x{alg_id:04x} is not supported"
        ) from error


def hash_by_label(label: str) -> HashAlgorithm:
    """Return the hash algorithm for a label such as ``sha256``.

    Raises:
        Unsupported: If it is not one we compute.
    """
    for algorithm in HashAlgorithm:
        if algorithm.label == label:
            return algorithm
    raise Unsupported(
        RefusalCode.UNSUPPORTED_ALGORITHM,
        f"hash algorithm {label[:32]!r} is not one of "
        + ", ".join(algorithm.label for algorithm in HashAlgorithm),
    )


def short_digest(digest: bytes) -> str:
    """Return the beginning of a digest for people: 16 hexadecimal letters and an ellipsis."""
    return digest.hex()[:_SHOWN_CHARS] + "…"
