"""Wrapping a secret as TPM2_MakeCredential does: derivations, keys, entropy."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from attestation.algorithms import HashAlgorithm
from attestation.errors import Unsupported
from attestation.identity import KeyName
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_tpm_maker import rsa_key
from verifier.issuance.credential_activation import (
    WRAPPING_ENTROPY_BYTES,
    Credential,
    kdf_a,
    kdf_e,
    make_credential,
)

NAME = KeyName(b"\x00\x0b" + bytes(range(128, 160)))
ENTROPY = bytes(range(WRAPPING_ENTROPY_BYTES))
SECRET = bytes(range(32))
RSA_EK = rsa_key()


def opened(credential: Credential, name: bytes = NAME) -> bytes | None:
    """What an RSA TPM does with the credential (Part 3, 12.5); None for a wrong HMAC."""
    blob, sealed = credential.blob, credential.encrypted_seed
    mac, identity = blob[4:36], blob[36:]
    assert blob[:2] == (len(blob) - 2).to_bytes(2)
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
    seed = RSA_EK.decrypt(sealed[2:], scheme)
    digest = HashAlgorithm.SHA256
    mac_key = kdf_a(digest, seed, "INTEGRITY", b"", b"", 256)
    if hmac.digest(mac_key, identity + name, "sha256") != mac:
        return None
    key = kdf_a(digest, seed, "STORAGE", name, b"", 128)
    decryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
    return (decryptor.update(identity) + decryptor.finalize())[2:]


def test_tpm_with_both_keys_gets_the_secret_and_one_with_another_does_not() -> None:
    credential = make_credential(RSA_EK.public_key(), NAME, SECRET, entropy=ENTROPY)

    assert opened(credential) == SECRET
    assert opened(credential, b"\x00\x0b" + bytes(32)) is None


def test_kdfa_is_the_counter_mode_of_sp_800_108() -> None:
    block = hmac.digest(b"k", b"\0\0\0\1" + b"L\0" + b"u" + b"v" + b"\0\0\1\x80", "sha256")
    more = hmac.digest(b"k", b"\0\0\0\2" + b"L\0" + b"u" + b"v" + b"\0\0\1\x80", "sha256")

    assert kdf_a(HashAlgorithm.SHA256, b"k", "L", b"u", b"v", 384) == (block + more)[:48]


def test_kdfe_is_the_concatenation_of_sp_800_56a() -> None:
    block = hashlib.sha256(b"\0\0\0\1" + b"z" + b"L\0" + b"u" + b"v").digest()
    more = hashlib.sha256(b"\0\0\0\2" + b"z" + b"L\0" + b"u" + b"v").digest()

    assert kdf_e(HashAlgorithm.SHA256, b"z", "L", b"u", b"v", 384) == (block + more)[:48]


def test_ephemeral_key_comes_from_the_entropy() -> None:
    ek = ec.generate_private_key(ec.SECP384R1()).public_key()
    one, two = (make_credential(ek, NAME, SECRET, entropy=ENTROPY) for _ in range(2))
    other = make_credential(ek, NAME, SECRET, entropy=bytes(138))

    assert one == two
    assert one.encrypted_seed != other.encrypted_seed


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_key_without_a_template_is_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(Unsupported) as caught:
        make_credential(ec.generate_private_key(curve).public_key(), NAME, SECRET, entropy=ENTROPY)

    assert caught.value.code is Code.EK_KEY_NOT_ACCEPTED


def test_too_little_entropy_and_too_long_a_secret_are_faults_of_ours() -> None:
    ek = RSA_EK.public_key()
    with pytest.raises(ValueError, match="entropy"):
        make_credential(ek, NAME, SECRET, entropy=ENTROPY[:-1])
    with pytest.raises(ValueError, match="too long"):
        make_credential(ek, NAME, bytes(33), entropy=ENTROPY)
