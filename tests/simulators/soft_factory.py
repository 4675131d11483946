"""Manufacture requests made in software, and a device that answers challenges with its EK."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from attestation.tpm.csr_idevid import TcgCsrIdevidContent, build, build_content
from attestation.wire.manufacture_codec import (
    ActivationAnswerFile,
    decode_challenge,
    encode_answer,
)
from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker
from tests.simulators.soft_device import SoftTpm


@dataclass
class SoftUnit:
    """A device on the line: its keys in software, an RSA-2048 EK with a maker's certificate.

    Attributes:
        serial: What it says it is.
        tpm: Its IDevID and IAK.
        maker: Whose certificate its EK has.
        ek: The endorsement key.
    """

    serial: str
    maker: soft_tpm_maker.Authority
    tpm: SoftTpm = field(default_factory=SoftTpm)
    ek: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    with_ek: bool = True

    def request(self, *, entropy: bytes = bytes(16), **changes: bytes) -> bytes:
        """Return a TCG-CSR-IDEVID; other entropy or content makes another of the same device."""
        certify = self.tpm.certify(KeyRole.IDEVID, b"")
        ek = soft_tpm_maker.ek(self.maker, self.ek.public_key()) if self.with_ek else b""
        content = TcgCsrIdevidContent(
            **{  # type: ignore[arg-type]
                "hash": self.tpm.keys[KeyRole.IDEVID].name_alg,
                "product_model": b"Edge Box",
                "product_serial": self.serial.encode(),
                "ek_certificate": ek,
                "iak_public": self.tpm.public_area(KeyRole.IAK),
                "idevid_public": self.tpm.public_area(KeyRole.IDEVID),
                "idevid_certify": certify.attest,
                "idevid_certify_signature": certify.signature,
            }
            | changes
        )
        raw = build_content(content, entropy=entropy)
        return build(raw, self.tpm.keys[KeyRole.IDEVID].sign(raw))

    def answer(self, challenge: bytes) -> bytes:
        """Unwrap the challenge as TPM2_ActivateCredential does (Part 1, 24; B.10.4)."""
        given = decode_challenge(challenge)
        sha256 = hashes.SHA256()
        oaep = padding.OAEP(padding.MGF1(sha256), sha256, b"IDENTITY\x00")
        seed = self.ek.decrypt(given.encrypted_secret[2:], oaep)
        name = self.tpm.keys[KeyRole.IAK].name
        blob = given.credential_blob[2:]
        size = struct.unpack(">H", blob[:2])[0]
        mac, identity = blob[2 : 2 + size], blob[2 + size :]
        integrity = _kdf_a(seed, b"INTEGRITY", b"", 32)
        if hmac.digest(integrity, identity + name, "sha256") != mac:
            raise ValueError("TPM_RC_INTEGRITY")
        cipher = Cipher(algorithms.AES(_kdf_a(seed, b"STORAGE", name, 16)), CFB(bytes(16)))
        plain = cipher.decryptor().update(identity)
        return encode_answer(
            ActivationAnswerFile(request_sha256=given.request_sha256, secret=plain[2:])
        )


def wrong_answer(request: bytes) -> bytes:
    """Return an answer of a device that does not know."""
    digest = hashlib.sha256(request).digest()
    return encode_answer(ActivationAnswerFile(request_sha256=digest, secret=bytes(32)))


def _kdf_a(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    derivation = KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return derivation.derive(key)
