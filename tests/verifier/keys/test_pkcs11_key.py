"""CA keys in a PKCS#11 token: real SoftHSM tokens; openssl checks what they signed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509 import ocsp
from pkcs11 import Attribute, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from attestation.identity import device_id
from attestation.refusals import RefusalCode
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.softhsm import PIN, tokens
from tests.simulators.verifier_site import VerifierSite
from tests.verifier.keys.authority_site import AT, DAY, Keys
from verifier.errors import ServiceError, SettingsInvalid, Unavailable
from verifier.issuance.profiles import Issuer, certificate_serial, ldevid_certificate
from verifier.keys.ca_keys import CaKeys
from verifier.keys.ceremony import Ceremony
from verifier.keys.offline_root import OFFLINE_ROOT, open_root
from verifier.keys.pkcs11_key import Token, TokenKey
from verifier.keys.register import KeyKind, pem
from verifier.keys.secret_source import MIN_PIN_CHARS, SecretSource
from verifier.settings import AuthoritySettings
from verifier.sources import SystemClock, SystemEntropy


def pin_file(folder: Path, pin: str = PIN) -> Path:
    path = folder / "token.pin"
    path.touch(0o600)
    path.write_text(pin + "\n")
    return path


def source(path: Path) -> SecretSource:
    return SecretSource(purpose="PIN", path=path, is_credential=False, minimum=MIN_PIN_CHARS)


def in_token(folder: Path, label: str = "") -> AuthoritySettings:
    return AuthoritySettings(
        backend="pkcs11",
        pkcs11_module=tokens().module,
        pkcs11_token=label or tokens().take(),
        pin_file=str(pin_file(folder)),
    )


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys.made(tmp_path)
    made.settings = in_token(tmp_path)
    return made


def opened(keys: Keys) -> Token:
    return Token(
        keys.settings.pkcs11_module,
        keys.settings.pkcs11_token,
        source(Path(keys.settings.pin_file)),
    )


def rotated(keys: Keys) -> Issuer:
    keys.ceremony.rotate(keys.root(), "fleet", AT)
    return keys.authority().issuer()


def leaf(issuer: Issuer) -> x509.Certificate:
    return ldevid_certificate(
        device_id("edge-1"),
        "SN-1",
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        issuer,
        trust_domain="fleet.example",
        serial=certificate_serial(SystemEntropy().take(16)),
        at=AT,
        lifetime=90 * DAY,
    )


def openssl(*words: str | Path) -> str:
    ran = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr


def test_rotation_moves_issuing_into_the_token_and_openssl_agrees(
    keys: Keys, tmp_path: Path
) -> None:
    issuer = rotated(keys)
    entry = next(iter(keys.authority().described()[1:]))
    assert entry[1] == issuer.certificate
    for name, certificate in (
        ("root", keys.root().certificate),
        ("middle", issuer.certificate),
        ("leaf", leaf(issuer)),
    ):
        (tmp_path / name).write_bytes(pem(certificate))

    said = openssl(
        *("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", tmp_path / "root"),
        *("-attime", str(int(AT.timestamp())), "-untrusted", tmp_path / "middle"),
        tmp_path / "leaf",
    )

    assert isinstance(issuer.key, TokenKey)
    assert said.strip().endswith("leaf: OK")
    assert len(keys.authority().issuers()) == 2, "the file's CA signs its own list on"


def test_revocation_lists_and_ocsp_answers_are_signed_in_the_token(
    keys: Keys, tmp_path: Path
) -> None:
    issuer = rotated(keys)
    end = leaf(issuer)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(AT)
        .next_update(AT + DAY)
        .sign(issuer.key, issuer.digest)
    )
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=end,
            issuer=issuer.certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=AT,
            next_update=AT + DAY,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
        .sign(issuer.key, issuer.digest)
    )
    (tmp_path / "crl").write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "answer").write_bytes(answer.public_bytes(serialization.Encoding.DER))
    (tmp_path / "ca").write_bytes(pem(issuer.certificate))

    assert "verify OK" in openssl("crl", "-in", tmp_path / "crl", "-CAfile", tmp_path / "ca")
    said = openssl(
        *("ocsp", "-respin", tmp_path / "answer", "-verify_other", tmp_path / "ca"),
        *("-trust_other", "-no_cert_checks", "-CAfile", tmp_path / "ca", "-partial_chain"),
    )
    assert "Response verify OK" in said


def test_private_key_does_not_leave_the_token(keys: Keys) -> None:
    issuer = rotated(keys)
    assert isinstance(issuer.key, TokenKey)

    with pytest.raises(ValueError, match="leave"):
        issuer.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    with pytest.raises(ValueError, match="leave"):
        issuer.key.private_numbers()
    with pytest.raises(ValueError, match="signs"):
        issuer.key.exchange(ec.ECDH(), issuer.key.public_key())
    session = opened(keys)._opened()
    (private,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    assert (private[Attribute.SENSITIVE], private[Attribute.EXTRACTABLE]) == (True, False)
    assert not list((keys.directory / "authority").glob(f"*{issuer.certificate.serial_number}*"))


def test_token_signs_what_it_hashed_itself_only(keys: Keys) -> None:
    key = rotated(keys).key
    assert isinstance(key, TokenKey)

    with pytest.raises(ValueError, match="hashed here"):
        key.sign(bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))


def test_verifier_enrols_devices_with_a_key_in_the_token(tmp_path: Path) -> None:
    label, pin = tokens().take(), pin_file(tmp_path)
    site = VerifierSite(
        tmp_path / "site",
        SoftManufacturer(),
        extra=f"""
