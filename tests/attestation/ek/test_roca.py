"""The ROCA fingerprint, on moduli made as the weak library made them, and on sound ones."""

from __future__ import annotations

import math
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.ek import roca
from attestation.ek.roca import GENERATOR, PRIMES, has_roca_fingerprint

M = math.prod(PRIMES)


def weak_prime(bits: int) -> int:
    """k * M + (65537 ** a mod M), as in the paper's section 2.1; odd, not tested for primality."""
    residue = pow(GENERATOR, secrets.randbelow(1 << 64), M)
    low, high = (1 << bits - 1) // M + 1, ((1 << bits) - 1) // M
    return (low + secrets.randbelow(max(high - low, 1))) * M + residue


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_modulus_of_the_weak_generator_is_recognised(bits: int) -> None:
    for _ in range(5):
        assert has_roca_fingerprint(weak_prime(bits // 2) * weak_prime(bits // 2))


def test_modulus_of_a_sound_generator_is_not() -> None:
    key = rsa.generate_private_key(65537, 2048)

    assert not has_roca_fingerprint(key.public_key().public_numbers().n)


def test_one_weak_prime_is_not_the_fingerprint() -> None:
    key = rsa.generate_private_key(65537, 2048).private_numbers()

    assert not has_roca_fingerprint(weak_prime(1025) * key.p)


def test_chance_of_accusing_a_sound_key_is_below_one_in_2_to_the_64() -> None:
    chance = sum(math.log2(len(powers) / (prime - 1)) for prime, powers in roca._SUBGROUPS[1:])

    assert (len(PRIMES), PRIMES[-1]) == (126, 701)
    assert chance < -64


def test_smaller_keys_are_not_asked_about() -> None:
    assert not has_roca_fingerprint(1)
