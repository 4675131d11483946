"""Revocation lists of device makers: read, vouched for, and obeyed at enrolment and appraisal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import (
    AttestationError,
    InputError,
    LimitExceeded,
    MalformedInput,
    UntrustedEndorsement,
)
from attestation.limits import MAX_REVOCATION_LIST_BYTES
from attestation.refusals import RefusalCode as Code
from device_agent.ports import KeyRole
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.soft_tpm_maker import integer, moment, oid, sequence, sign, tlv
from tests.verifier.issuance.factory_floor import FactoryFloor
from verifier.appraisal.appraise import appraise
from verifier.endorsement.revocation import read_revocation_lists
from verifier.endorsement.trust_anchors import ChainProfile, TrustAnchors

AT = datetime(2026, 5, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
DIRECT = SoftManufacturer()
TIERED = SoftManufacturer(intermediate=True)


def crl(
    maker: SoftManufacturer,
    *serials: int,
    by_root: bool = False,
    signer: ec.EllipticCurvePrivateKey | None = None,
    hash_: hashes.HashAlgorithm | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.CertificateRevocationList:
    authority = maker.root if by_root else maker.issuer
    key = maker._root_key if by_root else maker._issuer_key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(AT - timedelta(days=1))
        .next_update(AT + timedelta(days=7))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(AT)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer or key, hash_ or hashes.SHA256())


def der(made: x509.CertificateRevocationList) -> bytes:
    return made.public_bytes(Encoding.DER)


def pem(made: x509.CertificateRevocationList) -> bytes:
    return made.public_bytes(Encoding.PEM)


def issued(maker: SoftManufacturer) -> tuple[bytes, int]:
    leaf = maker.issue(KeyRole.IAK, KEY.public_key(), "A-1")
    return leaf, x509.load_der_x509_certificate(leaf).serial_number


def anchored(maker: SoftManufacturer, *files: bytes) -> TrustAnchors:
    return TrustAnchors.from_pem(maker.root_pem).with_revocations(files)


def refusal(anchors: TrustAnchors, *chain: bytes) -> Code:
    with pytest.raises(UntrustedEndorsement) as caught:
        anchors.validate(chain, AT, ChainProfile.IAK)
    return caught.value.code


@pytest.mark.parametrize("form", [der, pem])
def test_revoked_leaf_is_refused_and_its_neighbour_is_not(form: object) -> None:
    leaf, serial = issued(DIRECT)
    neighbour, _ = issued(DIRECT)
    anchors = anchored(DIRECT, form(crl(DIRECT, serial)))  # type: ignore[operator]

    assert refusal(anchors, leaf) is Code.CERTIFICATE_REVOKED
    assert anchors.validate((neighbour,), AT, ChainProfile.IAK)


def test_same_serial_of_another_issuer_is_not_revoked() -> None:
    leaf, serial = issued(DIRECT)
    other = SoftManufacturer("Other")
    anchors = TrustAnchors.from_pem(DIRECT.root_pem, other.root_pem)

    seen = anchors.with_revocations([der(crl(other, serial))])

    assert seen.validate((leaf,), AT, ChainProfile.IAK)


UTF8_STRING = 0x0C
OTHER_FORMS = {
    "PrintableString": lambda text: tlv(0x13, text.encode("ascii")),
    "BMPString": lambda text: tlv(0x1E, text.encode("utf-16-be")),
    "another case": lambda text: tlv(UTF8_STRING, text.upper().encode()),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_list_whose_issuer_is_written_as_another_string_type_revokes_all_the_same(
    form: str,
) -> None:
    leaf, serial = issued(DIRECT)
    neighbour, _ = issued(DIRECT)
    name = f"{DIRECT.name} Root"
    written = sequence(tlv(0x31, sequence(oid("2.5.4.3"), OTHER_FORMS[form](name))))
    assert DIRECT.root.subject.public_bytes() == sequence(
        tlv(0x31, sequence(oid("2.5.4.3"), tlv(UTF8_STRING, name.encode())))
    )
    algorithm = sequence(oid("1.2.840.10045.4.3.2"))
    entries = sequence(sequence(integer(serial), moment(AT)))
    times = moment(AT), moment(AT + timedelta(days=1))
    content = sequence(integer(1), algorithm, written, *times, entries)
    signature = sign(DIRECT._issuer_key, content, hashes.SHA256())

    anchors = anchored(DIRECT, sequence(content, algorithm, tlv(0x03, b"\0", signature)))

    assert refusal(anchors, leaf) is Code.CERTIFICATE_REVOKED
    assert anchors.validate((neighbour,), AT, ChainProfile.IAK)


def test_list_of_an_intermediate_comes_with_its_certificate() -> None:
    leaf, serial = issued(TIERED)
    listed = pem(crl(TIERED, serial))
    beside = TIERED.issuer.public_bytes(Encoding.PEM)

    assert (
        refusal(anchored(TIERED, listed + beside), leaf, *TIERED.intermediates)
        is Code.CERTIFICATE_REVOKED
    )
    with pytest.raises(UntrustedEndorsement) as caught:
        anchored(TIERED, listed)
    assert caught.value.code is Code.CERTIFICATE_UNTRUSTED


def test_revoked_intermediate_takes_its_leaves_with_it() -> None:
    leaf, _ = issued(TIERED)
    anchors = anchored(TIERED, der(crl(TIERED, TIERED.issuer.serial_number, by_root=True)))

    assert refusal(anchors, leaf, *TIERED.intermediates) is Code.CERTIFICATE_REVOKED


def test_list_that_no_anchor_signed_is_refused() -> None:
    forged = crl(DIRECT, 5, signer=KEY)
    foreign = crl(SoftManufacturer("Other"), 5)
    leaf = x509.load_der_x509_certificate(issued(DIRECT)[0])
    beside = leaf.public_bytes(Encoding.PEM)

    for content in (der(forged), der(foreign), pem(foreign) + beside):
        with pytest.raises(UntrustedEndorsement) as caught:
            anchored(DIRECT, content)
        assert caught.value.code is Code.CERTIFICATE_UNTRUSTED


def signer_of_lists(
    above: SoftManufacturer, *, ca: bool = True, may_sign: bool = True
) -> tuple[x509.Certificate, bytes]:
    """A certificate below a maker, and a list that its key signed, in one PEM text."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Lists")])
    usage = x509.KeyUsage(True, *[False] * 4, ca, may_sign, False, False)  # noqa: FBT003
    certificate = (
        x509.CertificateBuilder(above.issuer.subject, name, KEY.public_key(), 7)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(above._issuer_key, hashes.SHA256())
    )
    listed = (
        x509.CertificateRevocationListBuilder(name, AT, AT + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    return certificate, listed + certificate.public_bytes(Encoding.PEM)


def test_only_an_authority_that_may_and_that_an_anchor_issued_signs_lists() -> None:
    assert anchored(DIRECT, signer_of_lists(DIRECT)[1]).revocations
    for _, content in (
        signer_of_lists(SoftManufacturer("Other")),
        signer_of_lists(DIRECT, ca=False),
        signer_of_lists(DIRECT, may_sign=False),
    ):
        with pytest.raises(UntrustedEndorsement) as caught:
            anchored(DIRECT, content)
        assert caught.value.code is Code.CERTIFICATE_UNTRUSTED


def test_list_signed_over_sha1_is_refused() -> None:
    algorithm = sequence(oid("1.2.840.10045.4.1"))
    issuer = DIRECT.issuer.subject.public_bytes()
    content = sequence(integer(1), algorithm, issuer, moment(AT), moment(AT + timedelta(days=1)))
    sha1 = hashes.SHA1()  # noqa: S303 - what must not be believed
    signature = sign(DIRECT._issuer_key, content, sha1)

    with pytest.raises((InputError, UntrustedEndorsement)):
        anchored(DIRECT, sequence(content, algorithm, tlv(0x03, b"\0", signature)))


def point(**changes: bool) -> x509.IssuingDistributionPoint:
    parts: dict[str, bool] = {
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
        **changes,
    }
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier("http://crl.invalid/a")],
        relative_name=None,
        only_some_reasons=None,
        **parts,
    )


