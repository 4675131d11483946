"""EK certificates judged: chains real and made, profiles, keys, time, bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.ek.certificate import MakerCertificate, parse_maker_certificate
from attestation.ek.extensions import Quirk
from attestation.ek.forms import read_certificate
from attestation.errors import AttestationError, LimitExceeded, MalformedInput, UntrustedEndorsement
from attestation.limits import MAX_CHAIN_LENGTH, MAX_PATH_SIGNATURES
from attestation.refusals import RefusalCode as Code
from attestation.tpm.csr_idevid import parse_content
from tests.attestation.ek.test_roca import weak_prime
from tests.simulators import soft_tpm_maker as maker
from tests.simulators.soft_tpm_maker import Authority
from verifier.endorsement.ek import EkEndorsement, EkRules, judge_ek
from verifier.endorsement.ek_path import check_path
from verifier.endorsement.vendor_roots import PemFile, VendorRoots
from verifier.sources import load_vendor_roots, packaged_vendor_roots

DATA = Path(__file__).parents[2] / "data"
GOOGLE = DATA / "google_go-tpm-tools"
AT = datetime(2026, 5, 1, tzinfo=UTC)
SHA1 = hashes.SHA1()  # noqa: S303 - what must not be believed


def parsed(*ders: bytes | Authority) -> tuple[MakerCertificate, ...]:
    return tuple(
        parse_maker_certificate(one.der if isinstance(one, Authority) else one) for one in ders
    )


def believe(*authorities: Authority) -> VendorRoots:
    return VendorRoots(roots=parsed(*authorities))


def judge(
    leaf: bytes,
    *between: Authority,
    roots: VendorRoots,
    at: datetime = AT,
    rules: EkRules | None = None,
    firmware: tuple[int, ...] | None = None,
) -> EkEndorsement:
    (certificate,) = parsed(leaf)
    return judge_ek(certificate, parsed(*between), roots, at, rules=rules, firmware=firmware)


def refusal(
    leaf: bytes, *between: Authority, roots: VendorRoots, at: datetime = AT
) -> UntrustedEndorsement:
    with pytest.raises(UntrustedEndorsement) as caught:
        judge(leaf, *between, roots=roots, at=at)
    return caught.value


ROOT = maker.root()
BELIEVED = believe(ROOT)


# --- real chains ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "manufacturer", "steps"),
    [("h12sslEK.pem", "IFX", 3), ("sr630EK.pem", "NTC", 2)],
)
def test_real_eks_lead_to_the_packaged_makers(file: str, manufacturer: str, steps: int) -> None:
    certificate = read_certificate((DATA / "immune-gmbh_guard-oss/ek" / file).read_bytes())

    seen = judge_ek(certificate, (), packaged_vendor_roots(), AT)

    assert seen.maker.manufacturer == manufacturer
    assert len(seen.path) == steps
    assert seen.path[-1] in packaged_vendor_roots()
    assert seen.anchor_sha256 == seen.path[-1].sha256
    assert seen.findings == ()
    assert seen.not_after == min(one.not_after for one in seen.path)


def test_ek_of_a_switch_leads_to_its_makers_root() -> None:
    raw = (DATA / "openconfig_attestz/csrResponse-csr_contents").read_bytes()
    certificate = read_certificate(parse_content(raw).ek_certificate, from_nv=True)

    seen = judge_ek(certificate, (), packaged_vendor_roots(), AT)

    assert (seen.maker.manufacturer, len(seen.path)) == ("STM", 3)


@pytest.mark.parametrize("file", ["uca_tpm_rsa_enc_cert.pem", "uca_tpm_ecc_enc_cert.pem"])
def test_virtual_tpm_leads_to_its_own_makers_root_and_to_no_packaged_one(file: str) -> None:
    certificate = read_certificate((GOOGLE / "certificates" / file).read_bytes())
    own = load_vendor_roots(GOOGLE / "ca-certs")

    assert len(judge_ek(certificate, (), own, AT).path) == 3
    with pytest.raises(UntrustedEndorsement) as caught:
        judge_ek(certificate, (), packaged_vendor_roots(), AT)
    assert caught.value.code is Code.EK_CERTIFICATE_UNTRUSTED


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("uca_tpm_rsa_sign_cert.pem", "keyUsage is digitalSignature"),
        ("pca_tpm_rsa_enc_cert.pem", "2.23.133.8.1"),
    ],
)
def test_real_certificates_that_are_no_eks_are_refused(file: str, said: str) -> None:
    certificate = read_certificate((GOOGLE / "certificates" / file).read_bytes())

    with pytest.raises(UntrustedEndorsement, match=said) as caught:
        judge_ek(certificate, (), load_vendor_roots(GOOGLE / "ca-certs"), AT)

    assert caught.value.code is Code.EK_CERTIFICATE_PROFILE_WRONG


def test_any_changed_byte_of_a_real_ek_breaks_it() -> None:
    good = read_certificate((DATA / "immune-gmbh_guard-oss/ek/sr630EK.pem").read_bytes())

    for place in range(0, len(good.raw), 7):
        changed = bytearray(good.raw)
        changed[place] ^= 1
        with pytest.raises(AttestationError):
            judge_ek(parse_maker_certificate(bytes(changed)), (), packaged_vendor_roots(), AT)


# --- made chains ---------------------------------------------------------------------------


def test_chain_is_found_among_presented_certificates_in_any_order() -> None:
    upper = maker.below(ROOT, "Upper")
    lower = maker.below(upper, "Lower")
    leaf = maker.ek(lower)

    assert len(judge(leaf, upper, lower, roots=BELIEVED).path) == 4
    assert len(judge(leaf, lower, upper, ROOT, roots=BELIEVED).path) == 4
    assert refusal(leaf, lower, roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def test_chain_is_found_among_the_bundles_intermediates() -> None:
    lower = maker.below(ROOT)
    roots = replace(BELIEVED, intermediates=parsed(lower))

    assert len(judge(maker.ek(lower), roots=roots).path) == 3


def test_presented_root_is_not_believed() -> None:
    foreign = maker.root("Foreign")

    assert refusal(maker.ek(foreign), foreign, roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def test_root_of_the_same_name_with_another_key_is_not_believed() -> None:
    twin = maker.root()

    assert refusal(maker.ek(twin), twin, roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def printable_name(value: str) -> bytes:
    pair = maker.sequence(maker.oid("2.5.4.3"), maker.tlv(0x13, value.encode()))
    return maker.sequence(maker.tlv(0x31, pair))


def test_names_are_one_whatever_their_string_type_case_and_blanks() -> None:
    for subject in (printable_name("Maker Root"), maker.name("MAKER  root ")):
        assert judge(maker.ek(replace(ROOT, subject=subject)), roots=BELIEVED)


@pytest.mark.parametrize("other", ["Maker Root 2", "MakerRoot", ""])
def test_certificate_of_an_issuer_with_another_name_is_untrusted(other: str) -> None:
    renamed = replace(ROOT, subject=maker.name(other))

    assert refusal(maker.ek(renamed), roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def test_wrong_signature_algorithm_for_the_key_is_untrusted() -> None:
    leaf = maker.ek(ROOT, algorithm=maker.RSA_SHA256)

    assert refusal(leaf, roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def test_rsa_chain_is_believed_and_over_sha1_is_not() -> None:
    root = maker.root(key=maker.rsa_key(1))
    below = maker.below(root, key=maker.rsa_key(2))
    weak = maker.below(root, key=maker.rsa_key(2), algorithm=maker.RSA_SHA1, hash_=SHA1)
    leaf = maker.ek(below)

    assert judge(leaf, below, roots=believe(root))
    fault = refusal(leaf, weak, roots=believe(root))
    assert fault.code is Code.EK_CERTIFICATE_UNTRUSTED
    assert "SHA-1" in fault.reason


def test_root_signed_over_sha1_is_believed_because_it_is_there() -> None:
    root = maker.root(key=maker.rsa_key(1), algorithm=maker.RSA_SHA1, hash_=SHA1)

    assert judge(maker.ek(root), roots=believe(root))


@pytest.mark.parametrize(
    ("extensions", "said"),
    [
        ((maker.usage(maker.CERT_AND_CRL_SIGN),), "not a CA"),
        ((maker.constraints(ca=False), maker.usage(maker.CERT_AND_CRL_SIGN)), "not a CA"),
        ((maker.constraints(ca=True), maker.usage(maker.CRL_SIGN)), "keyUsage"),
        ((maker.constraints(ca=True), maker.extended("1.3.6.1.5.5.7.3.2")), "extended key usage"),
        (
            (maker.constraints(ca=True), maker.extension("1.2.3.4", b"\x05\x00", critical=True)),
            "1.2.3.4",
        ),
        ((maker.constraints(ca=True), maker.extension("2.5.29.30", b"\x30\x00")), "2.5.29.30"),
    ],
)
def test_intermediates_that_must_not_sign_eks_are_refused(
    extensions: tuple[bytes, ...], said: str
) -> None:
    lower = maker.below(ROOT, extensions=extensions)

    fault = refusal(maker.ek(lower), lower, roots=BELIEVED)

    assert fault.code is Code.EK_CERTIFICATE_PROFILE_WRONG
    assert said in fault.reason


def test_ek_does_not_sign_eks() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = maker.name("a TPM")
    first = maker.ek(ROOT, key.public_key(), subject=subject)
    second = maker.ek(Authority(subject=subject, key=key, der=first))

    fault = refusal(second, Authority(subject=subject, key=key, der=first), roots=BELIEVED)

    assert fault.code is Code.EK_CERTIFICATE_PROFILE_WRONG


def limited(above: Authority, title: str, length: int | None) -> Authority:
    extensions = (maker.constraints(ca=True, path_length=length),)
    return maker.below(above, title, extensions=extensions)


@pytest.mark.parametrize(("allowed", "fits"), [(0, False), (1, True), (None, True)])
def test_path_length_is_obeyed(allowed: int | None, *, fits: bool) -> None:
    upper = limited(ROOT, "Upper", allowed)
    lower = limited(upper, "Lower", 0)
    leaf = maker.ek(lower)

    if fits:
        assert len(judge(leaf, upper, lower, roots=BELIEVED).path) == 4
    else:
        fault = refusal(leaf, upper, lower, roots=BELIEVED)
        assert fault.code is Code.EK_CERTIFICATE_PROFILE_WRONG
        assert "intermediates below" in fault.reason


def test_path_length_of_a_root_is_obeyed() -> None:
    root = maker.root(extensions=(maker.constraints(ca=True, path_length=0),))
    lower = maker.below(root)

    assert judge(maker.ek(root), roots=believe(root))
    assert (
        refusal(maker.ek(lower), lower, roots=believe(root)).code
        is Code.EK_CERTIFICATE_PROFILE_WRONG
    )


def test_faulty_path_is_passed_over_for_one_that_holds() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    old = maker.below(ROOT, key=key, not_after=AT - timedelta(days=1))
    new = maker.below(ROOT, key=key)
    leaf = maker.ek(new)

    assert judge(leaf, old, new, roots=BELIEVED)
    assert judge(leaf, new, old, roots=BELIEVED)
    assert refusal(leaf, old, roots=BELIEVED).code is Code.CERTIFICATE_EXPIRED


# --- bounds --------------------------------------------------------------------------------


def test_chain_longer_than_the_cap_is_untrusted() -> None:
    chain = [ROOT]
    while len(chain) < MAX_CHAIN_LENGTH:
        chain.append(maker.below(chain[-1], f"CA {len(chain)}"))

    assert len(judge(maker.ek(chain[-2]), *chain[1:-1], roots=BELIEVED).path) == MAX_CHAIN_LENGTH
    assert (
        refusal(maker.ek(chain[-1]), *chain[1:], roots=BELIEVED).code
        is Code.EK_CERTIFICATE_UNTRUSTED
    )


def test_more_presented_certificates_than_the_cap_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        judge(maker.ek(ROOT), *[ROOT] * (MAX_CHAIN_LENGTH + 1), roots=BELIEVED)


def test_authorities_that_sign_each_other_end_the_search() -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    a, b = (
        Authority(subject=maker.name(n), key=k, der=b"") for n, k in zip("ab", keys, strict=True)
    )
    ring = (
        maker.below(b, "a", keys[0]),
        maker.below(a, "b", keys[1]),
    )

    assert refusal(maker.ek(a), *ring, roots=BELIEVED).code is Code.EK_CERTIFICATE_UNTRUSTED


def test_no_certificate_stands_in_a_path_twice() -> None:
    keys = {title: ec.generate_private_key(ec.SECP256R1()) for title in "ab"}
    named = {
        title: Authority(subject=maker.name(title), key=key, der=b"") for title, key in keys.items()
    }
    all_ways = [maker.below(named[above], one, keys[one]) for above in "ab" for one in "ab"]

    fault = refusal(maker.ek(named["a"]), *all_ways, roots=BELIEVED)

    assert fault.code is Code.EK_CERTIFICATE_UNTRUSTED


def test_search_among_many_namesakes_is_bounded() -> None:
    twins = tuple(maker.root() for _ in range(MAX_PATH_SIGNATURES + 1))

    with pytest.raises(LimitExceeded, match="signature checks"):
        judge(maker.ek(maker.root()), roots=believe(*twins))


# --- the leaf ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "replaced",
    [
        {"extended": b""},
        {"extended": maker.extended("2.5.29.37.0")},
        {"extended": maker.extended("2.23.133.8.3")},
        {"usage": maker.usage(maker.DIGITAL_SIGNATURE)},
        {"usage": maker.usage(b"\x05\xa0")},
        {"usage": maker.usage(maker.KEY_AGREEMENT)},
        {"constraints": maker.constraints(ca=True)},
        {"name": b""},
        {"more": maker.extension("1.2.3.4", b"\x05\x00", critical=True)},
    ],
)
def test_certificate_without_the_marks_of_an_ek_is_refused(replaced: dict[str, bytes]) -> None:
    leaf = maker.ek(ROOT, extensions=maker.ek_extensions(**replaced))

    assert refusal(leaf, roots=BELIEVED).code is Code.EK_CERTIFICATE_PROFILE_WRONG


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ecc_eks_are_believed(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()

    assert judge(maker.ek(ROOT, key), roots=BELIEVED).certificate.public_key.key == key


def test_ek_named_rsaes_oaep_is_believed() -> None:
    modulus = maker.rsa_key().public_key().public_numbers().n
    info = maker.rsa_spki(modulus, algorithm="1.2.840.113549.1.1.7")

    seen = judge(maker.ek(ROOT, key_info=info), roots=BELIEVED)

    assert seen.certificate.quirks == {Quirk.OAEP_KEY}


def weak_modulus() -> int:
    weak = 0
    while weak.bit_length() != 2048:
        weak = weak_prime(1025) * weak_prime(1024)
    return weak


def test_authority_with_a_roca_weak_key_is_refused() -> None:
    root = maker.root(key_info=maker.rsa_spki(weak_modulus()), key=maker.rsa_key(1))

    with pytest.raises(UntrustedEndorsement) as caught:
        check_path(parsed(maker.ek(root), root), AT, accept_expired=False)

    assert caught.value.code is Code.EK_KEY_WEAK


def test_roca_weak_ek_is_refused_even_with_a_good_chain() -> None:
    weak = weak_modulus()
    info = maker.rsa_spki(weak)

    fault = refusal(maker.ek(ROOT, key_info=info), roots=BELIEVED)

    assert fault.code is Code.EK_KEY_WEAK
    assert str(weak) not in fault.describe()


# --- time ----------------------------------------------------------------------------------


def test_expired_ek_is_refused_unless_the_rules_say_otherwise() -> None:
    leaf = maker.ek(ROOT, not_after=AT - timedelta(seconds=1))

    assert refusal(leaf, roots=BELIEVED).code is Code.CERTIFICATE_EXPIRED
    seen = judge(leaf, roots=BELIEVED, rules=EkRules(accept_expired=True))
    assert [finding.code for finding in seen.findings] == [Code.CERTIFICATE_EXPIRED]


def test_expired_authority_is_refused_whatever_the_rules_say() -> None:
    lower = maker.below(ROOT, not_after=AT - timedelta(seconds=1))

    with pytest.raises(UntrustedEndorsement) as caught:
        judge(maker.ek(lower), lower, roots=BELIEVED, rules=EkRules(accept_expired=True))

    assert caught.value.code is Code.CERTIFICATE_EXPIRED


def test_ek_from_the_future_is_refused() -> None:
    leaf = maker.ek(ROOT, not_before=AT + timedelta(seconds=1))

    assert refusal(leaf, roots=BELIEVED).code is Code.CERTIFICATE_NOT_YET_VALID
    assert judge(leaf, roots=BELIEVED, at=AT + timedelta(seconds=1))


def test_expired_root_is_refused() -> None:
    root = maker.root(not_after=AT - timedelta(days=1))

    assert refusal(maker.ek(root), roots=believe(root)).code is Code.CERTIFICATE_EXPIRED


# --- firmware ------------------------------------------------------------------------------


def test_running_firmware_decides_and_the_certificates_is_a_finding() -> None:
    name = maker.tpm_name(version="id:0007003D")
    leaf = maker.ek(ROOT, extensions=maker.ek_extensions(name=name))

    found = judge(leaf, roots=BELIEVED).findings
    assert [finding.code for finding in found] == [Code.TPM_FIRMWARE_DENIED]
    assert judge(leaf, roots=BELIEVED, firmware=(7, 85, 0, 0)).findings == ()
    with pytest.raises(UntrustedEndorsement) as caught:
        judge(leaf, roots=BELIEVED, firmware=(7, 61, 0, 0))
    assert caught.value.code is Code.TPM_FIRMWARE_DENIED


# --- any order, any mix --------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_mix_of_certificates_is_judged_or_refused(data: st.DataObject) -> None:
    upper, lower = MIX[1], MIX[2]
    leaf = data.draw(st.sampled_from([maker.ek(lower), maker.ek(upper), upper.der, ROOT.der]))
    between = data.draw(st.lists(st.sampled_from(MIX), max_size=MAX_CHAIN_LENGTH + 1))
    try:
        seen = judge(leaf, *between, roots=BELIEVED)
    except AttestationError:
        return
    assert seen.path[-1] in BELIEVED
    for child, authority in zip(seen.path, seen.path[1:], strict=False):
        assert child.signed_by(authority)


MIX = (ROOT, upper := maker.below(ROOT, "Upper"), maker.below(upper, "Lower"), maker.root("Other"))


# --- sets of roots -------------------------------------------------------------------------


def test_no_roots_at_all_is_an_error() -> None:
    with pytest.raises(MalformedInput):
        VendorRoots(roots=())
    with pytest.raises(MalformedInput):
        VendorRoots.from_operator([PemFile(origin="x", content=maker.below(ROOT).der)])


def test_what_cannot_be_an_authority_is_listed_with_the_reason() -> None:
    files = [
        PemFile(origin="root", content=ROOT.der),
        PemFile(origin="ek", content=maker.ek(ROOT)),
        PemFile(origin="junk", content=b"junk"),
    ]

    seen = VendorRoots.from_operator(files)

    assert [one.sha256 for one in seen.roots] == [parsed(ROOT)[0].sha256]
    assert [(one.origin, bool(one.reason)) for one in seen.refused] == [
        ("ek", True),
        ("junk", True),
    ]


def test_operators_roots_stand_beside_the_packaged_ones_or_alone() -> None:
    beside = load_vendor_roots(GOOGLE / "ca-certs")
    alone = load_vendor_roots(GOOGLE / "ca-certs", only=True)

    assert len(beside.roots) == len(packaged_vendor_roots().roots) + 1
    assert (len(alone.roots), len(alone.intermediates)) == (1, 1)


def test_authority_is_found_by_its_key_id() -> None:
    seen = packaged_vendor_roots()
    known = next(one for one in seen.intermediates if one.subject_key_id)

    assert known in seen.by_key_id(known.subject_key_id or b"")
    assert seen.by_key_id(b"nobody") == ()
