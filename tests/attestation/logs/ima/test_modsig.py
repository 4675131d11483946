"""Appended signatures: their form is read, and what breaks it is refused with a reason."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError, MalformedInput, SignatureInvalid
from attestation.limits import MAX_MODSIG_BYTES, MAX_SIGNED_ATTRIBUTES
from attestation.logs.ima.modsig import SubjectKeyId, appended_digest, parse_modsig
from attestation.logs.ima.template import ImaFile
from attestation.refusals import RefusalCode
from tests.simulators.soft_ima import tagged
from tests.simulators.soft_modsig import (
    CONTENT_TYPE,
    DATA,
    MESSAGE_DIGEST,
    attribute,
    attributes,
    key_id,
    message,
    modsig,
    signer_info,
)
from tests.simulators.soft_tpm_maker import integer, oid, sequence, tlv

KEY = ec.generate_private_key(ec.SECP256R1())
DIGEST = hashlib.sha256(b"content").digest()
GOOD = modsig(KEY, b"content")
NULL = tlv(0x05)


def file(modsig_digest: bytes) -> ImaFile:
    return ImaFile(tagged(b"whole"), b"/x", modsig_digest=modsig_digest)


def info(**changed: bytes) -> bytes:
    """A SignerInfo of parts; each may be replaced."""
    parts = {
        "version": integer(3),
        "sid": tlv(0x80, key_id(KEY)),
        "hash": sequence(oid("2.16.840.1.101.3.4.2.1")),
        "attributes": b"",
        "made_with": sequence(oid("1.2.840.10045.4.3.2")),
        "signature": tlv(0x04, b"s" * 64),
        "after": b"",
    }
    return sequence(*(parts | changed).values())


def signed(*found: bytes) -> bytes:
    return info(attributes=tlv(0xA0, *found))


def test_message_without_attributes_is_read() -> None:
    made = parse_modsig(GOOD)

    assert made.signer == SubjectKeyId(key_id(KEY))
    assert (made.algorithm, made.is_rsa, made.attributes) == (HashAlgorithm.SHA256, False, b"")
    assert appended_digest(made, file(tagged(b"content"))) == DIGEST


def test_certificates_revocation_lists_and_unsigned_attributes_are_passed_over() -> None:
    between = tlv(0xA0, b"\xff" * 40) + tlv(0xA1, b"\xff")

    made = parse_modsig(message(info(after=tlv(0xA1, b"\xff")), between=between))

    assert made.signature == b"s" * 64


@pytest.mark.parametrize("parameters", [b"", NULL])
def test_algorithms_may_have_null_parameters(parameters: bytes) -> None:
    made_with = sequence(oid("1.2.840.113549.1.1.1"), parameters)

    assert parse_modsig(message(info(made_with=made_with))).is_rsa


def test_attributes_are_hashed_as_a_set_and_either_digest_fits() -> None:
    made = parse_modsig(message(signer_info(KEY, DIGEST, signed=attributes(DIGEST))))
    as_set = tlv(0x31, *attributes(DIGEST))

    assert made.attributes == as_set
    of_set = hashlib.sha256(as_set).digest()
    for written in (tagged(b"content"), tagged(as_set)):
        assert appended_digest(made, file(written)) == of_set


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"", "another algorithm"),
        (tagged(b"content", "sha512"), "another algorithm"),
        (tagged(b"content", "sha1"), "another algorithm"),
        (tagged(b"content")[:-1], "another length"),
        (b"verity:" + tagged(b"content"), "another algorithm"),
    ],
    ids=["none", "sha512", "sha1", "short", "verity"],
)
def test_digest_that_the_message_is_not_for_is_told(written: bytes, words: str) -> None:
    with pytest.raises(SignatureInvalid, match=words) as refused:
        appended_digest(parse_modsig(GOOD), file(written))

    assert refused.value.code is RefusalCode.IMA_SIGNATURE_INVALID


def test_attributes_for_other_content_are_refused() -> None:
    made = parse_modsig(message(signer_info(KEY, DIGEST, signed=attributes(DIGEST))))

    with pytest.raises(SignatureInvalid, match="another content"):
        appended_digest(made, file(tagged(b"other")))


TYPE, MESSAGE = attributes(DIGEST)
NAMED = sequence(sequence(), integer(7))
ATTACKS = {
    "no SignedData": (GOOD.replace(oid("1.2.840.113549.1.7.2"), oid(DATA)), "no SignedData"),
    "bytes behind it": (GOOD + b"\0", "follow the end"),
    "cut": (GOOD[:-1], "remain"),
    "content inside": (message(info(), content=tlv(0xA0, tlv(0x04, b"x"))), "content inside"),
    "other content": (GOOD.replace(oid(DATA), oid("1.2.840.113549.1.7.5")), "content inside"),
    "no signer": (message(), "SignerInfo"),
    "two signers": (message(info(), info()), "more than one signer"),
    "SignedData version 4": (message(info(), version=4), "version"),
    "indefinite length": (b"\x30\x80" + GOOD[2:] + b"\0\0", "length"),
    "long length": (b"\x30\x84\0\0\0\x10" + b"x" * 16, "length"),
    "long tag": (b"\x1f" + GOOD[1:], "tag"),
    "nested": (sequence(sequence(sequence(sequence(sequence(NULL))))), "contentType"),
    "signer by name in version 3": (message(info(sid=NAMED)), "names its signer"),
    "signer by key id in version 1": (message(info(version=integer(1))), "names its signer"),
    "signer version 2": (message(info(version=integer(2))), "names its signer"),
    "SHA-1": (message(info(hash=sequence(oid("1.3.14.3.2.26")))), "SHA-1"),
    "SHA-224": (message(info(hash=sequence(oid("2.16.840.1.101.3.4.2.4")))), "hashes with"),
    "RSA-PSS": (message(info(made_with=sequence(oid("1.2.840.113549.1.1.10")))), "is made with"),
    "ECDSA of another hash": (
        message(info(made_with=sequence(oid("1.2.840.10045.4.3.3")))),
        "is made with",
    ),
    "parameters": (
        message(info(made_with=sequence(oid("1.2.840.10045.4.3.2"), integer(1)))),
        "with parameters",
    ),
    "bytes in the signer": (message(info(after=NULL)), "follow the end"),
    "empty attributes": (message(signed()), "without"),
    "attributes without digest": (message(signed(TYPE)), f"without {MESSAGE_DIGEST}"),
    "attributes without type": (message(signed(MESSAGE)), f"without {CONTENT_TYPE}"),
    "digest twice": (message(signed(TYPE, MESSAGE, MESSAGE)), "twice"),
    "type twice": (message(signed(TYPE, TYPE, MESSAGE)), "twice"),
    "two digests in one": (
        message(signed(TYPE, attribute(MESSAGE_DIGEST, tlv(0x04, DIGEST), tlv(0x04, DIGEST)))),
        "follow the end",
    ),
    "digest that is no string": (
        message(signed(TYPE, attribute(MESSAGE_DIGEST, integer(1)))),
        "tag",
    ),
    "attributes for another type": (
        message(signed(attribute(CONTENT_TYPE, oid("1.2.840.113549.1.7.5")), MESSAGE)),
        "other than data",
    ),
    "many attributes": (
        message(signed(*(attribute(f"1.2.{n}", NULL) for n in range(MAX_SIGNED_ATTRIBUTES + 1)))),
        "more than 16",
    ),
    "too large": (b"\x30" * (MAX_MODSIG_BYTES + 1), "at most"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_message_that_breaks_the_form_is_refused_with_its_reason(name: str) -> None:
    content, words = ATTACKS[name]

    with pytest.raises(MalformedInput, match=words) as refused:
        parse_modsig(content)

    assert refused.value.code is RefusalCode.IMA_SIGNATURE_INVALID


def test_every_cut_is_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(MalformedInput):
            parse_modsig(GOOD[:size])


def test_deep_nesting_costs_nothing() -> None:
    deep = b""
    while len(deep) < MAX_MODSIG_BYTES - 8:
        deep = tlv(0x30, deep)

    for content in (deep, message(info(), between=tlv(0xA0, deep[-8000:]))[:-1]):
        with pytest.raises(AttestationError):
            parse_modsig(content)


def test_rsa_and_long_hashes_are_read() -> None:
    key = rsa.generate_private_key(65537, 2048)

    for algorithm in ("sha256", "sha384", "sha512"):
        made = parse_modsig(modsig(key, b"content", algorithm))
        assert (made.algorithm.label, made.is_rsa) == (algorithm, True)
