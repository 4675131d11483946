"""File signatures beyond ``security.ima`` version 2: appended ones (CMS) and version 3."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.simulators.soft_ima import PrivateKey, field, ng, tagged
from tests.simulators.soft_tpm_maker import integer, oid, sequence, tlv

HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
ECDSA_OIDS = {"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3"}
RSA_OID = "1.2.840.113549.1.1.1"
DATA = "1.2.840.113549.1.7.1"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
NUMBERS = {"sha256": 4, "sha384": 5, "sha512": 6}


def key_id(key: PrivateKey) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def sign(key: PrivateKey, digest: bytes, algorithm: str = "sha256") -> bytes:
    """Sign a hash, the same each time."""
    hashed = Prehashed(HASHES[algorithm])
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), hashed)
    return key.sign(digest, ec.ECDSA(hashed, deterministic_signing=True))


def issuer(common_name: str) -> bytes:
    """A name, DER."""
    pair = sequence(oid("2.5.4.3"), tlv(0x0C, common_name.encode()))
    return sequence(tlv(0x31, pair))


def attribute(name: str, *values: bytes) -> bytes:
    return sequence(oid(name), tlv(0x31, *values))


def attributes(digest: bytes) -> tuple[bytes, ...]:
    """Signed attributes for a content's digest, in DER order."""
    return (
        attribute(CONTENT_TYPE, oid(DATA)),
        attribute(MESSAGE_DIGEST, tlv(0x04, digest)),
    )


def signer_info(
    key: PrivateKey,
    digest: bytes,
    *,
    algorithm: str = "sha256",
    signed: tuple[bytes, ...] = (),
    sid: bytes | None = None,
    made_with: str = "",
) -> bytes:
    """A SignerInfo; named by subject key identifier unless ``sid`` is an issuer and serial."""
    body = b"".join(signed)
    over = hashlib.new(algorithm, tlv(0x31, body)).digest() if signed else digest
    own = RSA_OID if isinstance(key, rsa.RSAPrivateKey) else ECDSA_OIDS[algorithm]
    return sequence(
        integer(3 if sid is None else 1),
        tlv(0x80, key_id(key)) if sid is None else sid,
        sequence(oid(HASH_OIDS[algorithm])),
        tlv(0xA0, body) if signed else b"",
        sequence(oid(made_with or own)),
        tlv(0x04, sign(key, over, algorithm)),
    )


def message(*signers: bytes, between: bytes = b"", content: bytes = b"", version: int = 3) -> bytes:
    """ContentInfo with SignedData; ``between`` are certificates and revocation lists."""
    return sequence(
        oid("1.2.840.113549.1.7.2"),
        tlv(
            0xA0,
            sequence(
                integer(version),
                tlv(0x31, sequence(oid(HASH_OIDS["sha256"]))),
                sequence(oid(DATA), content),
                between,
                tlv(0x31, *signers),
            ),
        ),
    )


def modsig(key: PrivateKey, content: bytes, algorithm: str = "sha256") -> bytes:
    """What ``scripts/sign-file`` of Linux appends, without its trailer."""
    return message(signer_info(key, hashlib.new(algorithm, content).digest(), algorithm=algorithm))


def modsig_data(
    path: bytes,
    content: bytes,
    appended: bytes,
    *,
    d_modsig: bytes | None = None,
    xattr: bytes = b"",
) -> bytes:
    """Template data of ``ima-modsig``; the file's own digest is over content and signature."""
    covered = tagged(content) if d_modsig is None else d_modsig
    whole = ng(path, content + appended)
    return whole + field(xattr) + field(covered) + field(appended)


def file_id_signature(
    key: PrivateKey, digest: bytes, kind: int, *, over: bytes | None = None, version: int = 3
) -> bytes:
    """``security.ima`` version 3 over a SHA-256 digest: type 3, or 6 for fs-verity."""
    hashed = hashlib.sha256(bytes([kind, NUMBERS["sha256"]]) + digest).digest()
    made = sign(key, hashed if over is None else over)
    head = bytes([kind, version, NUMBERS["sha256"]]) + key_id(key)[-4:]
    return head + len(made).to_bytes(2, "big") + made


def verity_data(path: bytes, content: bytes, signature: bytes, kind: bytes = b"verity:") -> bytes:
    """Template data of ``ima-sigv2``; ``content`` stands for what the Merkle tree is over."""
    return field(kind + tagged(content)) + field(path + b"\0") + field(signature)
