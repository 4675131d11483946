"""Activations that nobody remembers: what binds them, their time, and a secret seen nowhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import AttestationError, IdentityMismatch, NotFresh, Unsupported
from attestation.identity import KeyName
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_endorsement import activate
from verifier.issuance.activation import (
    ACTIVATION_TTL,
    BEGIN_ENTROPY_BYTES,
    Activation,
    ActivationAuthority,
    Begun,
)

AT = datetime(2026, 5, 1, tzinfo=UTC)
NAME = KeyName(b"\x00\x0b" + bytes(range(128, 160)))
OTHER_NAME = KeyName(b"\x00\x0b" + bytes(32))
EK = ec.generate_private_key(ec.SECP256R1())
EK_SHA256 = bytes(range(32))
OLD, NEW = b"o" * 32, b"n" * 32
AUTHORITY = ActivationAuthority(keys=(NEW, OLD))
ENTROPY = bytes(range(BEGIN_ENTROPY_BYTES))


def begin(authority: ActivationAuthority = AUTHORITY, entropy: bytes = ENTROPY) -> Begun:
    return authority.begin(
        EK.public_key(),
        ek_sha256=EK_SHA256,
        ak_name=NAME,
        subject="a",
        at=AT,
        entropy=entropy,
    )


def of(opened: Activation, **changes: object) -> None:
    asked = {"ek_sha256": EK_SHA256, "ak_name": NAME, "subject": "a", **changes}
    opened.require_of(**asked)  # type: ignore[arg-type]


def refused(code: Code, kind: type[AttestationError], **changes: object) -> None:
    with pytest.raises(kind) as caught:
        of(AUTHORITY.open(begin().activation, AT), **changes)
    assert caught.value.code is code


def test_tpm_with_both_keys_gives_back_what_the_authority_wants() -> None:
    begun = begin()
    opened = AUTHORITY.open(begun.activation, AT)
    of(opened)

    assert opened.prove(activate(EK, NAME, begun.credential)) == NAME
    assert opened.ends_at == AT + ACTIVATION_TTL


def test_other_keys_and_another_connection_are_told_apart() -> None:
    refused(Code.EK_MISMATCH, IdentityMismatch, ek_sha256=bytes(32))
    refused(Code.AK_NOT_RESIDENT, IdentityMismatch, ak_name=OTHER_NAME)
    refused(Code.CREDENTIAL_ACTIVATION_SPENT, NotFresh, subject="b")


def test_two_activations_have_two_secrets_and_two_marks() -> None:
    one, two = begin(), begin(entropy=b"\xff" + ENTROPY[1:])
    answer = activate(EK, NAME, one.credential)

    assert AUTHORITY.open(one.activation, AT).sha256 != AUTHORITY.open(two.activation, AT).sha256
    with pytest.raises(IdentityMismatch) as caught:
        AUTHORITY.open(two.activation, AT).prove(answer)
    assert caught.value.code is Code.CREDENTIAL_ACTIVATION_FAILED


@pytest.mark.parametrize("answer", [b"", bytes(31), bytes(32), bytes(33)])
def test_guess_fails(answer: bytes) -> None:
    with pytest.raises(IdentityMismatch):
        AUTHORITY.open(begin().activation, AT).prove(answer)


def test_every_changed_byte_is_seen() -> None:
    activation = begin().activation

    for place in range(len(activation)):
        changed = bytearray(activation)
        changed[place] ^= 1
        with pytest.raises(NotFresh) as caught:
            AUTHORITY.open(bytes(changed), AT)
        assert caught.value.code is Code.CREDENTIAL_ACTIVATION_SPENT


@pytest.mark.parametrize("activation", [b"", b"x", bytes(120), begin().activation + b"\0"])
def test_something_else_is_no_activation(activation: bytes) -> None:
    with pytest.raises(NotFresh):
        AUTHORITY.open(activation, AT)


@pytest.mark.parametrize("late", [ACTIVATION_TTL + timedelta(seconds=1), timedelta(seconds=-6)])
def test_activation_out_of_its_time_is_spent(late: timedelta) -> None:
    with pytest.raises(NotFresh):
        AUTHORITY.open(begin().activation, AT + late)


@pytest.mark.parametrize("fine", [ACTIVATION_TTL, timedelta(seconds=-5)])
def test_activation_is_taken_to_the_end_and_from_a_replica_that_goes_ahead(fine: timedelta) -> None:
    assert AUTHORITY.open(begin().activation, AT + fine)


def test_activation_outlives_a_key_rotation_and_no_foreign_key_makes_one() -> None:
    begun = begin(ActivationAuthority(keys=(OLD,)))

    opened = AUTHORITY.open(begun.activation, AT)
    assert opened.prove(activate(EK, NAME, begun.credential)) == NAME
    with pytest.raises(NotFresh):
        AUTHORITY.open(begin(ActivationAuthority(keys=(b"f" * 32,))).activation, AT)


def test_secret_shows_up_in_no_text() -> None:
    begun = begin()
    opened = AUTHORITY.open(begun.activation, AT)
    secret = activate(EK, NAME, begun.credential)
    with pytest.raises(IdentityMismatch) as caught:
        opened.prove(b"guess")

    for shown in (repr(opened), repr(AUTHORITY), caught.value.describe(), repr(caught.value)):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
        assert repr(NEW)[2:-1] not in shown
        assert "guess" not in shown


def test_weak_keys_and_too_little_entropy_are_faults_of_ours() -> None:
    for keys in ((), (bytes(31),)):
        with pytest.raises(ValueError, match="key"):
            ActivationAuthority(keys=keys)
    with pytest.raises(ValueError, match="entropy"):
        begin(entropy=ENTROPY[1:])


def test_key_without_a_template_is_refused() -> None:
    with pytest.raises(Unsupported):
        AUTHORITY.begin(
            ec.generate_private_key(ec.SECP256K1()).public_key(),
            ek_sha256=EK_SHA256,
            ak_name=NAME,
            subject="a",
            at=AT,
            entropy=ENTROPY,
        )
