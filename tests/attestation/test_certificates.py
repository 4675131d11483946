from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from attestation.certificates import (
    ATTESTATION_KEY_USAGE,
    ENDORSEMENT_KEY_USAGE,
    HARDWARE_MODULE_NAME,
    TPM_HARDWARE_TYPE,
    check_iak_profile,
    check_idevid_profile,
    device_serial,
    hardware_module,
    hardware_module_name,
    parse_certificate,
    spki_der,
)
from attestation.errors import (
    AttestationError,
    InputError,
    LimitExceeded,
    MalformedInput,
    UntrustedEndorsement,
)
from attestation.refusals import RefusalCode
from attestation.tpm.csr_idevid import parse_content

KEY = ec.generate_private_key(ec.SECP256R1())
CA_KEY = ec.generate_private_key(ec.SECP256R1())
REAL_REQUEST = Path(__file__).parents[1] / "data/openconfig_attestz/csrResponse-csr_contents"
SIGNS = {"digital_signature": True}
MODULE = hardware_module_name(TPM_HARDWARE_TYPE, b"TPM-77")


def key_usage(**allowed: bool) -> x509.KeyUsage:
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def issue(
    *,
    serials: tuple[str, ...] = ("SN0001",),
    names: tuple[x509.GeneralName, ...] = (MODULE,),
    usage: x509.KeyUsage | None = None,
    extended: tuple[x509.ObjectIdentifier, ...] = (),
    ca: bool | None = False,
    public_key=None,
    key_usage_absent: bool = False,
) -> bytes:
    subject = [x509.NameAttribute(NameOID.SERIAL_NUMBER, serial) for serial in serials]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device"), *subject]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maker CA")]))
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .public_key(public_key or KEY.public_key())
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if not key_usage_absent:
        builder = builder.add_extension(usage or key_usage(**SIGNS), critical=True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def refusal(check, der: bytes) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        check(parse_certificate(der))
    return caught.value


def test_an_idevid_certificate_is_read() -> None:
    seen = parse_certificate(issue())
    check_idevid_profile(seen)
    assert device_serial(seen) == "SN0001"
    assert hardware_module(seen) == (TPM_HARDWARE_TYPE, b"TPM-77")
    assert spki_der(seen) == KEY.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def test_an_iak_certificate_is_accepted_as_such() -> None:
    check_iak_profile(parse_certificate(issue(extended=(ATTESTATION_KEY_USAGE,))))


def test_a_real_endorsement_certificate_is_read_and_is_no_idevids() -> None:
    content = parse_content(REAL_REQUEST.read_bytes())
    seen = parse_certificate(content.ek_certificate)
    assert hardware_module(seen) is None
    with pytest.raises(UntrustedEndorsement):
        check_idevid_profile(seen)
    with pytest.raises(UntrustedEndorsement):
        check_iak_profile(seen)


def test_the_hardware_module_name_is_the_der_of_rfc_4108() -> None:
    assert MODULE.type_id == HARDWARE_MODULE_NAME
    assert MODULE.value.hex() == "300f0605678105010204065450" + "4d2d3737"


def test_a_certificate_without_a_hardware_module_names_none() -> None:
    assert hardware_module(parse_certificate(issue(names=()))) is None
    other = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.3"), b"\x30\x00")
    der = issue(names=(other, x509.DNSName("device")))
    assert hardware_module(parse_certificate(der)) is None
    check_idevid_profile(parse_certificate(der))


@pytest.mark.parametrize(
    "value",
    [
        b"\x30\x00",
        b"\x04\x02ab",
        MODULE.value[:9] + b"\x0c" + MODULE.value[10:],
        b"\x30\x11" + MODULE.value[2:] + b"\x05\x00",
    ],
    ids=["no fields", "octets", "serial as text", "a third field"],
)
def test_a_hardware_module_name_of_another_shape_is_refused(value: bytes) -> None:
    der = issue(names=(x509.OtherName(HARDWARE_MODULE_NAME, value),))
    seen = refusal(check_idevid_profile, der)
    assert isinstance(seen, MalformedInput)
    assert seen.code is RefusalCode.CERTIFICATE_MALFORMED


@pytest.mark.parametrize("place", [0, 1, 9, 10])
@pytest.mark.parametrize("value", [0x00, 0x80, 0x81, 0xFF])
def test_a_hardware_module_name_that_is_not_strict_der_is_refused(place: int, value: int) -> None:
    der = issue()
    assert der.count(MODULE.value) == 1
    broken = bytearray(MODULE.value)
    broken[place] = value
    changed = der.replace(MODULE.value, bytes(broken))

    def read(raw: bytes) -> object:
        return hardware_module(parse_certificate(raw))

    with pytest.raises(MalformedInput) as caught:
        read(changed)
    assert caught.value.code is RefusalCode.CERTIFICATE_MALFORMED


def test_two_hardware_modules_are_refused() -> None:
    other = hardware_module_name(TPM_HARDWARE_TYPE, b"TPM-78")
    assert refusal(hardware_module, issue(names=(MODULE, other))).code is (
        RefusalCode.CERTIFICATE_PROFILE_WRONG
    )


@pytest.mark.parametrize("serials", [(), ("SN1", "SN2")])
def test_a_subject_without_exactly_one_serial_number_is_refused(serials) -> None:
    for check in (device_serial, check_idevid_profile):
        seen = refusal(check, issue(serials=serials))
        assert isinstance(seen, UntrustedEndorsement)
        assert seen.code is RefusalCode.CERTIFICATE_PROFILE_WRONG


def test_a_serial_number_has_at_most_64_characters() -> None:
    assert device_serial(parse_certificate(issue(serials=("S" * 64,)))) == "S" * 64
    seen = refusal(device_serial, issue(serials=("S" * 65,)))
    assert seen.code is RefusalCode.CERTIFICATE_PROFILE_WRONG


@pytest.mark.parametrize(
    "der",
    [
        issue(ca=True, extended=(ATTESTATION_KEY_USAGE,)),
        issue(key_usage_absent=True, extended=(ATTESTATION_KEY_USAGE,)),
        issue(usage=key_usage(key_agreement=True), extended=(ATTESTATION_KEY_USAGE,)),
        issue(usage=key_usage(**SIGNS, key_cert_sign=True), extended=(ATTESTATION_KEY_USAGE,)),
        issue(usage=key_usage(**SIGNS, crl_sign=True), extended=(ATTESTATION_KEY_USAGE,)),
    ],
    ids=["CA", "no key usage", "does not sign", "signs certificates", "signs CRLs"],
)
def test_a_certificate_that_is_no_signing_end_entitys_is_refused(der: bytes) -> None:
    wanted = refusal(check_iak_profile, der)
    assert isinstance(wanted, UntrustedEndorsement)
    assert wanted.code is RefusalCode.CERTIFICATE_PROFILE_WRONG
    assert "extended key usage" not in wanted.reason
    assert "extended key usage" not in refusal(check_idevid_profile, der).reason


def test_basic_constraints_may_be_absent() -> None:
    check_idevid_profile(parse_certificate(issue(ca=None)))


@pytest.mark.parametrize("usage", [ATTESTATION_KEY_USAGE, ENDORSEMENT_KEY_USAGE])
def test_a_certificate_of_another_tpm_key_is_no_idevids(usage: x509.ObjectIdentifier) -> None:
    seen = refusal(check_idevid_profile, issue(extended=(usage,)))
    assert seen.code is RefusalCode.CERTIFICATE_PROFILE_WRONG


def test_an_idevid_certificate_is_no_iaks() -> None:
    seen = refusal(check_iak_profile, issue(extended=(x509.ExtendedKeyUsageOID.CLIENT_AUTH,)))
    assert seen.code is RefusalCode.CERTIFICATE_PROFILE_WRONG
    assert refusal(check_iak_profile, issue()).code is RefusalCode.CERTIFICATE_PROFILE_WRONG


def test_a_certificate_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        parse_certificate(bytes(16 * 1024 + 1))


def test_bytes_after_a_certificate_are_refused() -> None:
    with pytest.raises(MalformedInput):
        parse_certificate(issue() + b"\x00")


def test_a_version_1_certificate_is_refused() -> None:
    der = issue(names=(), ca=None, key_usage_absent=True)
    signed = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    version = b"\xa0\x03\x02\x01\x02"
    assert signed[3:8] == version
    rest = der[der.index(signed) + len(signed) :]
    content = b"\x30\x81" + bytes([len(signed) - 8]) + signed[8:] + rest
    v1 = b"\x30\x82" + len(content).to_bytes(2) + content
    with pytest.raises(MalformedInput, match="version is v1"):
        parse_certificate(v1)


def test_an_extension_given_twice_is_refused_at_once() -> None:
    der = issue(names=(x509.DNSName("a"),), extended=(x509.ExtendedKeyUsageOID.CLIENT_AUTH,))
    eku, san = b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x11"
    assert der.count(eku) == der.count(san) == 1
    with pytest.raises(MalformedInput) as caught:
        parse_certificate(der.replace(eku, san))
    assert caught.value.code is RefusalCode.CERTIFICATE_MALFORMED


def test_a_certificate_that_ends_before_it_begins_is_refused() -> None:
    der = issue()
    with pytest.raises(MalformedInput):
        parse_certificate(der.replace(b"99991231235959Z", b"19991231235959Z"))


def test_a_key_of_another_kind_is_read_here_and_judged_elsewhere() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    assert parse_certificate(issue(public_key=key)).public_key() == key


def test_every_truncation_is_refused_as_malformed() -> None:
    der = issue()
    for length in range(len(der)):
        with pytest.raises(MalformedInput):
            parse_certificate(der[:length])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_changed_byte_gives_a_certificate_or_one_of_our_errors(place: int, value: int) -> None:
    der = bytearray(parse_content(REAL_REQUEST.read_bytes()).ek_certificate)
    der[place % len(der)] = value
    with contextlib.suppress(InputError, UntrustedEndorsement):
        seen = parse_certificate(bytes(der))
        spki_der(seen)
        hardware_module(seen)
        check_idevid_profile(seen)
