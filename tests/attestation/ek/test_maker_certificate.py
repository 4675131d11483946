"""Certificates of TPM makers: real ones, their forms and faults, and hostile bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation import der
from attestation.der import DerReader
from attestation.ek.certificate import MakerCertificate, parse_maker_certificate
from attestation.ek.extensions import KeyUsage, Quirk
from attestation.ek.forms import read_certificate, split_chain, split_pem
from attestation.errors import InputError, LimitExceeded, MalformedInput, Unsupported
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_CHAIN_LENGTH, MAX_PEM_BYTES
from attestation.refusals import RefusalCode as Code
from attestation.tpm.csr_idevid import parse_content
from tests.simulators import soft_tpm_maker as maker
from tests.simulators.soft_tpm_maker import sequence, tlv

DATA = Path(__file__).parents[2] / "data"
INFINEON = DATA / "immune-gmbh_guard-oss/ek/h12sslEK.pem"
NUVOTON = DATA / "immune-gmbh_guard-oss/ek/sr630EK.pem"
ARISTA = DATA / "openconfig_attestz/csrResponse-csr_contents"
ROOT = maker.root()
EK = maker.ek(ROOT)


def refusal(raw: bytes, *, from_nv: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        read_certificate(raw, from_nv=from_nv)
    return caught.value


def quirks(**changes: object) -> frozenset[Quirk]:
    return parse_maker_certificate(maker.ek(ROOT, **changes)).quirks


# --- real certificates ---------------------------------------------------------------------


def test_infineon_ek_is_read_whole() -> None:
    seen = read_certificate(INFINEON.read_bytes())

    assert seen.maker is not None
    assert (seen.maker.manufacturer, seen.maker.model) == ("IFX", "SLB 9665")
    assert (seen.maker.vendor_id, seen.maker.firmware) == (b"IFX\0", (5, 62))
    assert seen.specification is not None
    assert (seen.specification.family, seen.specification.revision) == ("2.0", 116)
    assert seen.public_key.label == "RSA-2048"
    assert seen.extended_usages == {"2.23.133.8.1"}
    assert seen.key_usages == {KeyUsage.KEY_ENCIPHERMENT}
    assert not seen.is_authority
    assert seen.quirks == frozenset()


def test_real_certificate_is_read_as_cryptography_reads_it() -> None:
    seen = read_certificate(INFINEON.read_bytes())
    oracle = x509.load_pem_x509_certificate(INFINEON.read_bytes())

    assert seen.raw == oracle.public_bytes(Encoding.DER)
    assert seen.tbs == oracle.tbs_certificate_bytes
    assert seen.signature == oracle.signature
    assert seen.serial == oracle.serial_number
    assert (seen.not_before, seen.not_after) == (
        oracle.not_valid_before_utc,
        oracle.not_valid_after_utc,
    )
    assert seen.issuer.raw == oracle.issuer.public_bytes()
    assert seen.public_key.key == oracle.public_key()
    assert set(seen.extensions) == {one.oid.dotted_string for one in oracle.extensions}


def test_nuvoton_ek_that_cryptography_refuses_is_read_and_its_fault_is_named() -> None:
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        x509.load_pem_x509_certificate(NUVOTON.read_bytes()).issuer  # noqa: B018

    seen = read_certificate(NUVOTON.read_bytes())

    assert seen.quirks == {Quirk.SET_ORDER}
    assert seen.maker is not None
    assert (seen.maker.manufacturer, seen.maker.model) == ("NTC", "NPCT75x")


def test_ek_of_a_switch_is_read_from_its_manufacture_request() -> None:
    seen = read_certificate(parse_content(ARISTA.read_bytes()).ek_certificate, from_nv=True)

    assert seen.maker is not None
    assert (seen.maker.manufacturer, seen.maker.model) == ("STM", "ST33HTPHAHD8")
    assert "STM TPM EK Intermediate CA 06" in seen.issuer.text


# --- forms ---------------------------------------------------------------------------------


def stored(der: bytes, *, full: bytes = b"") -> bytes:
    body = full + der
    return b"\x10\x01\x00" + len(body).to_bytes(2) + body


@pytest.mark.parametrize("full", [b"", b"\x10\x02"])
@pytest.mark.parametrize("padding", [b"", bytes(9), b"\xff" * 400])
def test_certificate_behind_an_nv_header_is_read(full: bytes, padding: bytes) -> None:
    seen = read_certificate(stored(EK, full=full) + padding)

    assert seen.raw == EK
    assert seen.quirks == {Quirk.NV_HEADER} | ({Quirk.NV_PADDING} if padding else set())


def test_padding_inside_an_nv_header_is_read() -> None:
    assert read_certificate(stored(EK + bytes(5))).quirks == {Quirk.NV_HEADER, Quirk.NV_PADDING}


@pytest.mark.parametrize("padding", [bytes(1), b"\xff" * 1000])
def test_padding_is_taken_from_nv_only(padding: bytes) -> None:
    assert read_certificate(EK + padding, from_nv=True).quirks == {Quirk.NV_PADDING}
    assert refusal(EK + padding).code is Code.EK_CERTIFICATE_MALFORMED


@pytest.mark.parametrize("rest", [b"\x01", bytes(4) + b"\xff", EK], ids=["one", "mixed", "another"])
def test_bytes_after_the_certificate_that_are_no_padding_are_refused(rest: bytes) -> None:
    assert refusal(EK + rest, from_nv=True).code is Code.EK_CERTIFICATE_MALFORMED
    assert refusal(stored(EK) + rest).code is Code.EK_CERTIFICATE_MALFORMED


def test_nv_header_that_announces_more_than_there_is_is_refused() -> None:
    assert isinstance(refusal(b"\x10\x01\x00\xff\xff" + EK), InputError)
    assert isinstance(refusal(stored(EK)[:-1]), MalformedInput)


def test_pem_with_two_certificates_is_refused() -> None:
    text = INFINEON.read_bytes()

    assert refusal(text + text).code is Code.EK_CERTIFICATE_MALFORMED
    assert refusal(b"-----BEGIN CERTIFICATE-----\nAA=A\n-----END CERTIFICATE-----").code is (
        Code.EK_CERTIFICATE_MALFORMED
    )


def test_oversized_texts_are_refused_before_they_are_read() -> None:
    with pytest.raises(LimitExceeded):
        split_pem(bytes(MAX_PEM_BYTES + 1))
    with pytest.raises(LimitExceeded):
        parse_maker_certificate(bytes(MAX_CERTIFICATE_BYTES + 1))


def test_nv_chain_is_cut_into_certificates() -> None:
    chain = (ROOT.der, EK)

    assert split_chain(b"".join(chain)) == chain
    assert split_chain(b"".join(chain) + b"\xff" * 64) == chain
    assert split_chain(b"") == ()
    with pytest.raises(LimitExceeded):
        split_chain(EK * (MAX_CHAIN_LENGTH + 1))
    with pytest.raises(MalformedInput):
        split_chain(EK + EK[:-1])


# --- faults that are tolerated by name -----------------------------------------------------


def test_certificate_without_fault_has_no_quirk() -> None:
    assert quirks() == frozenset()


def test_rsaes_oaep_key_is_an_rsa_key() -> None:
    modulus = maker.rsa_key().public_key().public_numbers().n
    info = maker.rsa_spki(modulus, algorithm="1.2.840.113549.1.1.7")

    seen = parse_maker_certificate(maker.ek(ROOT, key_info=info))

    assert seen.quirks == {Quirk.OAEP_KEY}
    assert seen.public_key.spki_der == maker.spki(maker.rsa_key().public_key())


@pytest.mark.parametrize(
    ("serial", "quirk"),
    [
        (maker.integer(-5), Quirk.SERIAL_NOT_POSITIVE),
        (maker.integer(0), Quirk.SERIAL_NOT_POSITIVE),
        (maker.integer(1 << 200), Quirk.SERIAL_LONG),
        (tlv(0x02, b"\x00\x05"), Quirk.INTEGER_NOT_MINIMAL),
    ],
)
def test_odd_serial_numbers_are_named(serial: bytes, quirk: Quirk) -> None:
    assert quirks(serial=serial) == {quirk}


def test_signature_parameters_that_should_not_be_there_are_named() -> None:
    odd = sequence(maker.oid("1.2.840.10045.4.3.2"), tlv(0x05))

    assert quirks(algorithm=odd) == {Quirk.SIGNATURE_PARAMETERS}
    assert quirks(outer_algorithm=odd) == {Quirk.SIGNATURE_PARAMETERS}


def test_criticality_faults_are_named() -> None:
    plain = maker.ek_extensions()
    off = sequence(maker.oid("2.5.29.35"), tlv(0x01, b"\x00"), tlv(0x04, sequence()))
    soft_name = maker.extension("2.5.29.17", sequence())
    soft_ca = maker.extension("2.5.29.19", sequence(tlv(0x01, b"\xff")))

    assert quirks(extensions=(*plain, off)) == {Quirk.DEFAULT_ENCODED}
    assert quirks(extensions=maker.ek_extensions(name=soft_name)) == {Quirk.NAME_NOT_CRITICAL}
    assert quirks(extensions=maker.ek_extensions(constraints=soft_ca)) == {
        Quirk.CONSTRAINTS_NOT_CRITICAL
    }
    assert quirks(extensions=maker.ek_extensions(usage=b"")) == {Quirk.USAGE_ABSENT}


def test_unreadable_tpm_specification_is_no_reason_to_refuse() -> None:
    odd = maker.extension("2.5.29.9", b"\x30\x05")

    seen = parse_maker_certificate(maker.ek(ROOT, extensions=maker.ek_extensions(more=odd)))

    assert seen.specification is None
    assert seen.quirks == {Quirk.SPECIFICATION_UNREADABLE}


def test_names_for_people_hold_nothing_that_steers_a_terminal() -> None:
    seen = parse_maker_certificate(maker.ek(ROOT, subject=maker.name("a\x1b[31m\nb\u202e")))

    assert seen.subject.text == "CN=a?[31m?b?"


# --- faults that are refused ---------------------------------------------------------------

P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
MODULUS = maker.rsa_key().public_key().public_numbers().n


def ec_info(curve: bytes, point: bytes) -> bytes:
    return sequence(sequence(maker.oid("1.2.840.10045.2.1"), curve), tlv(0x03, b"\x00", point))


POINT = maker.spki(P256)[-65:]
P256_OID = maker.oid("1.2.840.10045.3.1.7")


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (maker.rsa_spki(MODULUS >> 1024 | 1), Code.EK_KEY_NOT_ACCEPTED),
        (maker.rsa_spki(MODULUS << 4096 | 1), Code.EK_KEY_NOT_ACCEPTED),
        (maker.rsa_spki(MODULUS, 3), Code.EK_KEY_NOT_ACCEPTED),
        (maker.rsa_spki(MODULUS, -1), Code.EK_KEY_NOT_ACCEPTED),
        (maker.rsa_spki(-MODULUS), Code.EK_KEY_NOT_ACCEPTED),
        (maker.rsa_spki(MODULUS, algorithm="1.2.840.113549.1.1.10"), Code.EK_KEY_NOT_ACCEPTED),
        (ec_info(maker.oid("1.3.132.0.10"), POINT), Code.EK_KEY_NOT_ACCEPTED),
        (ec_info(maker.oid("1.0.15946.1.5.1.2.2.1"), POINT), Code.EK_KEY_NOT_ACCEPTED),
        (ec_info(sequence(), POINT), Code.EK_KEY_NOT_ACCEPTED),
        (ec_info(P256_OID, POINT[:-1] + b"\x01"), Code.EK_CERTIFICATE_MALFORMED),
        (ec_info(P256_OID, b"\x02" + POINT[1:33]), Code.EK_CERTIFICATE_MALFORMED),
        (ec_info(P256_OID, b"\x00"), Code.EK_CERTIFICATE_MALFORMED),
        (ec_info(P256_OID, b""), Code.EK_CERTIFICATE_MALFORMED),
    ],
    ids=range(13),
)
def test_keys_off_the_allow_list_are_refused(info: bytes, code: Code) -> None:
    assert refusal(maker.ek(ROOT, key_info=info)).code is code


def test_keys_of_the_allow_list_are_named() -> None:
    for curve, label in (
        (ec.SECP256R1(), "P-256"),
        (ec.SECP384R1(), "P-384"),
        (ec.SECP521R1(), "P-521"),
    ):
        key = ec.generate_private_key(curve).public_key()
        assert parse_maker_certificate(maker.ek(ROOT, key)).public_key.label == label


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"extensions": (*maker.ek_extensions(), maker.extended("1.2.3"))},
        {"outer_algorithm": sequence(maker.oid("1.2.840.10045.4.3.3"))},
        {"not_before": maker.ENDS, "not_after": maker.MADE},
        {"serial": tlv(0x02)},
        {"serial": maker.integer(1 << 600)},
        {"extensions": (maker.extension("2.5.29.19", sequence(maker.integer(3))),)},
        {"extensions": (maker.extension("2.5.29.19", sequence(tlv(0x01, b"\x01"))),)},
        {"extensions": tuple(maker.extension(f"1.2.3.{n}", b"") for n in range(65))},
        {"extensions": (maker.extension("2.5.29.15", tlv(0x03, b"\x08\x80")),)},
        {"extensions": (maker.extension("2.5.29.37", sequence(tlv(0x06, b"\x80\x01"))),)},
        {"subject": sequence(tlv(0x31, sequence(maker.oid("2.5.4.3"))))},
    ],
    ids=range(12),
)
def test_malformed_parts_are_refused(changes: dict[str, object]) -> None:
    assert refusal(maker.ek(ROOT, **changes)).code is Code.EK_CERTIFICATE_MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        b"\x30\x80" + EK[4:] + b"\0\0",
        b"\x30\x83\x00" + EK[2:],
        b"\x3f" + EK[1:],
        b"\x31" + EK[1:],
        EK[:-1],
        b"",
    ],
    ids=range(6),
)
def test_encodings_that_are_not_der_are_refused(raw: bytes) -> None:
    assert refusal(raw).code is Code.EK_CERTIFICATE_MALFORMED


def decoded(tag: int, content: bytes) -> datetime:
    return der.moment(der.Element(tag=tag, raw=b"", body=content))


@pytest.mark.parametrize(
    ("tag", "content", "year"),
    [
        (0x17, b"500203040506Z", 1950),
        (0x17, b"991231235959Z", 1999),
        (0x17, b"000229000000Z", 2000),
        (0x17, b"490203040506Z", 2049),
        (0x18, b"20500203040506Z", 2050),
        (0x18, b"99991231235959Z", 9999),
    ],
)
def test_dates_are_read_over_all_centuries(tag: int, content: bytes, year: int) -> None:
    assert decoded(tag, content).year == year
    assert decoded(tag, content).tzinfo is UTC


@pytest.mark.parametrize(
    ("tag", "content"),
    [
        (0x17, b"5002030405Z"),
        (0x17, b"500203040506+"),
        (0x17, b"990230000000Z"),
        (0x18, b"00000101000000Z"),
        (0x18, b"20500203040506.5Z"),
        (0x18, b"2050 203040506Z"),
        (0x0C, b"20500203040506Z"),
    ],
)
def test_other_dates_are_refused(tag: int, content: bytes) -> None:
    with pytest.raises(MalformedInput):
        decoded(tag, content)


@pytest.mark.parametrize("raw", [b"\x04\x81\x01\x00", b"\x04\x82\x00\x80" + bytes(128)])
def test_lengths_that_are_not_the_shortest_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="shortest"):
        DerReader(raw, "test").next("element")


# --- any bytes -----------------------------------------------------------------------------


def survives(raw: bytes, *, from_nv: bool) -> None:
    try:
        seen = read_certificate(raw, from_nv=from_nv)
    except InputError:
        return
    assert isinstance(seen, MakerCertificate)
    assert seen.raw in raw or raw.lstrip().startswith(b"-----")


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_certificate_or_an_input_error(raw: bytes, from_nv: bool) -> None:  # noqa: FBT001
    survives(raw, from_nv=from_nv)


@given(st.data())
def test_any_change_of_a_certificate_is_a_certificate_or_an_input_error(
    data: st.DataObject,
) -> None:
    base = data.draw(st.sampled_from([EK, ROOT.der, stored(EK), INFINEON.read_bytes()]))
    at = data.draw(st.integers(0, len(base)))
    cut = data.draw(st.integers(0, 4))
    raw = base[:at] + data.draw(st.binary(max_size=4)) + base[at + cut :]

    survives(raw, from_nv=data.draw(st.booleans()))


@given(st.binary(max_size=200))
def test_any_chain_bytes_are_cut_or_refused(raw: bytes) -> None:
    try:
        found = split_chain(raw)
    except InputError:
        return
    assert raw.startswith(b"".join(found))


def test_unsupported_is_told_apart_from_malformed() -> None:
    assert isinstance(refusal(maker.ek(ROOT, key_info=maker.rsa_spki(MODULUS, 3))), Unsupported)
