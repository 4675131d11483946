"""The bare crypto that nothing can undercut, and a whole quote verification against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.algorithms import HashAlgorithm
from attestation.pcr import PcrSelection
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public
from attestation.tpm.signature import verify_attest
from bench.measure import MICROSECONDS, Bench, Line, compare, seconds_per_call
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm

SELECTION = (PcrSelection(bank=HashAlgorithm.SHA256, indices=tuple(range(10))),)


def bare_verify_and_sign() -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the two calls of the floor: one ECDSA P-256 verification, one signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, scheme = key.public_key(), ec.ECDSA(hashes.SHA256())
    message = bytes(145)  # as long as a TPMS_ATTEST over one bank
    signature = key.sign(message, scheme)
    return (lambda: public.verify(signature, message, scheme)), (lambda: key.sign(message, scheme))


def floor() -> Iterator[Line]:
    """Time the floor: ECDSA P-256 verify and sign, and the two together."""
    verify, sign = bare_verify_and_sign()
    verify_us = seconds_per_call(verify) * MICROSECONDS
    sign_us = seconds_per_call(sign) * MICROSECONDS
    yield Line(name="ecdsa_p256_verify_us", value=verify_us, unit="µs")
    yield Line(name="ecdsa_p256_sign_us", value=sign_us, unit="µs")
    yield Line(name="crypto_floor_us", value=verify_us + sign_us, unit="µs")


def quote_verify() -> Iterator[Line]:
    """Time parsing and verifying one quote over ten PCRs, the key parsed beforehand."""
    tpm = SoftTpm()
    public = parse_public(tpm.public_area(KeyRole.IAK))
    quote = tpm.quote(SELECTION, bytes(32))

    def whole() -> object:
        verify_attest(public, quote.attest, quote.signature)
        return parse_attest(quote.attest)

    verify, _ = bare_verify_and_sign()
    seconds, _, ratio = compare(whole, verify)
    yield Line(
        name="quote_verify_us",
        value=seconds * MICROSECONDS,
        unit="µs",
        vs="ecdsa_p256_verify_us",
        ratio=ratio,
    )


BENCHES = (
    Bench(names=("ecdsa_p256_verify_us", "ecdsa_p256_sign_us", "crypto_floor_us"), run=floor),
    Bench(names=("quote_verify_us",), run=quote_verify),
)
