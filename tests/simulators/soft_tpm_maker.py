"""A TPM maker made at test time: roots, intermediates and EK certificates, right or oddly wrong.

Encodes the DER itself, because the faults to be shown are ones that no library would write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MADE: Final = datetime(2024, 1, 1, tzinfo=UTC)
ENDS: Final = datetime(2040, 1, 1, tzinfo=UTC)
EK_USAGE: Final = "2.23.133.8.1"
KEY_ENCIPHERMENT: Final = b"\x05\x20"
KEY_AGREEMENT: Final = b"\x03\x08"
DIGITAL_SIGNATURE: Final = b"\x07\x80"
CERT_AND_CRL_SIGN: Final = b"\x01\x06"
CRL_SIGN: Final = b"\x01\x02"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size) + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = b""
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, arc & 0x7F | 0x80)
        body += bytes(groups)
    return tlv(0x06, body)


def text(value: str) -> bytes:
    return tlv(0x0C, value.encode())


def attribute(dotted: str, value: str) -> bytes:
    return sequence(oid(dotted), text(value))


def name(*common: str) -> bytes:
    return sequence(*(tlv(0x31, attribute("2.5.4.3", one)) for one in common))


def moment(value: datetime) -> bytes:
    if value.year < 2050:
        return tlv(0x17, value.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = tlv(0x01, b"\xff") if critical else b""
    return sequence(oid(dotted), flag, tlv(0x04, value))


def constraints(*, ca: bool, path_length: int | None = None) -> bytes:
    flag = tlv(0x01, b"\xff") if ca else b""
    length = b"" if path_length is None else integer(path_length)
    return extension("2.5.29.19", sequence(flag, length), critical=True)


def usage(bits: bytes) -> bytes:
    return extension("2.5.29.15", tlv(0x03, bits), critical=True)


def extended(*dotted: str) -> bytes:
    return extension("2.5.29.37", sequence(*map(oid, dotted)))


def tpm_name(manufacturer: str = "id:49465800", version: str = "id:0007003F") -> bytes:
    """subjectAltName of an Infineon part."""
    values = ((1, manufacturer), (2, "SLB 9670"), (3, version))
    sets = [tlv(0x31, attribute(f"2.23.133.2.{arc}", value)) for arc, value in values]
    return extension("2.5.29.17", sequence(tlv(0xA4, sequence(*sets))), critical=True)


def spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_spki(modulus: int, exponent: int = 65537, algorithm: str = "1.2.840.113549.1.1.1") -> bytes:
    bits = sequence(integer(modulus), integer(exponent))
    return sequence(sequence(oid(algorithm), tlv(0x05)), tlv(0x03, b"\x00", bits))


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """An RSA-2048 key, made once per number."""
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA: its name, key and certificate."""

    subject: bytes
    key: PrivateKey
    der: bytes = field(repr=False)


ECDSA_SHA256: Final = sequence(oid("1.2.840.10045.4.3.2"))
RSA_SHA256: Final = sequence(oid("1.2.840.113549.1.1.11"), tlv(0x05))
RSA_SHA1: Final = sequence(oid("1.2.840.113549.1.1.5"), tlv(0x05))


def sign(key: PrivateKey, message: bytes, hash_: hashes.HashAlgorithm) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hash_))
    return key.sign(message, padding.PKCS1v15(), hash_)


def certificate(
    *,
    issuer: bytes,
    signer: PrivateKey,
    subject: bytes,
    key_info: bytes,
    extensions: tuple[bytes, ...],
    serial: bytes = integer(77),
    not_before: datetime = MADE,
    not_after: datetime = ENDS,
    algorithm: bytes | None = None,
    outer_algorithm: bytes | None = None,
    hash_: hashes.HashAlgorithm | None = None,
    version: int = 2,
) -> bytes:
    """Encode and sign one certificate; every part can be replaced."""
    chosen = algorithm or (
        ECDSA_SHA256 if isinstance(signer, ec.EllipticCurvePrivateKey) else RSA_SHA256
    )
    tbs = sequence(
        tlv(0xA0, integer(version)),
        serial,
        chosen,
        issuer,
        sequence(moment(not_before), moment(not_after)),
        subject,
        key_info,
        tlv(0xA3, sequence(*extensions)) if extensions else b"",
    )
    signature = sign(signer, tbs, hash_ or hashes.SHA256())
    return sequence(tbs, outer_algorithm or chosen, tlv(0x03, b"\x00", signature))


def root(title: str = "Maker Root", key: PrivateKey | None = None, **changes: object) -> Authority:
    """A self-signed root."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    parts: dict[str, object] = {
        "issuer": name(title),
        "signer": key,
        "subject": name(title),
        "key_info": spki(key.public_key()),
        "extensions": (constraints(ca=True), usage(CERT_AND_CRL_SIGN)),
    }
    der = certificate(**{**parts, **changes})  # type: ignore[arg-type]
    return Authority(subject=name(title), key=key, der=der)


def below(
    above: Authority, title: str = "Maker CA 1", key: PrivateKey | None = None, **changes: object
) -> Authority:
    """An intermediate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    parts: dict[str, object] = {
        "issuer": above.subject,
        "signer": above.key,
        "subject": name(title),
        "key_info": spki(key.public_key()),
        "extensions": (constraints(ca=True), usage(CERT_AND_CRL_SIGN), extended(EK_USAGE)),
    }
    der = certificate(**{**parts, **changes})  # type: ignore[arg-type]
    return Authority(subject=name(title), key=key, der=der)


def ek_extensions(key: PublicKey | None = None, **replaced: bytes) -> tuple[bytes, ...]:
    """The extensions of an EK certificate; name one to replace it, by b"" to leave it out."""
    is_ec = isinstance(key, ec.EllipticCurvePublicKey)
    parts = {
        "constraints": constraints(ca=False),
        "usage": usage(KEY_AGREEMENT if is_ec else KEY_ENCIPHERMENT),
        "extended": extended(EK_USAGE),
        "name": tpm_name(),
        "more": b"",
        **replaced,
    }
    return tuple(part for part in parts.values() if part)


def ek(above: Authority, key: PublicKey | None = None, **changes: object) -> bytes:
    """An EK certificate, with an empty subject as TPM makers write them."""
    key = key or rsa_key().public_key()
    parts: dict[str, object] = {
        "issuer": above.subject,
        "signer": above.key,
        "subject": sequence(),
        "key_info": spki(key),
        "extensions": ek_extensions(key),
    }
    return certificate(**{**parts, **changes})  # type: ignore[arg-type]