[authority]
backend = "pkcs11"
pkcs11_module = "{tokens().module}"
pkcs11_token = "{label}"
pin_file = "{pin}"
""",
    )
    directory = site.folder / "keys"
    own = CaKeys(directory, site.settings.authority, {})
    ceremony = Ceremony(directory, site.settings.authority, own, SystemEntropy())
    entry = ceremony.rotate(open_root(directory / OFFLINE_ROOT, None), "f", SystemClock().now())

    with site:
        device = site.device()
        assert device.enrol().status == 201
        assert device.attest().status == 200
        chain = x509.load_pem_x509_certificates(device.chain_pem)

    assert entry.key.kind is KeyKind.PKCS11
    chain[0].verify_directly_issued_by(chain[1])
    assert chain[1] == site_certificate(site, entry.certificate)


def site_certificate(site: VerifierSite, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((site.folder / "keys" / name).read_bytes())


def test_lost_session_is_opened_again_without_anybody_noticing(keys: Keys) -> None:
    issuer = rotated(keys)
    assert isinstance(issuer.key, TokenKey)
    session = issuer.key._token._session
    assert session is not None
    session.close()

    leaf(issuer).verify_directly_issued_by(issuer.certificate)


def test_module_that_was_restarted_is_used_again(keys: Keys) -> None:
    issuer = rotated(keys)
    pkcs11.lib(tokens().module).reinitialize()

    leaf(issuer).verify_directly_issued_by(issuer.certificate)


def test_wrong_pin_is_tried_once_and_not_again(keys: Keys, tmp_path: Path) -> None:
    wrong = pin_file(tmp_path, "0000")
    token = Token(keys.settings.pkcs11_module, keys.settings.pkcs11_token, source(wrong))

    with pytest.raises(Unavailable, match="refuses the PIN") as refused:
        token.generate("k", b"k")

    assert refused.value.code is RefusalCode.CA_PIN_REFUSED
    assert "0000" not in str(refused.value)
    pin_file(tmp_path)
    with pytest.raises(Unavailable) as again:
        token.generate("k", b"k")
    assert again.value.code is RefusalCode.CA_PIN_REFUSED
    opened(keys).generate("k", b"k")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pkcs11_token": "not-plugged-in"}, RefusalCode.CA_TOKEN_ABSENT),
        ({"pkcs11_module": "/nowhere/module.so"}, RefusalCode.CA_TOKEN_ABSENT),
        ({"pkcs11_token": ""}, RefusalCode.SETTINGS_INVALID),
        ({"pin_file": ""}, RefusalCode.SETTINGS_INVALID),
        ({"pin_file": "/nowhere/pin"}, RefusalCode.KEYS_UNUSABLE),
    ],
)
def test_what_is_not_there_is_named(keys: Keys, change: dict[str, str], code: RefusalCode) -> None:
    rotated(keys)
    keys.settings = replace(keys.settings, **change)

    with pytest.raises(ServiceError) as refused:
        keys.authority()

    assert refused.value.code is code
    assert "\n" not in refused.value.reason


def test_pin_that_others_may_read_is_refused(keys: Keys) -> None:
    rotated(keys)
    Path(keys.settings.pin_file).chmod(0o644)

    with pytest.raises(Unavailable, match="chmod 600") as refused:
        keys.authority()

    assert refused.value.code is RefusalCode.CA_KEY_EXPOSED


def test_key_that_is_gone_from_the_token_stops_the_start(keys: Keys) -> None:
    rotated(keys)
    entry = keys.ceremony.request("fleet", AT).entry
    keys.ca_keys.remove(entry.key)

    with pytest.raises(Unavailable) as refused:
        keys.ca_keys.open(entry.key)

    assert refused.value.code is RefusalCode.CA_TOKEN_ABSENT


def test_private_key_beside_the_wrong_public_key_is_not_used(keys: Keys) -> None:
    token = opened(keys)
    token.generate("one", b"1")
    token.generate("two", b"2")
    session = token._opened()
    (public,) = session.get_objects(
        {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: "one"}
    )
    public[Attribute.LABEL], public[Attribute.ID] = "was-one", b"0"
    (other,) = session.get_objects(
        {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: "two"}
    )
    other[Attribute.LABEL], other[Attribute.ID] = "one", b"1"

    with pytest.raises(Unavailable, match="do not belong together") as refused:
        token.key("one", b"1")

    assert refused.value.code is RefusalCode.KEYS_UNUSABLE


def foreign_key(keys: Keys, label: str, *, extractable: bool = False) -> None:
    """Make a key in the token as its maker's tool would."""
    parameters = (
        opened(keys)
        ._opened()
        .create_domain_parameters(
            pkcs11.KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")},
            local=True,
        )
    )
    parameters.generate_keypair(
        store=True,
        label=label,
        id=b"of the maker",
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: extractable},
    )


