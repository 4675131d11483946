"""Keys, signatures and requests in a real (software) TPM; nothing transient stays behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.pcr import parse_selection
from attestation.reader import pack
from attestation.tpm.public import parse_public
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import DeviceAgentError, TpmKeyMissing, TpmRefused
from device_agent.ports import LDEVID_SLOTS, KeyRole, WrappedKey
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout

pytestmark = pytest.mark.tpm

TRANSIENT = 0x80000000
LOADED_SESSIONS = 0x02000000
SAVED_SESSIONS = 0x03000000
SELECTIONS = parse_selection("sha256:0,7")


def loaded(swtpm: SoftwareTpm) -> dict[int, int]:
    """Count handles by TPM2_GetCapability over a line of our own."""
    counts = {}
    for first in (TRANSIENT, LOADED_SESSIONS, SAVED_SESSIONS):
        answer = swtpm.command(0x8001, 0x17A, pack(">III", 1, first, 16))
        counts[first] = int.from_bytes(answer[5:9], "big")
    return counts


def use_wrapped(tpm: EsapiTpm, key: WrappedKey) -> None:
    tpm.certify_wrapped(key, bytes(32))
    tpm.sign_wrapped(key, bytes(32))
    tpm.csr_wrapped(key, "agent", [])


NOTHING = {TRANSIENT: 0, LOADED_SESSIONS: 0, SAVED_SESSIONS: 0}

OPERATIONS: dict[str, Callable[[EsapiTpm], object]] = {
    "status": lambda tpm: tpm.status(),
    "read_pcrs": lambda tpm: tpm.read_pcrs(SELECTIONS),
    "quote": lambda tpm: tpm.quote(SELECTIONS, bytes(32)),
    "certify idevid": lambda tpm: tpm.certify(KeyRole.IDEVID, bytes(32)),
    "certify ldevid": lambda tpm: tpm.certify(KeyRole.LDEVID, bytes(32)),
    "sign": lambda tpm: tpm.sign_digest(KeyRole.LDEVID, bytes(32)),
    "csr": lambda tpm: tpm.csr(KeyRole.LDEVID, "device-1", ["spiffe://example.test/device-1"]),
    "certificate": lambda tpm: tpm.certificate(KeyRole.IAK),
    "write certificate": lambda tpm: tpm.write_certificate(KeyRole.IAK, b"\x30\x01\x00"),
    "create ldevid": lambda tpm: tpm.create_ldevid(),
    "create and evict": lambda tpm: (
        tpm.create_ldevid(KeyRole.LDEVID_2),
        tpm.evict_ldevid(KeyRole.LDEVID_2),
    ),
    "create wrapped": lambda tpm: tpm.create_wrapped(),
    "use wrapped": lambda tpm: use_wrapped(tpm, tpm.create_wrapped()),
    "create identity keys": lambda tpm: tpm.create_identity_keys(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_transient_stays_after_success(
    tpm: EsapiTpm, swtpm: SoftwareTpm, name: str
) -> None:
    tpm.create_ldevid()
    for _ in range(4):  # one more than there are slots
        OPERATIONS[name](tpm)
    assert loaded(swtpm) == NOTHING


FAILURES: dict[str, Callable[[EsapiTpm], object]] = {
    "quote without a key": lambda tpm: tpm.quote(SELECTIONS, bytes(32)),
    "certify without a key": lambda tpm: tpm.certify(KeyRole.IDEVID, bytes(32)),
    "sign without a key": lambda tpm: tpm.sign_digest(KeyRole.LDEVID, bytes(32)),
    "csr without a key": lambda tpm: tpm.csr(KeyRole.LDEVID, "device-1", []),
    "public area without a key": lambda tpm: tpm.public_area(KeyRole.IAK),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_missing_key_is_named_and_leaves_nothing(swtpm: SoftwareTpm, name: str) -> None:
    tpm = EsapiTpm(swtpm.tcti)
    with pytest.raises(TpmKeyMissing, match="persistent handle 0x81"):
        FAILURES[name](tpm)
    assert loaded(swtpm) == NOTHING
    assert not tpm.has_key(KeyRole.IAK)
    tpm.close()


def test_a_certification_that_fails_midway_leaves_no_session(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    without_iak = EsapiTpm(swtpm.tcti, layout=TpmLayout(iak_handle=0x81020009))
    with pytest.raises(TpmKeyMissing):  # the policy session is open by then
        without_iak.certify(KeyRole.IDEVID, bytes(32))
    assert loaded(swtpm) == NOTHING
    without_iak.close()


def test_a_key_that_cannot_be_persisted_is_flushed(swtpm: SoftwareTpm) -> None:
    # The owner's authorisation is changed: CreatePrimary (endorsement) works, EvictControl fails.
    password = pack(">IHBH", 0x40000009, 0, 0, 0)
    body = pack(">II", 0x40000001, len(password)) + password + pack(">H", 3) + b"own"
    swtpm.command(0x8002, 0x129, body)  # TPM2_HierarchyChangeAuth
    tpm = EsapiTpm(swtpm.tcti)
    with pytest.raises(TpmRefused) as refused:
        tpm.create_identity_keys()
    assert refused.value.rc & 0xBF == 0xA2  # TPM_RC_BAD_AUTH
    assert loaded(swtpm) == NOTHING
    tpm.close()


def test_keys_are_kept_when_made_again(tpm: EsapiTpm) -> None:
    for slot in LDEVID_SLOTS:
        tpm.create_ldevid(slot)
    before = [tpm.public_area(role) for role in KeyRole]
    assert len(set(before)) == 4
    tpm.create_identity_keys()
    for slot in LDEVID_SLOTS:
        tpm.create_ldevid(slot)
    assert [tpm.public_area(role) for role in KeyRole] == before


def test_identity_keys_survive_a_clear_by_their_templates(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    before = [tpm.public_area(role) for role in (KeyRole.IDEVID, KeyRole.IAK)]
    tpm.quote(SELECTIONS, bytes(32))
    password = pack(">IHBH", 0x40000009, 0, 0, 0)
    swtpm.command(0x8002, 0x126, pack(">II", 0x4000000A, len(password)) + password)  # TPM2_Clear
    with pytest.raises(TpmKeyMissing):
        tpm.quote(SELECTIONS, bytes(32))
    assert not tpm.has_key(KeyRole.IAK)
    tpm.create_identity_keys()
    assert [tpm.public_area(role) for role in (KeyRole.IDEVID, KeyRole.IAK)] == before


def test_another_object_at_the_handle_is_not_taken_for_the_key(
    tpm: EsapiTpm, swtpm: SoftwareTpm
) -> None:
    confused = EsapiTpm(
        swtpm.tcti, layout=TpmLayout(idevid_handle=0x81020001, iak_handle=0x81020000)
    )
    with pytest.raises(TpmRefused, match="cannot be the idevid key"):
        confused.create_identity_keys()
    elsewhere = EsapiTpm(
        swtpm.tcti, layout=TpmLayout(srk_handle=0x81020000, idevid_handle=0x81000007)
    )
    with pytest.raises(TpmRefused, match="not a storage key"):
        elsewhere.create_ldevid()
    confused.close()
    elsewhere.close()


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_the_ldevid_signs_any_digest_that_tls_may_ask_for(
    tpm: EsapiTpm, hash_: hashes.HashAlgorithm
) -> None:
    tpm.create_ldevid()
    key = parse_public(tpm.public_area(KeyRole.LDEVID)).key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    digest = hashlib.new(hash_.name, b"transcript").digest()
    signature = tpm.sign_digest(KeyRole.LDEVID, digest)
    key.verify(signature, digest, ec.ECDSA(Prehashed(hash_)))
    with pytest.raises(InvalidSignature):
        key.verify(signature, bytes(len(digest)), ec.ECDSA(Prehashed(hash_)))


@pytest.mark.parametrize(
    ("role", "digest", "words"),
    [
        (KeyRole.IAK, bytes(32), "restricted"),
        (KeyRole.IDEVID, bytes(48), "sha256 digest only"),
        (KeyRole.LDEVID, bytes(20), "SHA-256, SHA-384 or SHA-512"),
    ],
)
def test_a_signature_that_the_key_must_not_make_is_refused(
    tpm: EsapiTpm, role: KeyRole, digest: bytes, words: str
) -> None:
    tpm.create_ldevid()
    with pytest.raises(TpmRefused, match=words):
        tpm.sign_digest(role, digest)


@pytest.mark.parametrize("role", [KeyRole.IDEVID, KeyRole.LDEVID])
def test_a_request_holds_name_uris_and_usage_and_verifies(tpm: EsapiTpm, role: KeyRole) -> None:
    tpm.create_ldevid()
    uri = "spiffe://example.test/device-1"
    request = x509.load_der_x509_csr(tpm.csr(role, "device-1", [uri]))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=device-1"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    usage = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == parse_public(tpm.public_area(role)).spki_der


def test_the_iak_makes_no_request(tpm: EsapiTpm) -> None:
    with pytest.raises(DeviceAgentError, match="restricted"):
        tpm.csr(KeyRole.IAK, "device-1", [])