@pytest.mark.parametrize(
    "extension",
    [
        (x509.DeltaCRLIndicator(1), True),
        (point(indirect_crl=True), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
    ],
)
def test_lists_that_do_not_speak_for_all_are_refused(
    extension: tuple[x509.ExtensionType, bool],
) -> None:
    with pytest.raises(MalformedInput):
        anchored(DIRECT, der(crl(DIRECT, 5, extensions=[extension])))


def test_list_with_number_and_distribution_point_is_taken() -> None:
    extensions = [(x509.CRLNumber(7), False), (point(only_contains_user_certs=True), True)]

    assert anchored(DIRECT, der(crl(DIRECT, 5, extensions=extensions))).revoked


def test_stale_list_still_counts_and_says_so() -> None:
    leaf, serial = issued(DIRECT)
    anchors = anchored(DIRECT, der(crl(DIRECT, serial)))
    (listed,) = anchors.revocations
    late = AT + timedelta(days=8)

    assert not listed.is_stale(AT)
    assert listed.is_stale(late)
    with pytest.raises(UntrustedEndorsement) as caught:
        anchors.validate((leaf,), late, ChainProfile.IAK)
    assert caught.value.code is Code.CERTIFICATE_REVOKED


def test_what_is_no_list_is_refused() -> None:
    for content in (b"junk", b"-----BEGIN X509 CRL-----\nAAAA\n", DIRECT.root_pem, b""):
        with pytest.raises(MalformedInput):
            anchored(DIRECT, content)
    with pytest.raises(LimitExceeded):
        anchored(DIRECT, bytes(MAX_REVOCATION_LIST_BYTES + 1))


@given(st.data())
def test_no_change_of_a_list_changes_what_it_revokes(data: st.DataObject) -> None:
    good = der(CRL)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]

    try:
        (seen,) = read_revocation_lists([bad], [DIRECT.root])
    except (InputError, UntrustedEndorsement):
        return
    (right,) = read_revocation_lists([good], [DIRECT.root])
    assert seen == right  # an unused bit of the signature's encoding


