"""EST over real TLS: what enrols, and every way in which it does not."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import der
from attestation.limits import MAX_EST_BODY_BYTES
from attestation.tpm.public import parse_public
from attestation.wire.attested_csr import Names, build_attested_csr
from attestation.wire.csr_attestation import Bundle, Statement, build_request
from attestation.wire.enrolment_codec import EnrolmentRequest
from attestation.wire.est import PATH, decode_body, encode_body, read_certs_only
from attestation.wire.media_types import EST_NONCE, PKCS10
from device_agent.ports import KeyRole
from tests.simulators.est import ANYBODY, challenge_of, csr_of, current_names, enrol, issued
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, SiteDevice, VerifierSite, in_use, pem
from verifier.issuance.est import CHANGE_SUBJECT_NAME
from verifier.keys.ring import KeyRing
from verifier.services.devices import Devices

NewDevice = Callable[[], SiteDevice]


def refusal(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json["code"]


def adopt(device: SiteDevice, answer: Answer) -> None:
    """Use what was issued from now on."""
    certificate = issued(answer)
    device.chain_pem = certificate.public_bytes(Encoding.PEM)
    (device.device_id,) = (
        str(one.value)
        for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    )
    device._client = None


@pytest.fixture
def est_device(new_device: NewDevice) -> SiteDevice:
    """A device that has enrolled by EST."""
    made = new_device()
    adopt(made, enrol(made))
    return made


def test_enrolled_device_attests_with_what_it_was_given(est_device: SiteDevice) -> None:
    answer = est_device.attest()

    assert answer.status == 200
    assert answer.json["status"] in {"affirming", "warning"}


def test_answer_holds_the_issued_certificate_alone_and_cacerts_its_issuer(
    site: VerifierSite, est_device: SiteDevice
) -> None:
    answer = site.client().get(f"{PATH}/cacerts")

    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["content-transfer-encoding"] == "base64"
    leaf = x509.load_pem_x509_certificate(est_device.chain_pem)
    issuers = [
        one for one in read_certs_only(decode_body(answer.body)) if one.subject == leaf.issuer
    ]
    leaf.verify_directly_issued_by(issuers[0])


def test_enrolment_by_est_is_recorded_like_any_other(
    site: VerifierSite, est_device: SiteDevice
) -> None:
    _, newest = Devices(site.running.store).show(est_device.device_id)

    assert newest is not None
    assert [verdict for _, _, verdict, _ in newest.steps[:4]] == ["passed"] * 4


def test_body_with_line_breaks_of_unix_and_of_mail_is_taken(new_device: NewDevice) -> None:
    for ending in (b"\n", b"\r\n"):
        device = new_device()
        client = device.idevid_client()
        csr = csr_of(device, device.enrolment_request(challenge_of(client)))
        body = base64.encodebytes(csr).replace(b"\n", ending)

        assert client.post(f"{PATH}/simpleenroll", body, PKCS10).status == 200


def test_nonce_may_be_asked_for_with_its_length(device: SiteDevice) -> None:
    client = device.idevid_client()

    good = client.post(f"{PATH}/nonce", b'{"len": 56}', EST_NONCE)
    other = client.post(f"{PATH}/nonce", b'{"len": 32}', EST_NONCE)

    assert (good.status, good.headers["content-type"]) == (200, EST_NONCE)
    assert refusal(other) == (503, "nonce-length-unsupported")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"[]", EST_NONCE),
        (b"", EST_NONCE),
        (b'{"len": 7}', EST_NONCE),
        (b'{"len": true}', EST_NONCE),
        (b'{"len": 56, "len": 56}', EST_NONCE),
        (b'{"reqTypeInfo": {"type": "1.2.x"}}', EST_NONCE),
        (b" " * 5000, EST_NONCE),
    ],
)
def test_request_for_a_nonce_that_is_none_is_a_bad_request(
    device: SiteDevice, body: bytes, content_type: str
) -> None:
    answer = device.idevid_client().post(f"{PATH}/nonce", body, content_type)

    assert refusal(answer) == (400, "request-invalid")


# --- doors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "operation"), [("GET", "nonce"), ("POST", "simpleenroll")])
def test_nobody_without_a_client_certificate_enrols(
    site: VerifierSite, method: str, operation: str
) -> None:
    answer = site.client().request(method, f"{PATH}/{operation}", b"", PKCS10)

    assert refusal(answer) == (401, "client-certificate-required")


def test_foreign_makers_device_does_not_pass_the_handshake(site: VerifierSite) -> None:
    foreign = SoftManufacturer("Foreign")
    key = ec.generate_private_key(ec.SECP256R1())
    client = site.client(pem(foreign.issue(KeyRole.IDEVID, key.public_key(), "SN-9")), key)

    with pytest.raises(OSError, match=r"(?i)alert unknown ca|reset|closed|EOF"):
        client.get(f"{PATH}/nonce")


def test_wrong_content_type_is_refused(new_device: NewDevice) -> None:
    client = new_device().idevid_client()

    answer = client.post(f"{PATH}/simpleenroll", b"AAAA", "application/octet-stream")

    assert refusal(answer) == (415, "media-type-wrong")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"AAA",
        b"A A A A",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"\x30\x82\x01\x00",
        b"AAAA====",
        b"AA-_",
    ],
)
def test_body_that_is_not_base64_is_refused(new_device: NewDevice, body: bytes) -> None:
    answer = new_device().idevid_client().post(f"{PATH}/simpleenroll", body, PKCS10)

    assert refusal(answer) == (400, "base64-malformed")


def test_base64_of_something_else_is_no_request(new_device: NewDevice) -> None:
    client = new_device().idevid_client()

    for junk in (b"\0", b"\x30\x00", b"\x30\x80", b"junk" * 40):
        answer = client.post(f"{PATH}/simpleenroll", encode_body(junk), PKCS10)

        assert refusal(answer) == (400, "csr-malformed")


def test_oversize_body_is_refused(new_device: NewDevice) -> None:
    client = new_device().idevid_client()

    answer = client.post(f"{PATH}/simpleenroll", b"A" * (MAX_EST_BODY_BYTES + 1), PKCS10)

    assert refusal(answer) == (413, "too-large")


@pytest.mark.parametrize("label", ["unknown", "cacerts", "a%2Fb", "x" * 65, "%00"])
def test_unknown_label_is_not_found(new_device: NewDevice, label: str) -> None:
    client = new_device().idevid_client()

    for answer in (
        client.get(f"{PATH}/{label}/cacerts"),
        client.get(f"{PATH}/{label}/csrattrs"),
        client.get(f"{PATH}/{label}/nonce"),
        client.post(f"{PATH}/{label}/simpleenroll", b"AAAA", PKCS10),
    ):
        assert answer.status == 404
        assert answer.json["code"] in {"est-label-unknown", "request-invalid"}


def test_key_made_by_the_server_is_refused_with_the_reason(device: SiteDevice) -> None:
    answer = device.client.post(f"{PATH}/serverkeygen", b"AAAA", PKCS10)

    assert refusal(answer) == (501, "est-serverkeygen-refused")
    assert "TPM" in answer.json["detail"]


def test_full_cmc_is_refused(device: SiteDevice) -> None:
    answer = device.client.post(f"{PATH}/fullcmc", b"AAAA", "application/pkcs7-mime")

    assert refusal(answer) == (501, "est-fullcmc-unsupported")


def test_client_that_takes_words_only_is_told_in_words(
    site: VerifierSite, new_device: NewDevice
) -> None:
    words, device = {"Accept": "text/plain"}, new_device()

    inside = site.client().get(f"{PATH}/unheard-of/cacerts", **words)
    outside = site.client().request("POST", f"{PATH}/simpleenroll", b"", PKCS10, words)
    large = device.idevid_client().request(
        "POST", f"{PATH}/csrattrs", b"A" * 100_000, PKCS10, words
    )
    mixed = site.client().get(f"{PATH}/nonce", Accept="text/plain, */*;q=0.1")

    for answer, status, code in (
        (inside, 404, "est-label-unknown"),
        (outside, 401, "client-certificate-required"),
        (large, 413, "too-large"),
    ):
        assert answer.status == status
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body.decode().startswith(f"{code}: ")
    assert refusal(mixed) == (401, "client-certificate-required")


# --- proofs ----------------------------------------------------------------------------------


def test_plain_request_is_told_everything_that_is_missing(new_device: NewDevice) -> None:
    device = new_device()
    device.tpm.create_ldevid()
    plain = device.tpm.csr(KeyRole.LDEVID, "device", ())

    answer = device.idevid_client().post(f"{PATH}/simpleenroll", encode_body(plain), PKCS10)

    assert refusal(answer) == (403, "proofs-missing")
    assert "residency; evidence" in answer.json["detail"]


def test_request_with_statements_that_nobody_reads_is_a_plain_one(new_device: NewDevice) -> None:
    device = new_device()
    device.tpm.create_ldevid()
    unknown = Statement(type="1.2.3.4", content=der.write(der.NULL))
    key = device.tpm.keys[KeyRole.LDEVID].private
    csr = build_request(
        ANYBODY.subject.public_bytes(),
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        Bundle(statements=(unknown,)),
        algorithm=der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.2")),
        sign=lambda data: device.tpm.sign_digest(KeyRole.LDEVID, hashlib.sha256(data).digest()),
    )

    answer = device.idevid_client().post(f"{PATH}/simpleenroll", encode_body(csr), PKCS10)

    assert refusal(answer) == (403, "proofs-missing")


def test_evidence_that_is_left_out_is_missed_by_name(new_device: NewDevice) -> None:
    def without(request: EnrolmentRequest) -> EnrolmentRequest:
        return replace(request, evidence=b"")

    answer = enrol(new_device(), without)

    assert refusal(answer) == (403, "proofs-missing")
    assert "evidence" in answer.json["detail"]
    assert "residency" not in answer.json["detail"]


def test_public_area_of_the_attestation_key_is_missed_by_name(new_device: NewDevice) -> None:
    answer = enrol(new_device(), lambda request: replace(request, iak_public=b""))

    assert refusal(answer) == (403, "proofs-missing")
    assert "iak-public" in answer.json["detail"]


def test_idevid_certificate_may_be_left_to_the_connection(
    site: VerifierSite, new_device: NewDevice
) -> None:
    def left_out(request: EnrolmentRequest) -> EnrolmentRequest:
        return replace(request, idevid_chain=site.manufacturer.intermediates)

    assert enrol(new_device(), left_out).status == 200


def test_request_signed_by_another_key_is_refused(new_device: NewDevice) -> None:
    device, other = new_device(), ec.generate_private_key(ec.SECP256R1())
    client = device.idevid_client()
    request = device.enrolment_request(challenge_of(client))
    csr = build_attested_csr(
        request,
        ANYBODY,
        spki=parse_public(request.ldevid_public).spki_der,
        sign=lambda data: other.sign(data, ec.ECDSA(SHA256())),
    )

    answer = client.post(f"{PATH}/simpleenroll", encode_body(csr), PKCS10)

    assert refusal(answer) == (403, "csr-signature-invalid")


def test_request_for_another_key_than_the_certified_one_is_refused(new_device: NewDevice) -> None:
    device, other = new_device(), new_device()
    other.tpm.create_ldevid()
    client = device.idevid_client()
    request = device.enrolment_request(challenge_of(client))

    answer = client.post(f"{PATH}/simpleenroll", encode_body(csr_of(other, request)), PKCS10)

    assert refusal(answer) == (403, "csr-key-mismatch")


def test_nonce_of_another_connection_is_refused(new_device: NewDevice) -> None:
    device, other = new_device(), new_device()
    request = device.enrolment_request(challenge_of(other.idevid_client()))

    answer = device.idevid_client().post(
        f"{PATH}/simpleenroll", encode_body(csr_of(device, request)), PKCS10
    )

    assert refusal(answer) == (403, "nonce-forged")


def test_request_that_was_answered_before_is_refused(new_device: NewDevice) -> None:
    device = new_device()
    client = device.idevid_client()
    body = encode_body(csr_of(device, device.enrolment_request(challenge_of(client))))
    assert client.post(f"{PATH}/simpleenroll", body, PKCS10).status == 200

    assert refusal(client.post(f"{PATH}/simpleenroll", body, PKCS10)) == (403, "nonce-reused")


def test_device_whose_state_no_log_explains_is_refused(
    site: VerifierSite, new_device: NewDevice
) -> None:
    device = new_device()
    device.tamper()

    assert refusal(enrol(device)) == (403, "evidence-not-acceptable")
    known = [record.hardware_serial for record in site.running.store.devices(limit=500)]
    assert device.tpm.serial not in known


def test_other_devices_connection_does_not_enrol_this_one(new_device: NewDevice) -> None:
    device, other = new_device(), new_device()

    answer = enrol(device, client=other.idevid_client())

    assert refusal(answer) == (403, "client-certificate-wrong")


# --- renewal ---------------------------------------------------------------------------------


def renew(device: SiteDevice, names: Names | None = None) -> Answer:
    names = names or current_names(device)
    return enrol(device, client=device.new_client(), operation="simplereenroll", names=names)


def test_device_renews_over_its_own_certificate(est_device: SiteDevice) -> None:
    before = x509.load_pem_x509_certificate(est_device.chain_pem)

    after = issued(renew(est_device))

    assert after.subject == before.subject
    assert after.serial_number != before.serial_number


def test_known_device_may_leave_out_what_it_proved_before(est_device: SiteDevice) -> None:
    def again(request: EnrolmentRequest) -> EnrolmentRequest:
        return replace(
            request, idevid_chain=(), iak_chain=(), idevid_public=b"", idevid_certify=None
        )

    names = current_names(est_device)
    answer = enrol(
        est_device, again, client=est_device.new_client(), operation="simplereenroll", names=names
    )

    assert issued(answer).subject == names.subject


def test_renewal_with_another_subject_is_refused(est_device: SiteDevice) -> None:
    for names in (
        replace(current_names(est_device), subject=ANYBODY.subject),
        replace(current_names(est_device), alternative=b""),
        replace(
            current_names(est_device),
            alternative=x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("spiffe://fleet.example/device/other")]
            ).public_bytes(),
        ),
    ):
        assert refusal(renew(est_device, names)) == (403, "csr-subject-changed")


def test_renewal_that_asks_for_another_name_is_refused(est_device: SiteDevice) -> None:
    wish = der.write(
        der.SEQUENCE,
        der.write_oid(CHANGE_SUBJECT_NAME),
        der.write(der.SET, der.write(der.SEQUENCE)),
    )
    names, tpm = current_names(est_device), est_device.tpm
    san = der.write(
        der.SEQUENCE,
        der.write_oid("2.5.29.17"),
        der.write(der.OCTET_STRING, names.alternative),
    )
    extensions = der.write(
        der.SEQUENCE,
        der.write_oid("1.2.840.113549.1.9.14"),
        der.write(der.SET, der.write(der.SEQUENCE, san)),
    )
    csr = build_request(
        names.subject.public_bytes(),
        parse_public(tpm.public_area(KeyRole.LDEVID)).spki_der,
        None,
        algorithm=der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.2")),
        sign=lambda data: tpm.sign_digest(KeyRole.LDEVID, hashlib.sha256(data).digest()),
        attributes=(wish, extensions),
    )

    answer = est_device.new_client().post(f"{PATH}/simplereenroll", encode_body(csr), PKCS10)

    assert refusal(answer) == (403, "csr-subject-changed")
    assert "ChangeSubjectName" in answer.json["detail"]


def test_renewal_without_fresh_proofs_is_told_what_is_missing(est_device: SiteDevice) -> None:
    def plain(request: EnrolmentRequest) -> EnrolmentRequest:
        return replace(
            request, ldevid_certify=None, evidence=b"", iak_public=b"", ldevid_public=b""
        )

    names = current_names(est_device)
    answer = enrol(
        est_device, plain, client=est_device.new_client(), operation="simplereenroll", names=names
    )

    assert refusal(answer) == (403, "proofs-missing")
    assert "residency; evidence" in answer.json["detail"]


def test_manufacturers_identity_does_not_renew(est_device: SiteDevice) -> None:
    answer = enrol(est_device, operation="simplereenroll", names=current_names(est_device))

    assert refusal(answer) == (401, "client-certificate-wrong")


def test_revoked_device_does_not_renew(site: VerifierSite, est_device: SiteDevice) -> None:
    Devices(site.running.store).revoke(est_device.device_id, "stolen", datetime.now(UTC))
    body = encode_body(
        csr_of(est_device, est_device.enrolment_request(challenge_of(est_device.idevid_client())))
    )

    answer = est_device.new_client().post(f"{PATH}/simplereenroll", body, PKCS10)

    assert refusal(answer) == (403, "device-revoked")


# --- results that are shown ------------------------------------------------------------------


def with_result(device: SiteDevice, result: str) -> Answer:
    return enrol(device, lambda request: replace(request, result=result))


@pytest.fixture
def affirmed(site: VerifierSite, est_device: SiteDevice) -> tuple[SiteDevice, str]:
    """A device whose newest result is affirming, and that result."""
    site.learn(f"as {est_device.device_id}", est_device)
    in_use()
    answer = est_device.attest().json
    assert answer["status"] == "affirming", answer["reasons"]
    return est_device, answer["result"]


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_affirming_result_of_ours_is_taken(affirmed: tuple[SiteDevice, str]) -> None:
    device, token = affirmed

    assert with_result(device, token).status == 200


def test_result_by_another_signer_is_refused(
    affirmed: tuple[SiteDevice, str], tmp_path: Path
) -> None:
    device, token = affirmed
    foreign = VerifierSite(tmp_path, SoftManufacturer("Foreign"))
    signer = KeyRing(foreign.folder / "keys")

    answer = with_result(device, signer.sign_claims(claims_of(token)))

    assert refusal(answer) == (403, "result-signature-invalid")


def test_result_that_has_ended_is_refused(
    site: VerifierSite, affirmed: tuple[SiteDevice, str]
) -> None:
    device, token = affirmed
    past = datetime.now(UTC) - timedelta(hours=3)
    claims = claims_of(token) | {"iat": int(past.timestamp()), "exp": int(past.timestamp()) + 60}

    answer = with_result(device, site.running.ring.sign_claims(claims))

    assert refusal(answer) == (403, "result-expired")


def test_result_about_another_device_is_refused(
    affirmed: tuple[SiteDevice, str], new_device: NewDevice
) -> None:
    _, token = affirmed
    other = new_device()
    adopt(other, enrol(other))

    assert refusal(with_result(other, token)) == (403, "result-not-acceptable")


def test_result_that_something_worse_followed_is_refused(
    affirmed: tuple[SiteDevice, str],
) -> None:
    device, token = affirmed
    device.tamper()
    assert device.attest().json["status"] == "contraindicated"
    assert device.log is not None
    device.boot(device.log)

    assert refusal(with_result(device, token)) == (403, "result-not-acceptable")
