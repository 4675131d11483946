"""An enrolment in a PKCS#10 request: what goes in comes out, and nothing is there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import InputError, MalformedInput
from attestation.evidence import certify_qualifying_data
from attestation.refusals import RefusalCode
from attestation.tpm.public import parse_public
from attestation.wire.attested_csr import (
    ECDSA_SHA256,
    Names,
    build_attested_csr,
    names_asked,
    read_attested_csr,
)
from attestation.wire.cmw import CmwRecord, encode_record
from attestation.wire.csr_attestation import (
    Bundle,
    Statement,
    TpmCertify,
    build_request,
    cmw,
    read_bundle,
    tpm_certify,
)
from attestation.wire.enrolment_codec import (
    CloudStatement,
    EkStatement,
    EnrolmentRequest,
    encode_csr_proofs,
)
from attestation.wire.media_types import CSR_PROOFS, EAR_JWT
from device_agent.ports import KeyRole
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_manufacturer import SoftManufacturer

MAKER = SoftManufacturer()
NAMES = Names(
    subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]),
    alternative=x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://fleet.example/device/d-1")]
    ).public_bytes(),
)
EVIDENCE = b"\xa1" + b"e" * 40


@pytest.fixture(scope="module")
def tpm() -> SoftTpm:
    made = SoftTpm(MAKER, serial="D-1")
    made.create_ldevid()
    return made


@pytest.fixture(scope="module")
def whole(tpm: SoftTpm) -> EnrolmentRequest:
    """Everything that a request can hold."""
    idevid, iak = tpm.certificate(KeyRole.IDEVID), tpm.certificate(KeyRole.IAK)
    assert idevid is not None
    assert iak is not None
    return EnrolmentRequest(
        idevid_chain=(idevid, *MAKER.intermediates),
        iak_chain=(iak, *MAKER.intermediates),
        idevid_public=tpm.public_area(KeyRole.IDEVID),
        iak_public=tpm.public_area(KeyRole.IAK),
        ldevid_public=tpm.public_area(KeyRole.LDEVID),
        idevid_certify=tpm.certify(KeyRole.IDEVID, certify_qualifying_data(b"n", "idevid")),
        ldevid_certify=tpm.certify(KeyRole.LDEVID, certify_qualifying_data(b"n", "ldevid")),
        csr=b"",
        evidence=EVIDENCE,
        nonce=b"nonce",
        result="a.b.c",
        ek=EkStatement(public=b"ek", chain=(b"certificate",), activation=b"i" * 16, answer=b"a"),
        cloud=CloudStatement(aws_iid=b"document", azure_msi="token"),
        proofs={"owner-binding": b"signed"},
    )


def csr_of(tpm: SoftTpm, request: EnrolmentRequest, names: Names = NAMES) -> bytes:
    return build_attested_csr(
        request,
        names,
        spki=parse_public(tpm.public_area(KeyRole.LDEVID)).spki_der,
        sign=lambda data: tpm.sign_digest(KeyRole.LDEVID, hashlib.sha256(data).digest()),
    )


def around(tpm: SoftTpm, statements: Sequence[Statement], certificates: Sequence[bytes]) -> bytes:
    return build_request(
        NAMES.subject.public_bytes(),
        parse_public(tpm.public_area(KeyRole.LDEVID)).spki_der,
        Bundle(statements=tuple(statements), certificates=tuple(certificates)),
        algorithm=ECDSA_SHA256,
        sign=lambda data: tpm.sign_digest(KeyRole.LDEVID, hashlib.sha256(data).digest()),
    )


def parts(csr: bytes) -> tuple[list[Statement], list[bytes]]:
    bundle = read_bundle(csr)
    assert bundle is not None
    return list(bundle.statements), list(bundle.certificates)


def test_whole_request_survives(tpm: SoftTpm, whole: EnrolmentRequest) -> None:
    csr = csr_of(tpm, whole)

    assert read_attested_csr(csr) == replace(whole, csr=csr)
    assert x509.load_der_x509_csr(csr).is_signature_valid
    assert names_asked(csr) == NAMES


def test_order_of_certificates_and_statements_means_nothing(
    tpm: SoftTpm, whole: EnrolmentRequest
) -> None:
    statements, certificates = parts(csr_of(tpm, whole))
    csr = around(tpm, statements[::-1], certificates[::-1])

    assert read_attested_csr(csr) == replace(whole, csr=csr)


def test_plain_request_holds_nothing(tpm: SoftTpm, whole: EnrolmentRequest) -> None:
    nothing = replace(
        whole,
        **dict.fromkeys(("idevid_chain", "iak_chain"), ()),
        **dict.fromkeys(("idevid_public", "iak_public", "ldevid_public", "evidence"), b""),
        **dict.fromkeys(("idevid_certify", "ldevid_certify", "ek"), None),
        nonce=b"",
        result="",
        cloud=CloudStatement(),
        proofs={},
    )
    csr = csr_of(tpm, nothing)

    assert read_bundle(csr) is None
    assert read_attested_csr(csr) == replace(nothing, csr=csr)


def test_connections_certificate_stands_in_for_one_that_is_left_out(
    tpm: SoftTpm, whole: EnrolmentRequest
) -> None:
    statements, certificates = parts(csr_of(tpm, whole))
    certificates.remove(whole.idevid_chain[0])
    csr = around(tpm, statements, certificates)

    assert read_attested_csr(csr, whole.idevid_chain[0]) == replace(whole, csr=csr)
    assert read_attested_csr(csr).idevid_chain == ()


def test_statements_and_records_of_unknown_types_are_passed_over(
    tpm: SoftTpm, whole: EnrolmentRequest
) -> None:
    statements, certificates = parts(csr_of(tpm, whole))
    unknown = [
        Statement(type="1.2.3.4", content=b"\x05\x00"),
        cmw(encode_record(CmwRecord("application/octet-stream", b"x"))),
    ]
    csr = around(tpm, [*unknown, *statements], certificates)

    assert read_attested_csr(csr) == replace(whole, csr=csr)


def test_nothing_may_be_there_twice(tpm: SoftTpm, whole: EnrolmentRequest) -> None:
    statements, certificates = parts(csr_of(tpm, whole))

    for statement in statements:
        with pytest.raises(MalformedInput, match="twice") as caught:
            read_attested_csr(around(tpm, [*statements, statement], certificates))
        assert caught.value.code is RefusalCode.CSR_MALFORMED
    other = SoftTpm(MAKER, serial="D-2")
    for role, words in ((KeyRole.IDEVID, "two IDevID"), (KeyRole.IAK, "two IAK")):
        second = other.certificate(role)
        assert second is not None
        with pytest.raises(MalformedInput, match=words):
            read_attested_csr(around(tpm, statements, [*certificates, second]))


def test_certification_without_the_public_area_is_refused(
    tpm: SoftTpm, whole: EnrolmentRequest
) -> None:
    assert whole.ldevid_certify is not None
    bare = TpmCertify(
        attest=whole.ldevid_certify.attest, signature=whole.ldevid_certify.signature, public=b""
    )

    with pytest.raises(MalformedInput, match="tpmTPublic"):
        read_attested_csr(around(tpm, [tpm_certify(bare)], whole.iak_chain))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x82",
        b'["application/cmw", "x"]',
        encode_record(CmwRecord(CSR_PROOFS, b"\xa1\x61x\x01")),
        encode_record(CmwRecord(EAR_JWT, b"\xff")),
        encode_record(CmwRecord(EAR_JWT, b"a" * 1_000_000)),
    ],
)
def test_message_that_is_not_what_it_says_is_refused(tpm: SoftTpm, content: bytes) -> None:
    with pytest.raises(InputError):
        read_attested_csr(around(tpm, [cmw(content)], ()))


def test_proofs_beside_a_request_take_no_other_field(whole: EnrolmentRequest) -> None:
    assert b"idevid-chain" not in encode_csr_proofs(whole)
    assert encode_csr_proofs(replace(whole, iak_public=b"")) != encode_csr_proofs(whole)


def test_names_that_cannot_be_read_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    good = x509.CertificateSigningRequestBuilder().subject_name(NAMES.subject).sign(key, SHA256())
    raw = bytearray(good.public_bytes(Encoding.DER))
    raw[raw.index(b"device")] = 0xFF

    for junk in (b"", b"\x30\x00", bytes(raw)):
        with pytest.raises(MalformedInput) as caught:
            names_asked(junk)
        assert caught.value.code is RefusalCode.CSR_MALFORMED
