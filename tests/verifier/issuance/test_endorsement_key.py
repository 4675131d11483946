"""Who vouches for an endorsement key, and whose fault is told where a list vouches too."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from attestation.errors import AttestationError, InputError
from attestation.identity import KeyName
from attestation.refusals import RefusalCode as Code
from attestation.tpm.ek_templates import EkTemplate, ek_template
from tests.attestation.ek.test_roca import weak_prime
from tests.simulators import soft_tpm_maker
from tests.simulators.soft_endorsement import SoftEk
from tests.simulators.soft_tpm_maker import ENDS, MADE
from verifier.endorsement.ek import EkRules
from verifier.endorsement.vendor_roots import PemFile, VendorRoots
from verifier.issuance.endorsement_key import (
    JudgedEk,
    ek_device_id,
    ek_subject,
    judge_endorsement_key,
)
from verifier.issuance.initial_trust import TrustName
from verifier.issuance.profiles import NO_EXPIRY
from verifier.issuance.trust_sources import TrustSources

AT = datetime(2026, 5, 1, tzinfo=UTC)
MAKER = soft_tpm_maker.root()
BETWEEN = soft_tpm_maker.below(MAKER)
ROOTS = VendorRoots.from_operator([PemFile(origin="maker", content=MAKER.der)])
BOTH = frozenset({TrustName.TPM_EK, TrustName.EK_ALLOW_LIST})
ENDED = datetime(2025, 1, 1, tzinfo=UTC)


def judge(
    ek: SoftEk,
    wanted: frozenset[TrustName] = BOTH,
    *,
    listed: bool = False,
    roots: VendorRoots | None = ROOTS,
    rules: EkRules | None = None,
) -> JudgedEk:
    return judge_endorsement_key(
        ek.public_area,
        ek.chain,
        wanted=wanted,
        sources=TrustSources(
            ek_roots=roots,
            ek_rules=rules or EkRules(),
            listed_eks=frozenset({ek.digest}) if listed else frozenset(),
        ),
        at=AT,
    )


def refused(code: Code, ek: SoftEk, wanted: frozenset[TrustName] = BOTH, **changes: object) -> None:
    with pytest.raises(AttestationError) as caught:
        judge(ek, wanted, **changes)  # type: ignore[arg-type]
    assert caught.value.code is code


def test_makers_certificate_vouches_and_its_root_is_the_anchor() -> None:
    ek = SoftEk.made_by(BETWEEN)
    ek.chain = (*ek.chain, BETWEEN.der)

    judged = judge(ek)

    assert judged.held == {TrustName.TPM_EK}
    assert judged.anchor_sha256 == ROOTS.roots[0].sha256
    assert (judged.endorsed_from, judged.endorsed_until) == (MADE, ENDS)
    assert (judged.sha256, judged.refusal) == (ek.digest, None)
    assert judged.device == ek_device_id(ek.digest) == f"ek-{ek.digest.hex()[:32]}"


def test_list_vouches_for_a_key_without_a_certificate_for_good() -> None:
    judged = judge(SoftEk(), listed=True)

    assert judged.held == {TrustName.EK_ALLOW_LIST}
    assert judged.anchor_sha256 == judged.sha256
    assert judged.endorsed_until == NO_EXPIRY


def test_both_may_vouch_and_then_the_makers_root_is_the_anchor() -> None:
    judged = judge(SoftEk.made_by(MAKER), listed=True)

    assert judged.held == BOTH
    assert judged.anchor_sha256 == ROOTS.roots[0].sha256


def test_fault_of_a_listed_keys_certificate_is_kept_and_that_of_another_is_raised() -> None:
    listed = judge(SoftEk.made_by(MAKER, not_after=ENDED), listed=True)
    assert listed.refusal is not None
    assert listed.refusal.code is Code.CERTIFICATE_EXPIRED
    assert listed.held == {TrustName.EK_ALLOW_LIST}
    refused(Code.CERTIFICATE_EXPIRED, SoftEk.made_by(MAKER, not_after=ENDED))


def test_expired_certificate_that_the_owner_takes_lasts_as_long_as_what_stands_above() -> None:
    ek = SoftEk.made_by(BETWEEN, not_after=ENDED)
    ek.chain = (*ek.chain, BETWEEN.der)

    judged = judge(ek, rules=EkRules(accept_expired=True))

    assert judged.held == {TrustName.TPM_EK}
    assert judged.endorsed_until == ENDS
    assert judged.endorsed_until > AT + timedelta(days=1)


def test_each_way_of_not_being_vouched_for_has_its_code() -> None:
    stranger = SoftEk.made_by(soft_tpm_maker.root("Maker Root"))
    refused(Code.EK_CERTIFICATE_UNTRUSTED, stranger)
    refused(Code.EK_CERTIFICATE_UNTRUSTED, SoftEk.made_by(MAKER), roots=None)
    refused(Code.EK_NOT_LISTED, SoftEk())
    refused(Code.EK_CERTIFICATE_UNTRUSTED, SoftEk(), frozenset({TrustName.TPM_EK}))
    refused(Code.EK_MISMATCH, SoftEk(chain=SoftEk.made_by(MAKER).chain))


def test_what_the_policy_does_not_rest_on_does_not_count() -> None:
    refused(Code.EK_NOT_LISTED, SoftEk.made_by(MAKER), frozenset({TrustName.EK_ALLOW_LIST}))
    refused(Code.EK_CERTIFICATE_UNTRUSTED, SoftEk(), frozenset({TrustName.TPM_EK}), listed=True)


def test_key_that_is_no_public_area_is_malformed() -> None:
    with pytest.raises(InputError):
        judge_endorsement_key(b"\x00", (), wanted=BOTH, sources=TrustSources(), at=AT)
    with pytest.raises(InputError):
        judge(SoftEk(chain=(b"\x30\x03\x02\x01\x05",)))


def test_weak_key_is_refused_though_it_is_listed() -> None:
    """N42: an RSA EK whose modulus has the ROCA fingerprint (CVE-2017-15361)."""
    modulus = 0
    while modulus.bit_length() != 2048:
        modulus = weak_prime(1024) * weak_prime(1024)
    area = ek_template(EkTemplate.RSA_2048_LOW)[:-256] + modulus.to_bytes(256)
    digest = hashlib.sha256(soft_tpm_maker.rsa_spki(modulus)).digest()
    sources = TrustSources(listed_eks=frozenset({digest}))

    with pytest.raises(AttestationError) as caught:
        judge_endorsement_key(area, (), wanted=BOTH, sources=sources, at=AT)
    assert caught.value.code is Code.EK_KEY_WEAK


def test_subject_names_both_keys() -> None:
    subjects = {ek_subject(bytes(32), KeyName(b"a")), ek_subject(bytes(32), KeyName(b"b"))}
    subjects.add(ek_subject(b"1" * 32, KeyName(b"a")))

    assert len(subjects) == 3
    assert not any("enrol/" in one for one in subjects)
