"""File signatures as the kernel keeps them in ``security.ima`` and measures them (``ima-sig``).

The attribute is type (u8), version (u8), hash algorithm (u8, Linux ``enum hash_algo``), key id
(u32, big-endian), size (u16, big-endian) and signature (Linux ``integrity.h``,
``struct signature_v2_hdr``). Type 3, version 2 signs the file's digest: RSA PKCS#1 v1.5 or ECDSA.
The key id is the last four bytes of the key's subject key identifier.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput
from attestation.logs.ima.template import ImaFile
from attestation.reader import Reader
from attestation.refusals import RefusalCode

FileKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""A key that may sign files."""

_FILE_SIGNATURE: Final = 3
_VERSION: Final = 2
_ALGORITHMS: Final = {4: HashAlgorithm.SHA256, 5: HashAlgorithm.SHA384, 6: HashAlgorithm.SHA512}


class FileSignature(NamedTuple):
    """A signature over a file's digest.

    Attributes:
        algorithm: The digest's algorithm.
        key_id: Four bytes that name the key; a hint, never a proof.
        signature: RSA PKCS#1 v1.5, or ECDSA in DER.
    """

    algorithm: HashAlgorithm
    key_id: bytes
    signature: bytes


def is_file_signature(attribute: bytes) -> bool:
    """Whether an attribute says that it signs the file's digest; others (EVM) sign other things."""
    return attribute[:1] == bytes([_FILE_SIGNATURE])


def parse_file_signature(attribute: bytes) -> FileSignature:
    """Read a ``security.ima`` attribute of type 3.

    Raises:
        MalformedInput: ``ima-signature-invalid`` if it is another version, its digest algorithm is
            not SHA-256, SHA-384 or SHA-512, or its sizes do not fit.
    """
    try:
        reader = Reader(attribute, "security.ima")
        kind, version, algorithm = reader.u8("type"), reader.u8("version"), reader.u8("hash")
        key_id = reader.take(4, "key id")
        signature = reader.sized("signature")
        reader.end()
    except MalformedInput as error:
        raise _invalid(error.reason) from error
    if (kind, version) != (_FILE_SIGNATURE, _VERSION):
        raise _invalid(f"is type {kind} version {version}, wanted type 3 version 2")
    if algorithm not in _ALGORITHMS:
        raise _invalid(f"signs a digest of algorithm {algorithm}, wanted SHA-256, -384 or -512")
    return FileSignature(_ALGORITHMS[algorithm], key_id, signature)


def signs(key: FileKey, made: FileSignature, file: ImaFile) -> bool:
    """Whether a key made a signature over the digest that was measured."""
    if file.algorithm != made.algorithm.label or len(file.value) != made.algorithm.size:
        return False
    hashed = Prehashed(made.algorithm.for_signature())
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(made.signature, file.value, padding.PKCS1v15(), hashed)
        else:
            key.verify(made.signature, file.value, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        return False
    return True


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.IMA_SIGNATURE_INVALID, f"the signature {reason}", structure="security.ima"
    )