CRL = crl(DIRECT, 5, 6)


# --- a device's life -----------------------------------------------------------------------


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_device_whose_certificate_is_revoked_cannot_enrol(role: KeyRole) -> None:
    floor = FactoryFloor()
    serial = x509.load_der_x509_certificate(floor.tpm.certificates[role]).serial_number
    floor.terms = replace(
        floor.terms, anchors=floor.anchors.with_revocations([der(crl(floor.maker, serial))])
    )

    with pytest.raises(AttestationError) as caught:
        floor.enrol()

    assert caught.value.code is Code.CERTIFICATE_REVOKED


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.IAK])
def test_evidence_of_a_device_whose_certificate_was_revoked_since_is_refused(
    role: KeyRole,
) -> None:
    floor = FactoryFloor()
    floor.accept(floor.enrol().result)
    floor.enrolment = replace(
        floor.enrolment, certificate_ids=floor.enrol().enrolment.certificate_ids
    )
    before = floor.judge()
    serial = x509.load_der_x509_certificate(floor.tpm.certificates[role]).serial_number

    after = appraise(
        floor.evidence(),
        challenge=floor.authority,
        enrolment=floor.enrolment,
        anchors=floor.anchors.with_revocations([der(crl(floor.maker, serial))]),
        reference=floor.reference,
        policy=floor.policy,
        at=floor.at,
    )

    assert not any(Code.CERTIFICATE_REVOKED in reason for reason in before.reasons)
    assert any(Code.CERTIFICATE_REVOKED in reason for reason in after.reasons)
    assert after.status > before.status
