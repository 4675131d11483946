"""RSA keys that follow from a label: for what clouds sign, which knows no other algorithm."""

from __future__ import annotations

from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conformance.generate.device import seed

_EXPONENT: Final = 65537
_ROUNDS: Final = 24
_SMALL: Final = tuple(n for n in range(3, 2000) if all(n % d for d in range(2, int(n**0.5) + 1)))


@cache
def rsa_key(label: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A private key that follows from a label: public knowledge, good for nothing but tests."""
    half = bits // 2
    p, q = (_prime(f"rsa/{label}/{bits}/{part}", half) for part in ("p", "q"))
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
    ).private_key()


def spki(key: rsa.RSAPrivateKey) -> bytes:
    """The public half: DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _prime(label: str, bits: int) -> int:
    """The first prime from a number that the label names, its two highest bits set."""
    number = int.from_bytes(seed(label, bits // 8)) | 3 << (bits - 2) | 1
    while not _is_prime(number) or (number - 1) % _EXPONENT == 0:
        number += 2
    return number


def _is_prime(number: int) -> bool:
    """Miller and Rabin's test with fixed bases."""
    if any(number % small == 0 for small in _SMALL):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in _SMALL[:_ROUNDS]:
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = pow(power, 2, number)
            if power == number - 1:
                break
        else:
            return False
    return True
