"""The ROCA fingerprint of an RSA modulus (CVE-2017-15361).

Nemec, Sys, Svenda, Klinec, Matyas: "The Return of Coppersmith's Attack: Practical Factorization of
Widely Used RSA Moduli", ACM CCS 2017, sections 2.1 and 2.3. The weak library makes primes of the
form ``k * M + (65537 ** a mod M)`` where M is the product of the first primes, so the modulus is a
power of 65537 in every field of those primes. For keys of 1984 bits and more M holds at least the
first 126 primes (2 to 701).
"""

from __future__ import annotations

from typing import Final

GENERATOR: Final = 65537
PRIMES: Final = tuple(
    number for number in range(2, 702) if all(number % other for other in range(2, number))
)
"""The first 126 primes."""

MIN_BITS: Final = 1984
"""Below this the library used fewer primes; such keys are refused for their size anyway."""


def _powers(prime: int) -> frozenset[int]:
    """Return the subgroup of the prime's field that 65537 generates."""
    found = {1 % prime}
    value = GENERATOR % prime
    while value not in found:
        found.add(value)
        value = value * GENERATOR % prime
    return frozenset(found)


_SUBGROUPS: Final = tuple((prime, _powers(prime)) for prime in PRIMES)


def has_roca_fingerprint(modulus: int) -> bool:
    """Return whether an RSA modulus carries the mark of the weak generator.

    Args:
        modulus: Of at least ``MIN_BITS`` bits. A random one passes with a chance far below
            2 ** -64, see the test; a weak one always does.
    """
    return modulus.bit_length() >= MIN_BITS and all(
        modulus % prime in powers for prime, powers in _SUBGROUPS
    )
