"""An endorsement key in software (P-256, template L-2), as far as enrolment needs one."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from attestation.algorithms import HashAlgorithm
from attestation.tpm.ek_templates import EkTemplate, ek_template
from tests.simulators import soft_tpm_maker
from verifier.issuance.credential_activation import Credential, kdf_a, kdf_e

_SHA256 = HashAlgorithm.SHA256
_COORDINATE = 32
WRONG = b"TPM_RC_INTEGRITY"


def activate(ek: ec.EllipticCurvePrivateKey, name: bytes, credential: Credential) -> bytes:
    """TPM2_ActivateCredential in software (TPM 2.0 Part 1, 24.4 and C.6.4); ``WRONG`` if it fails.

    ``name`` is that of the attestation key that is loaded beside the endorsement key.
    """
    point = credential.encrypted_seed[2:]
    x, y = point[2 : 2 + _COORDINATE], point[4 + _COORDINATE : 4 + 2 * _COORDINATE]
    theirs = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
    shared = ek.exchange(ec.ECDH(), theirs.public_key())
    mine = ek.public_key().public_numbers().x.to_bytes(_COORDINATE)
    seed = kdf_e(_SHA256, shared, "IDENTITY", x, mine, 256)
    mac, identity = credential.blob[4:36], credential.blob[36:]
    mac_key = kdf_a(_SHA256, seed, "INTEGRITY", b"", b"", 256)
    if not hmac.compare_digest(mac, hmac.digest(mac_key, identity + name, "sha256")):
        return WRONG
    key = kdf_a(_SHA256, seed, "STORAGE", name, b"", 128)
    decryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
    return (decryptor.update(identity) + decryptor.finalize())[2:]


@dataclass
class SoftEk:
    """An endorsement key and the certificates that its maker left beside it."""

    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    chain: tuple[bytes, ...] = ()

    @classmethod
    def made_by(cls, above: soft_tpm_maker.Authority, **changes: object) -> SoftEk:
        """One with a certificate by that authority; ``changes`` as in ``soft_tpm_maker.ek``."""
        made = cls()
        made.chain = (soft_tpm_maker.ek(above, made.private.public_key(), **changes),)
        return made

    @property
    def public_area(self) -> bytes:
        """TPMT_PUBLIC."""
        numbers = self.private.public_key().public_numbers()
        head = ek_template(EkTemplate.P_256_LOW)[: -2 * (2 + _COORDINATE)]
        size = struct.pack(">H", _COORDINATE)
        return (
            head + size + numbers.x.to_bytes(_COORDINATE) + size + numbers.y.to_bytes(_COORDINATE)
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of its SubjectPublicKeyInfo."""
        return hashlib.sha256(soft_tpm_maker.spki(self.private.public_key())).digest()

    def activate(self, name: bytes, credential: Credential) -> bytes:
        """Unwrap, with the attestation key of this Name loaded."""
        return activate(self.private, name, credential)
