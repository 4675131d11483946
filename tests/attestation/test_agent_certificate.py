"""What an agent's certificate says, as others can read it."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.agent_certificate import (
    ARC,
    CAPABILITY_LIST,
    LOCATOR,
    OWNER,
    VALIDATION,
    AgentClaims,
    agent_extensions,
    read_agent_claims,
)
from attestation.errors import AttestationError, InputError, MalformedInput
from attestation.refusals import RefusalCode

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = ec.derive_private_key(11, ec.SECP256R1())
CLAIMS = AgentClaims(
    owner="mailto:owner@fleet.example",
    capabilities=("calendar.read", "mail.send"),
    locator="https://agents.example/planner",
    validation_methods=("tls-alpn", "wpt"),
)


def certificate(
    *extensions: tuple[x509.ObjectIdentifier, bytes], critical: bool = False
) -> x509.Certificate:
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
    )
    for oid, value in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=critical)
    return builder.sign(KEY, hashes.SHA256())


def saying(claims: AgentClaims) -> x509.Certificate:
    return certificate(*((one.oid, one.value) for one in agent_extensions(claims)))


@pytest.mark.parametrize(
    "claims", [CLAIMS, AgentClaims(), AgentClaims(owner="x"), AgentClaims(locator="urn:x")]
)
def test_what_is_written_is_read(claims: AgentClaims) -> None:
    assert read_agent_claims(saying(claims)) == claims


def test_encodings_are_those_of_the_documented_syntax() -> None:
    """Read by openssl; the ASN.1 is in the documentation."""
    owner, capabilities, locator, methods = agent_extensions(CLAIMS)

    assert (owner.oid, capabilities.oid, locator.oid, methods.oid) == (
        OWNER, CAPABILITY_LIST, LOCATOR, VALIDATION,
    )  # fmt: skip
    assert parsed(owner.value) == [("UTF8STRING", CLAIMS.owner)]
    assert parsed(locator.value) == [("IA5STRING", CLAIMS.locator)]
    for extension, words in (
        (capabilities, CLAIMS.capabilities),
        (methods, CLAIMS.validation_methods),
    ):
        assert parsed(extension.value) == [
            ("SEQUENCE", ""),
            *(("UTF8STRING", word) for word in words),
        ]


def parsed(der: bytes) -> list[tuple[str, str]]:
    """What openssl makes of an encoding: type and content of each element."""
    told = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=der, capture_output=True, check=True
    ).stdout.decode()
    lines = [line.split("cons:" if "cons:" in line else "prim:")[1] for line in told.splitlines()]
    return [
        (kind.strip(), content)
        for kind, _, content in (line.strip().partition(":") for line in lines)
    ]


def test_arc_is_made_from_a_uuid() -> None:
    """ITU-T X.667, 7: 2.25 and the UUID as a number."""
    number = int(ARC.removeprefix("2.25."))

    assert number.bit_length() <= 128
    assert f"{number:032x}"[12] == "4"


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (OWNER, b""),
        (OWNER, b"\x0c\x00"),
        (OWNER, b"\x0c\x03a b"),
        (OWNER, b"\x13\x01a"),
        (OWNER, b"\x0c\x01a\x00"),
        (OWNER, b"\x0c\x81\x01a"),
        (OWNER, b"\x0c\x02\xc3\xa4"),
        (CAPABILITY_LIST, b"\x30\x00"),
        (CAPABILITY_LIST, b"\x30\x03\x0c\x01a\x00"),
        (CAPABILITY_LIST, b"\x30\x06\x0c\x01b\x0c\x01a"),
        (CAPABILITY_LIST, b"\x30\x06\x0c\x01a\x0c\x01a"),
        (CAPABILITY_LIST, b"\x31\x03\x0c\x01a"),
        (CAPABILITY_LIST, b"\x30\x03\x02\x01\x01"),
        (CAPABILITY_LIST, b"\x0c\x01a"),
        (LOCATOR, b"\x16\x07nowhere"),
        (LOCATOR, b"\x0c\x05urn:x"),
        (VALIDATION, b"\x30\x00"),
        (VALIDATION, b"\x30\x03\x0c\x01 "),
    ],
)
def test_other_encodings_are_refused(oid: x509.ObjectIdentifier, value: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        read_agent_claims(certificate((oid, value)))
    assert caught.value.code is RefusalCode.CERTIFICATE_MALFORMED


def test_critical_extension_is_not_ours() -> None:
    with pytest.raises(MalformedInput):
        read_agent_claims(certificate((OWNER, b"\x0c\x01a"), critical=True))


def test_more_words_than_an_agent_may_have_are_refused() -> None:
    words = b"".join(b"\x0c\x03" + f"{number:03}".encode() for number in range(65))
    with pytest.raises(MalformedInput):
        read_agent_claims(certificate((CAPABILITY_LIST, b"\x30\x82\x01\x45" + words)))


@pytest.mark.parametrize(
    "claims",
    [
        AgentClaims(owner="a b"),
        AgentClaims(owner="x" * 257),
        AgentClaims(capabilities=("b", "a")),
        AgentClaims(locator="nowhere"),
        AgentClaims(validation_methods=("",)),
    ],
)
def test_what_cannot_be_read_is_not_written(claims: AgentClaims) -> None:
    with pytest.raises(InputError):
        agent_extensions(claims)


def test_extensions_of_others_are_passed_over() -> None:
    other = x509.ObjectIdentifier(f"{ARC}.99")
    assert read_agent_claims(certificate((other, b"junk"))) == AgentClaims()


@given(
    st.sampled_from([OWNER, CAPABILITY_LIST, LOCATOR, VALIDATION]),
    st.binary(max_size=24).map(lambda body: b"\x30" + bytes([len(body)]) + body)
    | st.binary(max_size=24),
)
@settings(max_examples=60, deadline=None)
def test_hostile_extension_is_refused_in_words(oid: x509.ObjectIdentifier, value: bytes) -> None:
    made = certificate((oid, value))
    try:
        found = read_agent_claims(made)
    except AttestationError:
        return
    assert agent_extensions(found) == (x509.UnrecognizedExtension(oid, value),)
