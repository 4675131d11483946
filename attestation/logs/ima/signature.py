"""File signatures as the kernel keeps them in ``security.ima`` and measures them (field ``sig``).

The attribute is type (u8), version (u8), hash algorithm (u8, Linux ``enum hash_algo``), key id
(u32, big-endian), size (u16, big-endian) and signature (Linux ``security/integrity/integrity.h``,
``struct signature_v2_hdr``): RSA PKCS#1 v1.5 or ECDSA. The key id is the last four bytes of the
key's subject key identifier.

==== ======= ==================================================================================
type version signs
==== ======= ==================================================================================
3    2       the file's digest itself
3    3       the hash of ``ima_file_id`` with the file's digest (Linux 7.1)
6    3       the hash of ``ima_file_id`` with the file's fs-verity digest (Linux 5.19)
==== ======= ==================================================================================

``struct ima_file_id`` is the attribute's type (u8), the hash algorithm (u8) and the digest without
padding; it is hashed with the digest's own algorithm (``calc_file_id_hash`` in
``ima_appraise.c``, from 7.1 in ``digsig_asymmetric.c``). It tells a file's hash from an fs-verity
digest, so each type counts for its own kind of digest only. Version 3 with ML-DSA keys is not
read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from attestation.algorithms import HashAlgorithm
from attestation.errors import MalformedInput, SignatureInvalid
from attestation.logs.ima.template import ImaFile
from attestation.reader import Reader, pack
from attestation.refusals import RefusalCode

FileKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""A key that may sign files."""

_REGULAR: Final = 3
_VERITY: Final = 6
_PLAIN: Final = 2
_FILE_ID: Final = 3
_FORMS: Final = ((_REGULAR, _PLAIN), (_REGULAR, _FILE_ID), (_VERITY, _FILE_ID))
_NUMBERS: Final = {HashAlgorithm.SHA256: 4, HashAlgorithm.SHA384: 5, HashAlgorithm.SHA512: 6}
_ALGORITHMS: Final = {number: algorithm for algorithm, number in _NUMBERS.items()}


class FileSignature(NamedTuple):
    """A signature over a file's digest.

    Attributes:
        algorithm: The digest's algorithm.
        key_id: Four bytes that name the key; a hint, never a proof.
        signature: RSA PKCS#1 v1.5, or ECDSA in DER.
        kind: Type of the attribute: 3 for a file's hash, 6 for an fs-verity digest.
        version: 2 signs the digest itself, 3 the hash of ``ima_file_id``.
    """

    algorithm: HashAlgorithm
    key_id: bytes
    signature: bytes
    kind: int = _REGULAR
    version: int = _PLAIN


def is_file_signature(attribute: bytes) -> bool:
    """Whether an attribute says that it signs a file's content; others (EVM) sign other things."""
    return attribute[:1] in (bytes([_REGULAR]), bytes([_VERITY]))


def parse_file_signature(attribute: bytes) -> FileSignature:
    """Read a ``security.ima`` attribute of type 3 or 6.

    Raises:
        MalformedInput: ``ima-signature-invalid`` if it is another type or version, its digest
            algorithm is not SHA-256, SHA-384 or SHA-512, or its sizes do not fit.
    """
    try:
        reader = Reader(attribute, "security.ima")
        kind, version, algorithm = reader.u8("type"), reader.u8("version"), reader.u8("hash")
        key_id = reader.take(4, "key id")
        signature = reader.sized("signature")
        reader.end()
    except MalformedInput as error:
        raise _malformed(error.reason) from error
    if (kind, version) not in _FORMS:
        raise _malformed(
            f"is type {kind} version {version}, wanted type 3 version 2 or 3, or type 6 version 3"
        )
    if algorithm not in _ALGORITHMS:
        raise _malformed(f"signs a digest of algorithm {algorithm}, wanted SHA-256, -384 or -512")
    return FileSignature(_ALGORITHMS[algorithm], key_id, signature, kind, version)


def signed_digest(made: FileSignature, file: ImaFile) -> bytes:
    """Return the hash that a file's signature must be over, with ``made.algorithm``.

    Raises:
        SignatureInvalid: ``ima-signature-invalid`` if what was measured is a digest of another
            kind, algorithm or length than the signature is for.
    """
    label = made.algorithm.label
    wanted = label if made.kind == _REGULAR else f"verity:{label}"
    if file.algorithm != wanted or len(file.value) != made.algorithm.size:
        raise SignatureInvalid(
            RefusalCode.IMA_SIGNATURE_INVALID,
            f"the signature is over a {wanted} digest, another kind was measured",
            structure="security.ima",
        )
    if made.version == _PLAIN:
        return file.value
    return made.algorithm.digest(pack("BB", made.kind, _NUMBERS[made.algorithm]) + file.value)


def verifies(key: FileKey, signature: bytes, digest: bytes, algorithm: HashAlgorithm) -> bool:
    """Whether a key made a signature over a hash.

    Args:
        key: The public key.
        signature: RSA PKCS#1 v1.5, or ECDSA in DER.
        digest: The hash.
        algorithm: What it was made with; SHA-1 is never believed.

    Raises:
        Unsupported: For SHA-1.
    """
    hashed = Prehashed(algorithm.for_signature())
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), hashed)
        else:
            key.verify(signature, digest, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        return False
    return True


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.IMA_SIGNATURE_INVALID, f"the signature {reason}", structure="security.ima"
    )