def test_key_that_the_token_has_already_is_taken_by_its_label(keys: Keys) -> None:
    foreign_key(keys, "made-elsewhere")

    entry = keys.ceremony.rotate(keys.root(), "fleet", AT, "made-elsewhere")

    issuer = keys.authority().issuer()
    assert (entry.key.name, entry.key.token_id) == ("made-elsewhere", b"of the maker".hex())
    assert isinstance(issuer.digest, hashes.SHA384)
    leaf(issuer).verify_directly_issued_by(issuer.certificate)


def test_key_that_the_token_would_give_out_is_not_taken(keys: Keys) -> None:
    foreign_key(keys, "loose", extractable=True)

    with pytest.raises(Unavailable, match="not extractable") as refused:
        keys.ceremony.request("fleet", AT, "loose")

    assert refused.value.code is RefusalCode.KEYS_UNUSABLE


def test_label_that_two_keys_have_is_not_taken(keys: Keys) -> None:
    for _ in range(2):
        foreign_key(keys, "twice")

    with pytest.raises(Unavailable) as refused:
        keys.ceremony.request("fleet", AT, "twice")

    assert refused.value.code is RefusalCode.CA_TOKEN_ABSENT


def test_label_means_nothing_where_keys_are_files(keys: Keys) -> None:
    keys.settings = AuthoritySettings()

    with pytest.raises(SettingsInvalid, match="pkcs11"):
        keys.ceremony.request("fleet", AT, "made-elsewhere")
