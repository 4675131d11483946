"""Chains to manufacturers' anchors, judged at given moments."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import LimitExceeded, MalformedInput, UntrustedEndorsement
from attestation.refusals import RefusalCode as Code
from device_agent.ports import KeyRole
from tests.attestation.ek.test_roca import weak_prime
from tests.simulators.soft_device import SoftManufacturer
from verifier.endorsement.trust_anchors import ChainProfile, TrustAnchors

AT = datetime(2026, 5, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def leaf(maker: SoftManufacturer, role: KeyRole = KeyRole.IAK) -> bytes:
    return maker.issue(role, KEY.public_key(), "A-1")


def refusal(anchors: TrustAnchors, *chain: bytes, at: datetime = AT) -> Code:
    with pytest.raises(UntrustedEndorsement) as caught:
        anchors.validate(chain, at, ChainProfile.IAK)
    return caught.value.code


@pytest.mark.parametrize("intermediate", [False, True])
@pytest.mark.parametrize("profile", list(ChainProfile))
def test_chain_to_an_anchor_is_endorsed(profile: ChainProfile, *, intermediate: bool) -> None:
    maker = SoftManufacturer(intermediate=intermediate)
    role = KeyRole.IAK if profile is ChainProfile.IAK else KeyRole.IDEVID
    anchors = TrustAnchors.from_pem(maker.root_pem)

    endorsement = anchors.validate((leaf(maker, role), *maker.intermediates), AT, profile)

    assert endorsement.anchor_sha256 == hashlib.sha256(maker.root_der).digest()
    assert endorsement.anchor_sha256 in anchors
    assert endorsement.leaf.public_key() == KEY.public_key()


def test_endorsement_lasts_no_longer_than_its_shortest_certificate() -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    maker = SoftManufacturer(not_before=start, not_after=end)

    got = TrustAnchors.from_pem(maker.root_pem).validate((leaf(maker),), AT, ChainProfile.IAK)

    assert (got.not_before, got.not_after) == (start, end)


def test_chain_with_the_anchor_included_is_endorsed() -> None:
    maker = SoftManufacturer(intermediate=True)
    chain = (leaf(maker), *maker.intermediates, maker.root_der)

    assert TrustAnchors.from_pem(maker.root_pem).validate(chain, AT, ChainProfile.IAK)


def test_chain_of_a_foreign_maker_is_untrusted() -> None:
    anchors = TrustAnchors.from_pem(SoftManufacturer().root_pem)

    assert refusal(anchors, leaf(SoftManufacturer())) is Code.CERTIFICATE_UNTRUSTED


def test_chain_of_a_foreign_maker_is_untrusted_even_when_it_is_expired_too() -> None:
    anchors = TrustAnchors.from_pem(SoftManufacturer().root_pem)
    old = SoftManufacturer(not_after=AT - timedelta(days=1))

    assert refusal(anchors, leaf(old)) is Code.CERTIFICATE_UNTRUSTED


def test_chain_that_brings_its_own_root_is_untrusted() -> None:
    foreign = SoftManufacturer()
    anchors = TrustAnchors.from_pem(SoftManufacturer().root_pem)

    assert refusal(anchors, leaf(foreign), foreign.root_der) is Code.CERTIFICATE_UNTRUSTED


def test_chain_without_its_intermediate_is_untrusted() -> None:
    maker = SoftManufacturer(intermediate=True)

    code = refusal(TrustAnchors.from_pem(maker.root_pem), leaf(maker))

    assert code is Code.CERTIFICATE_UNTRUSTED


def test_certificate_issued_by_a_device_is_untrusted() -> None:
    """A device certificate is no authority."""
    maker = SoftManufacturer()
    device = x509.load_der_x509_certificate(leaf(maker))
    child = (
        x509.CertificateBuilder(
            subject_name=device.subject, issuer_name=device.subject, public_key=KEY.public_key()
        )
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - timedelta(days=1))
        .not_valid_after(AT + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )

    code = refusal(TrustAnchors.from_pem(maker.root_pem), child, leaf(maker))

    assert code is Code.CERTIFICATE_UNTRUSTED


def test_anchor_shown_as_a_device_is_refused() -> None:
    maker = SoftManufacturer()

    with pytest.raises(UntrustedEndorsement):
        TrustAnchors.from_pem(maker.root_pem).validate((maker.root_der,), AT, ChainProfile.IDEVID)


def test_expired_and_not_yet_valid_are_told_apart() -> None:
    maker = SoftManufacturer(
        intermediate=True,
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2027, 1, 1, tzinfo=UTC),
    )
    anchors = TrustAnchors.from_pem(maker.root_pem)
    chain = (leaf(maker), *maker.intermediates)

    after, before = datetime(2027, 1, 2, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)

    assert refusal(anchors, *chain, at=after) is Code.CERTIFICATE_EXPIRED
    assert refusal(anchors, *chain, at=before) is Code.CERTIFICATE_NOT_YET_VALID


def test_no_anchor_at_all_is_refused() -> None:
    with pytest.raises(MalformedInput):
        TrustAnchors.from_pem()


@pytest.mark.parametrize("text", [b"", b"no certificate here", b"-----BEGIN CERTIFICATE-----\n"])
def test_text_without_a_certificate_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        TrustAnchors.from_pem(text)

    assert caught.value.code is Code.CERTIFICATE_MALFORMED


@pytest.mark.parametrize("count", [0, 7])
def test_chain_of_impossible_length_is_refused(count: int) -> None:
    maker = SoftManufacturer()

    with pytest.raises(LimitExceeded):
        TrustAnchors.from_pem(maker.root_pem).validate((leaf(maker),) * count, AT, ChainProfile.IAK)


def test_anchor_given_twice_counts_once() -> None:
    maker = SoftManufacturer()

    assert len(TrustAnchors.from_pem(maker.root_pem, maker.root_pem).certificates) == 1


@pytest.mark.parametrize("role", [KeyRole.IAK, KeyRole.IDEVID])
def test_device_key_with_the_roca_fingerprint_is_too_weak(role: KeyRole) -> None:
    """N42."""
    weak = 0
    while weak.bit_length() != 2048:
        weak = weak_prime(1025) * weak_prime(1024)
    maker = SoftManufacturer()
    chain = [maker.issue(role, rsa.RSAPublicNumbers(65537, weak).public_key(), "A-1")]
    anchors = TrustAnchors.from_pem(maker.root_pem)
    profile = ChainProfile.IAK if role is KeyRole.IAK else ChainProfile.IDEVID

    with pytest.raises(UntrustedEndorsement, match="ROCA") as caught:
        anchors.validate(chain, AT, profile)

    assert caught.value.code is Code.KEY_TOO_WEAK
