"""The authority of a running verifier: root and issuing CA, rotation, what makes it refuse."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.identity import device_id
from attestation.refusals import RefusalCode
from tests.verifier.keys.authority_site import AT, DAY, Keys
from verifier.errors import Conflict, NotFound, RequestRefused, ServiceError, SettingsInvalid
from verifier.issuance.hierarchy import issuing_certificate, issuing_request, root_certificate
from verifier.issuance.profiles import Issuer, certificate_serial, ldevid_certificate
from verifier.keys.authority import DEVICE_CA, create_authority
from verifier.keys.files import write_public
from verifier.keys.offline_root import make_root
from verifier.keys.register import BUNDLE_FILE, REGISTER_FILE, CaState, load_register, pem
from verifier.sources import SystemEntropy

SERIAL = certificate_serial(bytes(range(16)))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.made(tmp_path)


def code(error: pytest.ExceptionInfo[ServiceError]) -> RefusalCode:
    return error.value.code


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


def verified_by_openssl(folder: Path, root: bytes, middle: bytes, end: bytes) -> str:
    for name, content in (("root", root), ("middle", middle), ("end", end)):
        (folder / f"{name}.pem").write_bytes(content)
    ran = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslclient"),
            *("-attime", str(int(AT.timestamp())), "-CAfile", str(folder / "root.pem")),
            *("-untrusted", str(folder / "middle.pem"), str(folder / "end.pem")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_openssl_verifies_a_device_certificate_from_the_root_down(
    keys: Keys, tmp_path: Path
) -> None:
    authority = keys.authority()
    issuer, (root,) = authority.issuer(), authority.roots()

    said = verified_by_openssl(tmp_path, pem(root), pem(issuer.certificate), pem(leaf(issuer)))

    assert said.strip().endswith("end.pem: OK")
    assert issuer.chain == ()


def test_issuing_ca_signs_end_entities_only_and_the_root_cas_only(keys: Keys) -> None:
    authority = keys.authority()
    issuing, (root,) = authority.issuer().certificate, authority.roots()
    lengths = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for one in (root, issuing)
    ]

    assert lengths == [1, 0]
    assert isinstance(root.public_key().curve, ec.SECP384R1)
    assert isinstance(issuing.public_key().curve, ec.SECP256R1)
    usage = issuing.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature


def test_service_works_without_the_root_key(keys: Keys) -> None:
    for path in keys.root_folder.iterdir():
        path.unlink()

    assert leaf(keys.authority().issuer()).issuer


def test_running_service_follows_a_rotation_and_keeps_the_old_ca_for_its_list(keys: Keys) -> None:
    authority = keys.authority()
    told: list[int] = []
    authority.changed = lambda certificates: told.append(len(certificates))
    before, roots = authority.issuer(), authority.roots()

    entry = keys.ceremony.rotate(keys.root(), "fleet", AT + DAY)

    keys.clock.at = AT + DAY
    after = authority.issuer()
    assert after.certificate != before.certificate
    assert after.certificate.subject != before.certificate.subject
    assert [one.certificate for one in authority.issuers()] == [
        after.certificate,
        before.certificate,
    ]
    assert authority.roots() == roots
    assert load_register(keys.directory).in_state(CaState.CURRENT)[0].id == entry.id
    assert told == [3]


def test_retired_ca_is_forgotten_when_its_own_certificate_has_ended(keys: Keys) -> None:
    keys.ceremony.rotate(keys.root(), "fleet", AT + DAY)
    authority = keys.authority()
    new = authority.issuers()[0].certificate
    keys.clock.at = new.not_valid_after_utc - timedelta(hours=12)

    assert [one.certificate for one in authority.issuers()] == [new]


def test_bundle_for_brokers_names_root_and_every_ca_that_is_believed(keys: Keys) -> None:
    entry = keys.ceremony.rotate(keys.root(), "fleet", AT + DAY)
    old = load_register(keys.directory).in_state(CaState.RETIRED)[0]
    assert len(x509.load_pem_x509_certificates((keys.directory / BUNDLE_FILE).read_bytes())) == 3

    keys.ceremony.distrust(old.id, AT + DAY)

    left = x509.load_pem_x509_certificates((keys.directory / BUNDLE_FILE).read_bytes())
    assert {one.subject for one in left} == {
        keys.root().certificate.subject,
        x509.load_pem_x509_certificate((keys.directory / entry.certificate).read_bytes()).subject,
    }


def test_distrusted_ca_signs_its_list_on_and_is_in_no_trust_store(keys: Keys) -> None:
    old = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    keys.ceremony.rotate(keys.root(), "fleet", AT + DAY)
    keys.ceremony.distrust(old.id, AT + DAY)
    keys.clock.at = AT + DAY
    authority = keys.authority()

    distrusted = authority.issuers()[1].certificate
    assert distrusted not in authority.certificates()
    assert distrusted.subject.public_bytes() in authority.subjects()
    assert ("distrusted", distrusted) in authority.described()


def test_without_a_current_ca_nothing_is_issued_and_lists_go_on(keys: Keys) -> None:
    current = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    keys.ceremony.distrust(current.id, AT)
    authority = keys.authority()

    with pytest.raises(ServiceError) as refused:
        authority.issuer()

    assert code(refused) is RefusalCode.KEYS_UNUSABLE
    assert len(authority.issuers()) == 1


def test_three_steps_make_the_same_as_a_rotation_with_the_root_at_hand(keys: Keys) -> None:
    requested = keys.ceremony.request("fleet", AT)
    assert keys.ceremony.request("fleet", AT).entry == requested.entry
    before = keys.authority().issuer().certificate
    signed = issuing_certificate(requested.request, keys.root(), serial=SERIAL, at=AT)

    keys.ceremony.accept(signed, AT)

    authority = keys.authority()
    assert authority.issuer().certificate == signed
    assert before in [one.certificate for one in authority.issuers()]


def test_certificate_signed_by_another_root_is_not_imported(keys: Keys, tmp_path: Path) -> None:
    other = make_root(tmp_path / "other", "other", None, at=AT, entropy=SystemEntropy())
    requested = keys.ceremony.request("fleet", AT)
    foreign = issuing_certificate(requested.request, other, serial=SERIAL, at=AT)

    with pytest.raises(RequestRefused, match="not signed by a root of ours") as refused:
        keys.ceremony.accept(foreign, AT)

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG
    keys.ceremony.trust(other.certificate, AT)
    keys.ceremony.accept(foreign, AT)
    assert keys.authority().issuer().certificate == foreign


def test_certificate_of_a_root_with_the_same_name_is_not_imported(keys: Keys) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    ours = keys.root().certificate
    twin = Issuer(certificate=renamed(ours.subject, key), key=key)
    requested = keys.ceremony.request("fleet", AT)
    forged = issuing_certificate(requested.request, twin, serial=SERIAL, at=AT)
    assert forged.issuer == ours.subject

    with pytest.raises(RequestRefused) as refused:
        keys.ceremony.accept(forged, AT)

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def renamed(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    model = root_certificate("twin", key, serial=SERIAL, at=AT)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(SERIAL)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
    )
    for extension in model.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA384())


def test_certificate_of_another_key_is_not_imported(keys: Keys) -> None:
    keys.ceremony.request("fleet", AT)
    strange = issuing_request("fleet", ec.generate_private_key(ec.SECP256R1()))
    signed = issuing_certificate(strange, keys.root(), serial=SERIAL, at=AT)

    with pytest.raises(RequestRefused, match="another key") as refused:
        keys.ceremony.accept(signed, AT)

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def test_certificate_that_is_no_cas_is_not_imported(keys: Keys) -> None:
    requested, root = keys.ceremony.request("fleet", AT), keys.root()
    end_entity = ldevid_certificate(
        device_id("edge-1"),
        "SN-1",
        requested.request.public_key(),
        root,
        trust_domain="fleet.example",
        serial=SERIAL,
        at=AT,
        lifetime=90 * DAY,
    )

    with pytest.raises(RequestRefused, match="not a CA") as refused:
        keys.ceremony.accept(end_entity, AT)

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def test_certificate_that_has_ended_is_not_imported(keys: Keys) -> None:
    requested = keys.ceremony.request("fleet", AT)
    short = issuing_certificate(requested.request, keys.root(), serial=SERIAL, at=AT, lifetime=DAY)

    with pytest.raises(RequestRefused) as refused:
        keys.ceremony.accept(short, AT + 2 * DAY)

    assert code(refused) is RefusalCode.CA_EXPIRED


def test_nothing_is_imported_without_a_request(keys: Keys) -> None:
    with pytest.raises(NotFound) as refused:
        keys.ceremony.accept(keys.root().certificate, AT)

    assert code(refused) is RefusalCode.CA_UNKNOWN


def test_request_that_another_key_signed_is_not_certified(keys: Keys) -> None:
    honest = issuing_request("fleet", ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(honest.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1

    with pytest.raises(RequestRefused, match="own key"):
        issuing_certificate(x509.load_der_x509_csr(bytes(der)), keys.root(), serial=SERIAL, at=AT)


def test_end_entity_is_no_root(keys: Keys) -> None:
    for wrong in (leaf(keys.authority().issuer()), keys.authority().issuer().certificate):
        with pytest.raises(RequestRefused) as refused:
            keys.ceremony.trust(wrong, AT)
        assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def test_expired_issuing_ca_issues_nothing(keys: Keys) -> None:
    authority = keys.authority()
    keys.clock.at = authority.issuer().certificate.not_valid_after_utc

    with pytest.raises(ServiceError, match="ca rotate") as refused:
        authority.issuer()

    assert code(refused) is RefusalCode.CA_EXPIRED
    assert authority.issuers() == ()


def test_issuing_ca_that_is_no_ca_is_refused_at_the_start(keys: Keys) -> None:
    current = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    key, root = keys.ca_keys.open(current.key), keys.root()
    wrong = ldevid_certificate(
        device_id("edge-1"),
        "SN-1",
        key.public_key(),
        root,
        trust_domain="fleet.example",
        serial=SERIAL,
        at=AT,
        lifetime=90 * DAY,
    )
    write_public(keys.directory / current.certificate, pem(wrong))

    with pytest.raises(ServiceError) as refused:
        keys.authority()

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def test_key_of_another_ca_is_refused_at_the_start(keys: Keys) -> None:
    old = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    new = keys.ceremony.rotate(keys.root(), "fleet", AT)
    (keys.directory / new.key.name).write_bytes((keys.directory / old.key.name).read_bytes())

    with pytest.raises(ServiceError, match="another key") as refused:
        keys.authority()

    assert code(refused) is RefusalCode.CA_CERTIFICATE_WRONG


def test_retired_ca_whose_key_is_lost_is_told_and_does_not_stop_the_service(keys: Keys) -> None:
    old = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    keys.ceremony.rotate(keys.root(), "fleet", AT)
    (keys.directory / old.key.name).unlink()

    authority = keys.authority()

    assert authority.issuer()
    ((name, error),) = authority.unusable
    assert (name, error.code) == (old.id, RefusalCode.KEYS_UNUSABLE)


def test_damaged_register_is_refused_and_names_its_mend(keys: Keys) -> None:
    register = keys.directory / REGISTER_FILE
    document = json.loads(register.read_text())
    document["issuing"][0]["key"]["name"] = "../../etc/passwd"
    for damaged in ("{}", "[]", "no json", json.dumps(document)):
        register.write_text(damaged)
        with pytest.raises(SettingsInvalid, match="restore it from a backup"):
            keys.authority()


def test_register_that_breaks_while_running_is_refused_until_it_is_mended(keys: Keys) -> None:
    authority, register = keys.authority(), keys.directory / REGISTER_FILE
    good = register.read_bytes()
    register.write_text("{}")

    for _ in range(2):
        with pytest.raises(SettingsInvalid):
            authority.issuer()

    register.write_bytes(good)
    authority._again_at = 0.0  # the second that a broken register is not tried again
    assert authority.issuer()


def test_ca_that_issues_is_not_removed_and_a_retired_one_is_with_its_key(keys: Keys) -> None:
    old = load_register(keys.directory).in_state(CaState.CURRENT)[0]
    with pytest.raises(Conflict) as refused:
        keys.ceremony.remove(old.id)
    assert code(refused) is RefusalCode.CA_IN_USE
    keys.ceremony.rotate(keys.root(), "fleet", AT)

    keys.ceremony.remove(old.id)

    assert not (keys.directory / old.key.name).exists()
    assert len(keys.authority().issuers()) == 1
    with pytest.raises(NotFound):
        keys.ceremony.remove(old.id)


def test_device_ca_of_an_earlier_release_goes_on_as_a_root_that_issues(tmp_path: Path) -> None:
    keys = Keys(directory=tmp_path / "keys", root_folder=tmp_path / "root")
    keys.directory.mkdir(mode=0o700)
    ca = create_authority(keys.directory, DEVICE_CA, "device-attestation device CA", AT)

    authority = keys.authority()
    assert authority.issuer().certificate == ca.certificate
    assert list(authority.roots()) == [ca.certificate]

    root = make_root(keys.root_folder, "fleet", None, at=AT, entropy=SystemEntropy())
    keys.ceremony.trust(root.certificate, AT)
    entry = keys.ceremony.rotate(root, "fleet", AT)

    assert authority.issuer().certificate.issuer == root.certificate.subject
    assert list(authority.roots()) == [root.certificate, ca.certificate]
    assert [one.certificate for one in authority.issuers()][1] == ca.certificate
    assert entry.state is CaState.CURRENT
