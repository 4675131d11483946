"""TPM structures packed by hand, so that tests share no code with the readers they test."""

from __future__ import annotations

import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

REAL = Path(__file__).parents[2] / "data"
BUNDLES = REAL / "immune-gmbh_guard-oss" / "bundle"
QUOTE_SET = REAL / "keylime_keylime" / "quote-set"
WINDOWS = REAL / "google_go-attestation"
ATTESTZ = REAL / "openconfig_attestz"

P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)

IAK_BITS = 0x000500F2
IDEVID_BITS = 0x000400F2
HASHES = {0x0B: hashes.SHA256(), 0x0C: hashes.SHA384(), 0x0D: hashes.SHA512()}
CURVE_IDS = {"secp256r1": 3, "secp384r1": 4, "secp521r1": 5}


def sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def selection(bank: int, bitmap: bytes) -> bytes:
    return struct.pack(">HB", bank, len(bitmap)) + bitmap


def attest(
    *,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    signer: bytes = b"\x00\x0b" + bytes(32),
    extra: bytes = b"qualifying",
    safe: int = 1,
    body: bytes | None = None,
) -> bytes:
    head = struct.pack(">IH", magic, kind) + sized(signer) + sized(extra)
    clock = struct.pack(">QIIBQ", 123_456, 7, 3, safe, 0x0001000200030004)
    return head + clock + (quoted(selection(0x0B, b"\x81\x00\x80")) if body is None else body)


def quoted(*selections: bytes, digest: bytes = bytes(32), count: int | None = None) -> bytes:
    number = len(selections) if count is None else count
    return struct.pack(">I", number) + b"".join(selections) + sized(digest)


def certified(name: bytes, qualified_name: bytes = b"\x00\x0b" + bytes(32)) -> bytes:
    return sized(name) + sized(qualified_name)


def ecc_public(
    key: ec.EllipticCurvePrivateKey = P256,
    *,
    bits: int = IAK_BITS,
    name_alg: int = 0x0B,
    policy: bytes = b"",
    symmetric: bytes = b"\x00\x10",
    scheme: bytes = b"\x00\x18\x00\x0b",
    curve: int | None = None,
    kdf: bytes = b"\x00\x10",
    point: tuple[bytes, bytes] | None = None,
) -> bytes:
    numbers = key.public_key().public_numbers()
    size = (key.key_size + 7) // 8
    x, y = point or (numbers.x.to_bytes(size), numbers.y.to_bytes(size))
    curve_id = CURVE_IDS[key.curve.name] if curve is None else curve
    head = struct.pack(">HHI", 0x23, name_alg, bits) + sized(policy) + symmetric + scheme
    return head + struct.pack(">H", curve_id) + kdf + sized(x) + sized(y)


def rsa_public(
    key: rsa.RSAPrivateKey = RSA,
    *,
    bits: int = IAK_BITS,
    scheme: bytes = b"\x00\x14\x00\x0b",
    key_bits: int = 2048,
    exponent: int = 0,
    modulus: bytes | None = None,
) -> bytes:
    n = key.public_key().public_numbers().n.to_bytes(256) if modulus is None else modulus
    head = struct.pack(">HHI", 0x01, 0x0B, bits) + sized(b"") + b"\x00\x10" + scheme
    return head + struct.pack(">HI", key_bits, exponent) + sized(n)


def ecdsa(key: ec.EllipticCurvePrivateKey, message: bytes, hash_id: int = 0x0B) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(HASHES[hash_id])))
    size = (key.key_size + 7) // 8
    return struct.pack(">HH", 0x18, hash_id) + sized(r.to_bytes(size)) + sized(s.to_bytes(size))


def rsassa(key: rsa.RSAPrivateKey, message: bytes, hash_id: int = 0x0B) -> bytes:
    value = key.sign(message, padding.PKCS1v15(), HASHES[hash_id])
    return struct.pack(">HH", 0x14, hash_id) + sized(value)


def rsapss(
    key: rsa.RSAPrivateKey, message: bytes, hash_id: int = 0x0B, salt: int | None = None
) -> bytes:
    digest = HASHES[hash_id]
    length = digest.digest_size if salt is None else salt
    value = key.sign(message, padding.PSS(padding.MGF1(digest), length), digest)
    return struct.pack(">HH", 0x16, hash_id) + sized(value)
