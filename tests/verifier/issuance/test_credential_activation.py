"""Credential activation: derivations, one try, time, and secrets that show up nowhere."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from attestation.algorithms import HashAlgorithm
from attestation.errors import IdentityMismatch, LimitExceeded, NotFresh, Unsupported
from attestation.identity import KeyName
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_tpm_maker import rsa_key
from verifier.issuance.credential_activation import (
    ACTIVATION_ENTROPY_BYTES,
    ACTIVATION_TTL,
    ActivationChallenge,
    PendingActivations,
    begin_activation,
    kdf_a,
    kdf_e,
    make_credential,
)

AT = datetime(2026, 5, 1, tzinfo=UTC)
NAME = KeyName(b"\x00\x0b" + bytes(range(128, 160)))
ENTROPY = bytes(range(ACTIVATION_ENTROPY_BYTES))
SECRET = ENTROPY[:32]
RSA_EK = rsa_key()


def begin(subject: str = "a", ek: rsa.RSAPublicKey | None = None) -> ActivationChallenge:
    return begin_activation(
        ek or RSA_EK.public_key(),
        NAME,
        subject=subject,
        ek_sha256=b"ek",
        entropy=ENTROPY,
        at=AT,
    )


def opened(challenge: ActivationChallenge, name: bytes = NAME) -> bytes | None:
    """What an RSA TPM does with the credential (Part 3, 12.5); None for a wrong HMAC."""
    blob, sealed = challenge.credential.blob, challenge.credential.encrypted_seed
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
    challenge = begin()

    assert opened(challenge) == SECRET
    assert opened(challenge, b"\x00\x0b" + bytes(32)) is None


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
    one, two = (make_credential(ek, NAME, SECRET, entropy=ENTROPY[32:]) for _ in range(2))
    other = make_credential(ek, NAME, SECRET, entropy=bytes(138))

    assert one == two
    assert one.encrypted_seed != other.encrypted_seed


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_key_without_a_template_is_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(Unsupported) as caught:
        begin(ek=ec.generate_private_key(curve).public_key())  # type: ignore[arg-type]

    assert caught.value.code is Code.EK_KEY_NOT_ACCEPTED


def test_too_little_entropy_and_too_long_a_secret_are_faults_of_ours() -> None:
    ek = RSA_EK.public_key()
    with pytest.raises(ValueError, match="entropy"):
        begin_activation(ek, NAME, subject="a", ek_sha256=b"", entropy=bytes(9), at=AT)
    with pytest.raises(ValueError, match="too long"):
        make_credential(ek, NAME, bytes(33), entropy=ENTROPY)


# --- one try -------------------------------------------------------------------------------


def waiting(*challenges: ActivationChallenge) -> PendingActivations:
    pending = PendingActivations(limit=3)
    for challenge in challenges:
        pending.add(challenge, AT)
    return pending


def test_right_answer_is_taken_once() -> None:
    pending = waiting(begin())

    assert pending.redeem("a", SECRET, AT).ak_name == NAME
    with pytest.raises(NotFresh) as caught:
        pending.redeem("a", SECRET, AT)
    assert caught.value.code is Code.CREDENTIAL_ACTIVATION_SPENT


@pytest.mark.parametrize("answer", [b"", SECRET[:-1], SECRET + b"\0", bytes(32)])
def test_wrong_answer_spends_the_challenge(answer: bytes) -> None:
    pending = waiting(begin())

    with pytest.raises(IdentityMismatch) as caught:
        pending.redeem("a", answer, AT)
    assert caught.value.code is Code.CREDENTIAL_ACTIVATION_FAILED
    with pytest.raises(NotFresh):
        pending.redeem("a", SECRET, AT)


def test_late_answer_is_refused_and_spends_the_challenge() -> None:
    pending = waiting(begin())
    late = AT + ACTIVATION_TTL + timedelta(microseconds=1)

    with pytest.raises(NotFresh) as caught:
        pending.redeem("a", SECRET, late)
    assert caught.value.code is Code.CREDENTIAL_ACTIVATION_SPENT
    assert len(pending) == 0


def test_nobody_answers_for_another_and_nobody_spends_anothers_try() -> None:
    pending = waiting(begin("a"))

    with pytest.raises(NotFresh):
        pending.redeem("b", SECRET, AT)
    with pytest.raises(IdentityMismatch):
        begin("a").prove(SECRET, "b", AT)
    assert pending.redeem("a", SECRET, AT)


def test_new_challenge_of_a_subject_replaces_its_old_one() -> None:
    pending = waiting(begin("a"), begin("a"))

    assert len(pending) == 1


def test_table_is_bounded_and_makes_room_for_what_is_over() -> None:
    pending = waiting(begin("a"), begin("b"), begin("c"))

    with pytest.raises(LimitExceeded):
        pending.add(begin("d"), AT)
    pending.add(begin("d"), AT + ACTIVATION_TTL * 2)
    assert len(pending) == 1


def test_secret_shows_up_in_no_text() -> None:
    challenge = begin()
    with pytest.raises(IdentityMismatch) as caught:
        challenge.prove(b"guess", "a", AT)

    for shown in (repr(challenge), str(challenge), caught.value.describe(), repr(caught.value)):
        assert SECRET.hex() not in shown
        assert repr(SECRET)[2:-1] not in shown
        assert "guess" not in shown
