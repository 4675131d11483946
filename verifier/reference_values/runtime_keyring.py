"""Whose file signatures are believed: public keys by their key id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation.errors import MalformedInput
from attestation.logs.ima.signature import FileKey, is_file_signature, parse_file_signature, signs
from attestation.logs.ima.template import ImaFile

MIN_RSA_BITS: Final = 2048
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

_MOST_REMEMBERED: Final = 65_536
_MARK: Final = "-----BEGIN "


class Signed(Enum):
    """What a file's signature is worth."""

    NOT = "not"
    """There is none that speaks of the file's content."""
    BY_KNOWN = "by-known"
    BY_UNKNOWN = "by-unknown"
    WRONGLY = "wrongly"


class Keyring:
    """Public keys that may sign files, compiled once.

    What a signature was worth is remembered by the hash of signature and digest, bounded, so that
    a file that a thousand devices run is verified once. One keyring may serve several threads: a
    lost race costs a verification.

    Args:
        keys: (key id, key); several keys may bear one id.
    """

    __slots__ = ("_by_id", "_remembered")

    def __init__(self, keys: Iterable[tuple[bytes, FileKey]] = ()) -> None:
        self._by_id: dict[bytes, list[FileKey]] = {}
        for key_id, key in keys:
            self._by_id.setdefault(key_id, []).append(key)
        self._remembered: dict[bytes, Signed] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def ids(self) -> frozenset[bytes]:
        """The key ids by which its keys are named."""
        return frozenset(self._by_id)

    def judge(self, file: ImaFile) -> Signed:
        """Verify a file's signature over its measured digest."""
        if not is_file_signature(file.signature):
            return Signed.NOT
        key = hashlib.sha256(file.signature + file.digest).digest()
        found = self._remembered.get(key)
        if found is None:
            found = self._judge(file)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _judge(self, file: ImaFile) -> Signed:
        try:
            made = parse_file_signature(file.signature)
        except MalformedInput:
            return Signed.WRONGLY
        keys = self._by_id.get(made.key_id)
        if not keys:
            return Signed.BY_UNKNOWN
        return Signed.BY_KNOWN if any(signs(key, made, file) for key in keys) else Signed.WRONGLY


def read_keys(pem: str) -> list[tuple[bytes, FileKey]]:
    """Read public keys and certificates, each with the key ids it may be named by.

    A key is named by the last four bytes of its certificate's subject key identifier, or of the
    SHA-1 of its public key bits (RFC 5280, 4.2.1.2, method 1), which is what signing tools use for
    a bare key.

    Args:
        pem: One or more ``PUBLIC KEY`` or ``CERTIFICATE`` blocks.

    Raises:
        ValueError: If a block is neither, or its key too weak.
    """
    blocks = [_MARK + block for block in pem.split(_MARK)[1:]]
    if not blocks:
        raise ValueError("no PEM block; wanted PUBLIC KEY or CERTIFICATE")
    return [named for block in blocks for named in _read(block)]


def _read(block: str) -> list[tuple[bytes, FileKey]]:
    ids: set[bytes] = set()
    try:
        if block.startswith(f"{_MARK}CERTIFICATE"):
            certificate = x509.load_pem_x509_certificate(block.encode())
            key = certificate.public_key()
            ids |= _stated(certificate)
        else:
            key = load_pem_public_key(block.encode())  # type: ignore[assignment]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a PEM block is no public key or certificate: {error}") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has {key.key_size} bits, wanted {MIN_RSA_BITS} or more")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise ValueError("a key is neither RSA nor ECDSA on P-256, P-384 or P-521")
    ids.add(x509.SubjectKeyIdentifier.from_public_key(key).digest[-4:])
    return [(key_id, key) for key_id in sorted(ids)]


def _stated(certificate: x509.Certificate) -> set[bytes]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return set()
    return {extension.value.digest[-4:]}
