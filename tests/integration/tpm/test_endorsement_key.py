"""The endorsement key and TPM2_ActivateCredential, against the verifier's credentials."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from tpm2_pytss import ESYS_TR
from tpm2_pytss.types import TPM2B_SENSITIVE_CREATE

from attestation.errors import IdentityMismatch
from attestation.identity import KeyName
from attestation.refusals import RefusalCode
from attestation.tpm.ek_templates import EkTemplate, ek_template, with_nonce
from attestation.tpm.public import parse_public
from attestation.tpm.templates import KeyTemplate
from deploy.demo.swtpm import SoftwareTpm
from device_agent.errors import SourceUnreadable, TpmRefused
from device_agent.ports import KeyRole
from device_agent.tpm.activation import activate
from device_agent.tpm.adapter import EsapiTpm
from device_agent.tpm.connection import OpenTpm, TpmConnection
from device_agent.tpm.keys import public_of
from device_agent.tpm.layout import TpmLayout
from verifier.issuance.activation import BEGIN_ENTROPY_BYTES, ActivationAuthority, Begun
from verifier.issuance.credential_activation import Credential, EkKey, make_credential

pytestmark = pytest.mark.tpm

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = bytes(range(32))
ON_SWTPM = (
    EkTemplate.RSA_2048_LOW,
    EkTemplate.P_256_LOW,
    EkTemplate.RSA_2048,
    EkTemplate.P_256,
    EkTemplate.P_384,
    EkTemplate.P_521,
    EkTemplate.RSA_3072,
)


def tools(tpm: SoftwareTpm, *command: str, content: bytes | None = None) -> bytes:
    """Run tpm2-tools: nothing of ours takes part in it."""
    environment = {**os.environ, "TPM2TOOLS_TCTI": tpm.tcti}
    done = subprocess.run(
        command, env=environment, input=content, capture_output=True, check=True, cwd=tpm.state
    )
    return done.stdout


def transient(tpm: SoftwareTpm) -> bytes:
    """What is loaded or begun, and was not flushed."""
    return b"".join(
        tools(tpm, "tpm2_getcap", f"handles-{kind}")
        for kind in ("transient", "loaded-session", "saved-session")
    )


def certify(key: EkKey) -> bytes:
    """Make a certificate for an endorsement key as its maker would."""
    maker = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Maker")])
    return (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(maker, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def store(tpm: SoftwareTpm, index: int, content: bytes) -> None:
    """Write what a TPM leaves its maker with into NV."""
    tools(tpm, "tpm2_nvdefine", hex(index), "-C", "o", "-s", str(len(content)))
    tools(tpm, "tpm2_nvwrite", hex(index), "-C", "o", "-i", "-", content=content)


def make_ek(tpm: SoftwareTpm, area: bytes, handle: int | None = None) -> EkKey:
    """Make an endorsement key by a template; forget it (the seed gives it again) or persist it."""

    def make(opened: OpenTpm) -> EkKey:
        made, public, _, _, _ = opened.esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), public_of(area), primary_handle=ESYS_TR.ENDORSEMENT
        )
        if handle is not None:
            opened.esapi.evict_control(ESYS_TR.OWNER, made, handle)
        opened.esapi.flush_context(made)
        return parse_public(bytes(public.publicArea.marshal())).key

    connection = TpmConnection(tpm.tcti)
    try:
        return connection.run("make an EK", make)
    finally:
        connection.close()


def endorse(tpm: SoftwareTpm, template: EkTemplate, area: bytes | None = None) -> EkKey:
    """Give a TPM the certificate of its endorsement key, as makers leave it: padded."""
    key = make_ek(tpm, ek_template(template) if area is None else area)
    store(tpm, template.certificate_nv, certify(key) + bytes(17))
    return key


def wrap(ek: EkKey, name: KeyName, secret: bytes = SECRET) -> Credential:
    return make_credential(ek, name, secret, entropy=secrets.token_bytes(138))


def iak_name(tpm: EsapiTpm) -> KeyName:
    return parse_public(tpm.public_area(KeyRole.IAK)).name


@pytest.mark.parametrize("template", ON_SWTPM)
def test_secret_comes_back_for_every_kind_of_endorsement_key(
    swtpm: SoftwareTpm, tpm: EsapiTpm, template: EkTemplate
) -> None:
    ek = endorse(swtpm, template)
    told = tpm.endorsement()
    assert (told.template, told.chain) == (template, ())
    assert parse_public(told.public).key == ek
    assert told.certificate is not None
    assert told.certificate == tpm.ek_certificate()

    credential = wrap(ek, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET
    assert transient(swtpm) == b""


@pytest.mark.parametrize("kind", [KeyTemplate.P_256, KeyTemplate.P_384, KeyTemplate.RSA_2048])
def test_secret_comes_back_for_every_kind_of_attestation_key(
    swtpm: SoftwareTpm, kind: KeyTemplate
) -> None:
    tpm = EsapiTpm(swtpm.tcti, layout=TpmLayout(template=kind))
    tpm.create_identity_keys()
    ek = parse_public(tpm.endorsement().public).key
    credential = wrap(ek, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET
    tpm.close()


def test_tpm_without_certificate_tells_its_low_p256_key(swtpm: SoftwareTpm, tpm: EsapiTpm) -> None:
    told = tpm.endorsement()
    assert (told.template, told.certificate) == (EkTemplate.P_256_LOW, None)
    assert told.public == tpm.endorsement().public
    tools(swtpm, "tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub")
    assert (swtpm.state / "ek.pub").read_bytes()[2:] == told.public


@pytest.mark.parametrize("template", [EkTemplate.RSA_2048, EkTemplate.P_384])
def test_maker_that_filled_unique_with_zeros_is_followed(
    swtpm: SoftwareTpm, tpm: EsapiTpm, template: EkTemplate
) -> None:
    ek = endorse(swtpm, template, ek_template(template, zeros=True))
    assert ek != make_ek(swtpm, ek_template(template))
    credential = wrap(ek, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET


@pytest.mark.parametrize("template", [EkTemplate.RSA_2048_LOW, EkTemplate.P_256_LOW])
@pytest.mark.parametrize("stored", [False, True], ids=["nonce", "template and nonce"])
def test_nonce_and_template_in_nv_are_used(
    swtpm: SoftwareTpm, tpm: EsapiTpm, template: EkTemplate, *, stored: bool
) -> None:
    nonce = bytes(range(1, 21))
    assert template.nonce_nv is not None
    store(swtpm, template.nonce_nv, nonce)
    area = ek_template(template, nonce=nonce)
    if stored:
        store(swtpm, template.template_nv, ek_template(template))
        assert with_nonce(ek_template(template), template, nonce) == area
    ek = endorse(swtpm, template, area)
    assert parse_public(tpm.endorsement().public).key == ek
    credential = wrap(ek, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET


@pytest.mark.parametrize("template", [EkTemplate.RSA_2048_LOW, EkTemplate.P_256])
def test_persistent_key_is_used_as_it_is(
    swtpm: SoftwareTpm, tpm: EsapiTpm, template: EkTemplate
) -> None:
    """One that no template of the profile gives: only the persistent handle reaches it."""
    nonce = b"forgotten by its maker"
    low = template.is_low
    area = ek_template(template, nonce=nonce) if low else ek_template(template, zeros=True)
    area = area if low else area[:-1] + b"\x01"
    ek = make_ek(swtpm, area, 0x81010001)
    store(swtpm, template.certificate_nv, certify(ek))
    assert parse_public(tpm.endorsement().public).key == ek
    credential = wrap(ek, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET
    assert transient(swtpm) == b""


def test_tpm_prepared_by_its_maker_gives_the_secret_back(endorsed_swtpm: SoftwareTpm) -> None:
    tpm = EsapiTpm(endorsed_swtpm.tcti)
    tpm.create_identity_keys()
    told = tpm.endorsement()
    assert told.certificate is not None
    certified = x509.load_der_x509_certificate(told.certificate).public_key()
    assert parse_public(told.public).key == certified
    assert isinstance(certified, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    credential = wrap(certified, iak_name(tpm))
    assert activate(tpm, credential.blob, credential.encrypted_seed) == SECRET
    tpm.close()


def test_certificate_of_another_tpm_is_refused(swtpm: SoftwareTpm, tpm: EsapiTpm) -> None:
    foreign = ec.generate_private_key(ec.SECP256R1()).public_key()
    store(swtpm, EkTemplate.P_256_LOW.certificate_nv, certify(foreign))
    with pytest.raises(TpmRefused, match="another key"):
        tpm.endorsement()
    assert transient(swtpm) == b""


def test_rubbish_for_a_certificate_is_said_to_be_rubbish(swtpm: SoftwareTpm, tpm: EsapiTpm) -> None:
    store(swtpm, EkTemplate.P_256_LOW.certificate_nv, b"\x30\x03\x02\x01\x05")
    with pytest.raises(SourceUnreadable):
        tpm.endorsement()


@pytest.fixture
def other_tpm() -> Iterator[EsapiTpm]:
    with SoftwareTpm() as software:
        adapter = EsapiTpm(software.tcti)
        adapter.create_identity_keys()
        yield adapter
        adapter.close()


def test_tpm_refuses_the_attestation_key_of_another_tpm(
    swtpm: SoftwareTpm, tpm: EsapiTpm, other_tpm: EsapiTpm
) -> None:
    ek = parse_public(tpm.endorsement().public).key
    credential = wrap(ek, iak_name(other_tpm))
    with pytest.raises(TpmRefused):
        activate(tpm, credential.blob, credential.encrypted_seed)
    with pytest.raises(TpmRefused):
        activate(other_tpm, credential.blob, credential.encrypted_seed)
    assert transient(swtpm) == b""
    own = wrap(ek, iak_name(tpm))
    assert activate(tpm, own.blob, own.encrypted_seed) == SECRET


@pytest.mark.parametrize("change", [b"", b"\x00", b"\x00\x01", b"\xff" * 70_000])
def test_malformed_credentials_are_refused_before_the_tpm(tpm: EsapiTpm, change: bytes) -> None:
    good = wrap(parse_public(tpm.endorsement().public).key, iak_name(tpm))
    with pytest.raises(TpmRefused):
        activate(tpm, change, good.encrypted_seed)
    with pytest.raises(TpmRefused):
        activate(tpm, good.blob, change)


def test_verifier_believes_the_answer_of_that_tpm_only(tpm: EsapiTpm, other_tpm: EsapiTpm) -> None:
    authority = ActivationAuthority(keys=(secrets.token_bytes(32),))

    def begin(of: EsapiTpm) -> Begun:
        return authority.begin(
            parse_public(of.endorsement().public).key,
            ek_sha256=bytes(32),
            ak_name=iak_name(of),
            subject="device",
            at=NOW,
            entropy=secrets.token_bytes(BEGIN_ENTROPY_BYTES),
        )

    first = begin(tpm)
    answer = activate(tpm, first.credential.blob, first.credential.encrypted_seed)
    assert authority.open(first.activation, NOW).prove(answer) == iak_name(tpm)

    others = begin(other_tpm)
    foreign = activate(other_tpm, others.credential.blob, others.credential.encrypted_seed)
    with pytest.raises(IdentityMismatch) as caught:
        authority.open(begin(tpm).activation, NOW).prove(foreign)
    assert caught.value.code is RefusalCode.CREDENTIAL_ACTIVATION_FAILED
