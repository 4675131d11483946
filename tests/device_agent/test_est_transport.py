"""Enrolment by EST against a server that does not give what it should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.evidence import certify_qualifying_data
from attestation.wire.attested_csr import names_asked, names_of, read_attested_csr
from attestation.wire.enrolment_codec import EnrolmentRequest, encode_enrolment
from attestation.wire.est import (
    NonceResponse,
    certs_only,
    decode_body,
    encode_body,
    encode_nonce_response,
)
from device_agent.errors import (
    CertificateUnusable,
    SettingsInvalid,
    TpmRefused,
    VerifierRefused,
    VerifierUnreachable,
)
from device_agent.lifecycle import Credential
from device_agent.ports import KeyRole
from device_agent.settings import EnrolmentSettings
from device_agent.transport.connection import Answer
from device_agent.transport.est import EstEnroller, est_door
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_manufacturer import SoftManufacturer

MAKER = SoftManufacturer()
ROOT_KEY, CA_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.now(UTC)
    named = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (name, issuer)
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(named[0])
        .issuer_name(named[1])
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(signer, SHA256())
    )


ROOT = certificate("root", ROOT_KEY.public_key(), "root", ROOT_KEY)
CA = certificate("ca", CA_KEY.public_key(), "root", ROOT_KEY)


def found(body: bytes) -> Answer:
    return Answer(status=200, headers={}, body=body)


def holding(*certificates: x509.Certificate) -> Answer:
    return found(encode_body(certs_only(certificates)))


@dataclass
class Server:
    """Answers each operation as it is told."""

    answers: dict[str, Answer]
    role: KeyRole = KeyRole.IDEVID
    asked: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)

    def ask(
        self,
        role: KeyRole,
        method: str,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        again: bool,
    ) -> Answer:
        assert role is self.role
        assert again is (method == "GET")
        self.asked.append((method, path, headers, body))
        return self.answers[path.rpartition("/")[2]]


@pytest.fixture(scope="module")
def tpm() -> SoftTpm:
    made = SoftTpm(MAKER, serial="D-1")
    made.create_ldevid()
    return made


def request_of(tpm: SoftTpm) -> EnrolmentRequest:
    idevid, iak = tpm.certificate(KeyRole.IDEVID), tpm.certificate(KeyRole.IAK)
    assert idevid is not None
    assert iak is not None
    return EnrolmentRequest(
        idevid_chain=(idevid,),
        iak_chain=(iak,),
        idevid_public=tpm.public_area(KeyRole.IDEVID),
        iak_public=tpm.public_area(KeyRole.IAK),
        ldevid_public=tpm.public_area(KeyRole.LDEVID),
        idevid_certify=tpm.certify(KeyRole.IDEVID, certify_qualifying_data(b"n", "idevid")),
        ldevid_certify=tpm.certify(KeyRole.LDEVID, certify_qualifying_data(b"n", "ldevid")),
        csr=tpm.csr(KeyRole.LDEVID, "device", ()),
        evidence=b"\xa1evidence",
    )


def leaf_for(tpm: SoftTpm, name: str = "d-1") -> x509.Certificate:
    key = tpm.keys[KeyRole.LDEVID].private.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return certificate(name, key, "ca", CA_KEY)


def enrol(tpm: SoftTpm, issued: Answer, authorities: Answer) -> tuple[Server, object]:
    server = Server({"simpleenroll": issued, "cacerts": authorities})
    reply = EstEnroller(server, tpm).enrol(encode_enrolment(request_of(tpm)))
    return server, reply


def test_request_is_the_same_as_for_our_own_door(tpm: SoftTpm) -> None:
    server, _ = enrol(tpm, holding(leaf_for(tpm)), holding(ROOT, CA))

    method, path, headers, body = server.asked[0]
    csr = decode_body(body)
    wanted = request_of(tpm)
    seen = read_attested_csr(csr)
    assert (method, path) == ("POST", "/.well-known/est/simpleenroll")
    assert headers["Content-Type"] == "application/pkcs10"
    assert (seen.idevid_chain, seen.iak_chain) == (wanted.idevid_chain, wanted.iak_chain)
    assert (seen.evidence, seen.iak_public) == (wanted.evidence, wanted.iak_public)
    assert x509.load_der_x509_csr(csr).is_signature_valid


def test_chain_goes_from_the_leaf_to_below_the_root(tpm: SoftTpm) -> None:
    leaf = leaf_for(tpm)
    _, reply = enrol(tpm, holding(leaf), holding(ROOT, CA))

    chain = x509.load_pem_x509_certificates(reply.certificate_chain_pem.encode())  # type: ignore[attr-defined]
    assert chain == [leaf, CA]
    assert reply.device_id == "d-1"  # type: ignore[attr-defined]


def test_answers_that_are_none_are_refused(tpm: SoftTpm) -> None:
    leaf, good = leaf_for(tpm), holding(ROOT, CA)
    another = certificate("d-1", OTHER_KEY.public_key(), "ca", CA_KEY)
    forged = certificate("ca", OTHER_KEY.public_key(), "root", ROOT_KEY)

    for issued, authorities, words in (
        (holding(another), good, "for the key"),
        (holding(leaf, CA), good, "for the key"),
        (found(b"junk!"), good, "no certificates"),
        (found(encode_body(b"\x30\x00")), good, "no certificates"),
        (holding(leaf), found(b""), "no certificates"),
        (holding(leaf), holding(ROOT), "none of its authorities"),
        (holding(leaf), holding(ROOT, forged), "none of its authorities"),
        (holding(leaf_for(tpm, "Not An Id!")), good, "names no device"),
        (Answer(status=202, headers={}, body=b"{}"), good, "HTTP 202"),
    ):
        with pytest.raises(VerifierUnreachable, match=words):
            enrol(tpm, issued, authorities)


def test_refusal_keeps_its_code(tpm: SoftTpm) -> None:
    problem = b'{"code": "proofs-missing", "detail": "class edge wants evidence"}'

    with pytest.raises(VerifierRefused) as refused:
        enrol(tpm, Answer(status=403, headers={}, body=problem), holding(CA))

    assert refused.value.code == "proofs-missing"


def test_nonce_without_the_pcrs_to_quote_is_of_no_use(tpm: SoftTpm) -> None:
    for body in (b"{}", encode_nonce_response(NonceResponse(nonce=bytes(8)))):
        with pytest.raises(VerifierUnreachable, match="no nonce"):
            EstEnroller(Server({"nonce": found(body)}), tpm).enrolment_challenge()


def test_key_that_is_in_no_slot_is_not_signed_for(tpm: SoftTpm) -> None:
    other = SoftTpm(MAKER, serial="D-2")
    other.create_ldevid()

    with pytest.raises(TpmRefused, match="neither slot"):
        EstEnroller(Server({}), tpm).enrol(encode_enrolment(request_of(other)))


def test_est_is_for_devices_with_a_manufacturers_identity(tpm: SoftTpm) -> None:
    enroller = EstEnroller(Server({}), tpm)

    assert enroller.enrols_as() is KeyRole.IDEVID
    with pytest.raises(SettingsInvalid, match="no challenge by endorsement key"):
        enroller.begin_activation(b"asked")


# --- renewal ---------------------------------------------------------------------------------
def held(pem: str) -> Credential:
    now = datetime.now(UTC)
    return Credential(
        device_id="d-1",
        certificate_chain_pem=pem,
        obtained_at=now,
        not_after=now + timedelta(days=1),
    )


def pem(one: x509.Certificate) -> str:
    return one.public_bytes(Encoding.PEM).decode()


def test_certificate_in_hand_is_renewed_over_itself_with_its_own_names(tpm: SoftTpm) -> None:
    leaf = leaf_for(tpm)
    answers = {"simplereenroll": holding(leaf), "cacerts": holding(ROOT, CA)}
    server = Server(answers, role=KeyRole.LDEVID)
    enroller = EstEnroller(server, tpm, "edge", lambda: held(pem(leaf) + pem(CA)))

    reply = enroller.enrol(encode_enrolment(request_of(tpm)))

    assert enroller.enrols_as() is KeyRole.LDEVID
    assert reply.device_id == "d-1"
    paths = [path for _, path, _, _ in server.asked]
    assert paths == ["/.well-known/est/edge/simplereenroll", "/.well-known/est/edge/cacerts"]
    assert names_asked(decode_body(server.asked[0][3])) == names_of(leaf)


def test_first_enrolment_is_the_same_with_nothing_in_hand(tpm: SoftTpm) -> None:
    server = Server({"simpleenroll": holding(leaf_for(tpm)), "cacerts": holding(ROOT, CA)})

    EstEnroller(server, tpm, "", lambda: None).enrol(encode_enrolment(request_of(tpm)))

    assert server.asked[0][1] == "/.well-known/est/simpleenroll"


def test_certificate_that_cannot_be_read_is_not_renewed(tpm: SoftTpm) -> None:
    enroller = EstEnroller(Server({}), tpm, "", lambda: held("junk"))

    with pytest.raises(CertificateUnusable, match="cannot be read"):
        enroller.enrol(encode_enrolment(request_of(tpm)))


@pytest.mark.parametrize("trust", ["tpm-ek", "both"])
def test_settings_that_est_cannot_serve_are_refused_at_once(tpm: SoftTpm, trust: str) -> None:
    given = EnrolmentSettings(door="est", initial_trust=trust)

    with pytest.raises(SettingsInvalid, match="no challenge by endorsement key"):
        est_door(given, Server({}), tpm, lambda: None)


def test_settings_label_is_asked_for(tpm: SoftTpm) -> None:
    server = Server({"nonce": found(encode_nonce_response(NonceResponse(nonce=bytes(8))))})
    door = est_door(EnrolmentSettings(door="est", est_label="edge"), server, tpm, lambda: None)

    with pytest.raises(VerifierUnreachable, match="no nonce"):
        door.enrolment_challenge()

    assert server.asked[0][1] == "/.well-known/est/edge/nonce"
