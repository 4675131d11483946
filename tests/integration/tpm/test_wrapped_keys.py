"""AI agents' keys in a real (software) TPM: kept wrapped, of use there only, never in clear."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.reader import pack
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import parse_public, require_device_key
from attestation.tpm.signature import verify_attest
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import TpmKeyMissing, TpmRefused
from device_agent.ports import KeyRole, WrappedKey
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.layout import TpmLayout
from tests.integration.tpm.test_tpm_keys import NOTHING, loaded

pytestmark = pytest.mark.tpm

DIGEST = hashlib.sha256(b"what is signed").digest()
USES: dict[str, Callable[[EsapiTpm, WrappedKey], object]] = {
    "certify": lambda tpm, key: tpm.certify_wrapped(key, DIGEST),
    "sign": lambda tpm, key: tpm.sign_wrapped(key, DIGEST),
    "csr": lambda tpm, key: tpm.csr_wrapped(key, "agent", []),
}


def clear(swtpm: SoftwareTpm) -> None:
    """TPM2_Clear: another owner."""
    password = pack(">IHBH", 0x40000009, 0, 0, 0)
    swtpm.command(0x8002, 0x126, pack(">II", 0x4000000A, len(password)) + password)


def test_each_key_is_another_and_what_its_template_promises(tpm: EsapiTpm) -> None:
    keys = [tpm.create_wrapped() for _ in range(5)]

    assert len({key.public for key in keys}) == 5
    assert len({key.private for key in keys}) == 5
    for key in keys:
        require_device_key(parse_public(key.public))


def test_a_wrapped_key_signs_what_its_public_key_verifies(tpm: EsapiTpm) -> None:
    key = tpm.create_wrapped()
    public = parse_public(key.public).key
    assert isinstance(public, ec.EllipticCurvePublicKey)

    signature = tpm.sign_wrapped(key, DIGEST)

    public.verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
    with pytest.raises(InvalidSignature):
        public.verify(signature, bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))


def test_the_iak_certifies_a_wrapped_key(tpm: EsapiTpm) -> None:
    key = tpm.create_wrapped()

    quote = tpm.certify_wrapped(key, DIGEST)

    verify_attest(parse_public(tpm.public_area(KeyRole.IAK)), quote.attest, quote.signature)
    said = parse_attest(quote.attest)
    assert said.certified is not None
    assert said.certified.name == parse_public(key.public).name
    assert said.extra == DIGEST


def test_a_request_by_a_wrapped_key_verifies(tpm: EsapiTpm) -> None:
    key = tpm.create_wrapped()

    request = x509.load_der_x509_csr(tpm.csr_wrapped(key, "agent-1", ["spiffe://e.test/a"]))

    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=agent-1"
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == parse_public(key.public).spki_der


def test_a_wrapped_key_works_after_a_power_cycle(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    key = tpm.create_wrapped()
    swtpm.power_cycle()

    assert tpm.sign_wrapped(key, DIGEST)


@pytest.mark.parametrize("use", USES)
def test_a_key_of_another_tpm_is_refused(tpm: EsapiTpm, swtpm: SoftwareTpm, use: str) -> None:
    with SoftwareTpm() as chip:
        other = EsapiTpm(chip.tcti)
        theirs = other.create_wrapped()
        other.close()
    tpm.create_wrapped()

    with pytest.raises(TpmRefused, match="of another TPM"):
        USES[use](tpm, theirs)

    assert loaded(swtpm) == NOTHING


@pytest.mark.parametrize("use", USES)
def test_a_key_of_the_tpms_former_owner_is_refused(
    tpm: EsapiTpm, swtpm: SoftwareTpm, use: str
) -> None:
    key = tpm.create_wrapped()
    clear(swtpm)
    tpm.create_identity_keys()

    with pytest.raises(TpmRefused, match="was cleared since"):
        USES[use](tpm, key)


def test_no_changed_byte_of_a_wrapped_key_is_taken(tpm: EsapiTpm, swtpm: SoftwareTpm) -> None:
    key = tpm.create_wrapped()
    for position in (*range(0, len(key.private), 7), len(key.private) - 1):
        changed = bytearray(key.private)
        changed[position] ^= 1
        with pytest.raises(TpmRefused, match="its file was changed"):
            tpm.sign_wrapped(replace(key, private=bytes(changed)), DIGEST)
    assert tpm.sign_wrapped(key, DIGEST)
    assert loaded(swtpm) == NOTHING


@pytest.mark.parametrize("private", [b"", b"\x00", b"\xff" * 64, b"\x00" * 5000])
def test_what_is_no_wrapped_key_at_all_is_refused(tpm: EsapiTpm, private: bytes) -> None:
    key = tpm.create_wrapped()

    with pytest.raises(TpmRefused, match="wrapped key cannot be loaded"):
        tpm.sign_wrapped(replace(key, private=private), DIGEST)


@pytest.mark.parametrize("public", [b"", b"\x00\x23", b"\xff" * 90, b"\x00" * 5000])
def test_a_public_area_that_is_none_is_refused(tpm: EsapiTpm, public: bytes) -> None:
    key = tpm.create_wrapped()

    with pytest.raises(TpmRefused, match="wrapped key cannot be loaded"):
        tpm.sign_wrapped(replace(key, public=public), DIGEST)


def test_the_public_area_of_another_key_is_not_taken_with_the_private_one(tpm: EsapiTpm) -> None:
    one, other = tpm.create_wrapped(), tpm.create_wrapped()

    with pytest.raises(TpmRefused, match="its file was changed"):
        tpm.sign_wrapped(replace(one, public=other.public), DIGEST)


def test_without_an_iak_nothing_is_certified_and_nothing_stays(swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(swtpm.tcti, layout=TpmLayout())
    key = tpm.create_wrapped()

    with pytest.raises(TpmKeyMissing):
        tpm.certify_wrapped(key, DIGEST)

    assert loaded(swtpm) == NOTHING
    tpm.close()


def test_only_sha256_digests_are_signed(tpm: EsapiTpm) -> None:
    with pytest.raises(TpmRefused, match="was given 48 bytes"):
        tpm.sign_wrapped(tpm.create_wrapped(), bytes(48))


def test_what_is_written_of_a_wrapped_key_does_not_show_its_secret_part(tpm: EsapiTpm) -> None:
    key = tpm.create_wrapped()

    assert key.private.hex() not in repr(key)
    assert repr(key.private) not in repr(key)
