"""What a base RIM's signature must be, and whose; xmlsec1 and the origin of the sample signed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attestation.errors import AttestationError
from attestation.limits import MAX_RIM_BYTES, MAX_RIM_DEPTH, MAX_RIM_REFERENCES
from attestation.refusals import RefusalCode
from tests.simulators.corim_press import public_pem
from tests.simulators.rim_press import (
    C14N,
    ENVELOPED,
    EXCLUSIVE,
    MORE,
    SHA1,
    SHA512,
    PrivateKey,
    file,
    press,
    reference,
    signature,
    tag,
)
from verifier.reference_values.corim_sets import Signer, load_signer
from verifier.reference_values.rim_signature import Element, open_signed_tag

DATA = Path(__file__).parents[2] / "data" / "nsacyber_RIM-Tool"
AT = datetime(2026, 3, 1, tzinfo=UTC)
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TIME_STAMP = (
    '<Object><SignatureProperties><SignatureProperty Id="TST" Target="#rim">'
    '<t:timestamp xmlns:t="https://www.ietf.org/rfc/rfc3339.txt" dateTime="2026-03-01T00:00:00Z"/>'
    "</SignatureProperty></SignatureProperties></Object>"
)


def signer(key: PrivateKey | ed25519.Ed25519PrivateKey, name: str = "acme") -> Signer:
    return load_signer(public_pem(key), name, AT)


def template(**changed: str) -> str:
    return tag(file(b"log"), **changed)


def refused(raw: bytes, *signers: Signer) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        open_signed_tag(raw, signers or (signer(KEY),))
    return caught.value


@pytest.fixture(scope="module")
def good() -> bytes:
    return press(KEY, template())


def changed(raw: bytes, old: str, new: str) -> bytes:
    text = raw.decode()
    assert text.count(old) == 1
    return text.replace(old, new).encode()


def test_real_tag_holds_with_its_makers_key_and_with_no_other() -> None:
    raw = (DATA / "laptop.SHA384.1.swidtag").read_bytes()
    maker = load_signer((DATA / "pubKey.pem").read_text(), "maker", AT)

    found, who = open_signed_tag(raw, [signer(KEY, "other"), maker])

    assert who is maker
    assert found.attributes["tagId"] == "ca366cd7-b1a6-4afa-a5b1-2d7ebd8d9c"
    assert refused(raw, signer(RSA)).code is RefusalCode.RIM_SIGNER_UNKNOWN
    assert refused(changed(raw, "ProductA/", "ProductB/"), maker).reason.endswith(
        "(maker: it was changed after signing)"
    )


def test_real_tag_with_a_bad_signature_is_refused() -> None:
    maker = load_signer((DATA / "pubKey.pem").read_text(), "maker", AT)
    raw = (DATA / "laptop.default.bad-sig.swidtag").read_bytes()

    assert refused(raw, maker).code is RefusalCode.RIM_SIGNER_UNKNOWN


@pytest.mark.parametrize(
    ("key", "method"),
    [
        (KEY, "ecdsa-sha256"),
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa-sha384"),
        (ec.generate_private_key(ec.SECP521R1()), "ecdsa-sha512"),
        (RSA, "rsa-sha256"),
        (RSA, "rsa-sha512"),
    ],
)
@pytest.mark.parametrize("c14n", [C14N, EXCLUSIVE])
def test_signature_of_another_maker_holds(key: PrivateKey, method: str, c14n: str) -> None:
    made = signature(
        reference(digest=SHA512, transforms=(ENVELOPED, c14n)), method=MORE + method, c14n=c14n
    )
    raw = press(key, template(sign=made))

    found, who = open_signed_tag(raw, [signer(OTHER, "other"), signer(key)])

    assert who.name == "acme"
    assert [child.tag.rpartition("}")[2] for child in found.children] == [
        "Entity", "Meta", "Payload",
    ]  # fmt: skip


def test_signed_time_stamp_beside_the_tag_is_no_hindrance() -> None:
    made = signature(reference(), reference("#TST", transforms=()), more=TIME_STAMP)
    raw = press(KEY, template(sign=made))

    assert open_signed_tag(raw, [signer(KEY)])[1].name == "acme"
    forged = changed(raw, "2026-03-01T00", "2027-03-01T00")
    assert "changed after signing" in refused(forged).reason


def test_comment_is_neither_signed_nor_read(good: bytes) -> None:
    raw = changed(good, "</Payload>", "<!-- <File/> --></Payload>")

    assert open_signed_tag(raw, [signer(KEY)])[0] == open_signed_tag(good, [signer(KEY)])[0]


class TestKey:
    def test_key_in_the_document_is_not_believed(self) -> None:
        der = base64.b64encode(
            b"".join(
                base64.b64decode(line) for line in public_pem(OTHER).splitlines() if "-" not in line
            )
        ).decode()
        own = (
            '<KeyInfo><DEREncodedKeyValue xmlns="http://www.w3.org/2009/xmldsig11#">'
            f"{der}</DEREncodedKeyValue></KeyInfo>"
        )
        raw = changed(press(OTHER, template()), "</SignatureValue>", f"</SignatureValue>{own}")

        assert open_signed_tag(raw, [signer(OTHER)])[1].name == "acme"
        assert refused(raw).code is RefusalCode.RIM_SIGNER_UNKNOWN

    def test_nobody_is_trusted(self, good: bytes) -> None:
        with pytest.raises(AttestationError) as caught:
            open_signed_tag(good, [])

        assert "none is trusted here" in caught.value.reason

    def test_weak_or_unusable_key_of_a_signer_is_told(self) -> None:
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the test
        raw = press(weak, template(sign=signature(method=f"{MORE}rsa-sha256")))

        assert "1024 bits" in refused(raw, signer(weak)).reason
        odd = signer(ed25519.Ed25519PrivateKey.generate())
        assert "neither RSA nor" in refused(raw, odd).reason
        koblitz = ec.generate_private_key(ec.SECP256K1())
        assert "neither RSA nor" in refused(raw, signer(koblitz)).reason


class TestWrapping:
    """The signed tag is moved or hidden, and another one stands where it is read."""

    def test_signature_moved_to_another_tag(self, good: bytes) -> None:
        text = good.decode()
        taken = text[text.index("<Signature ") : text.index("</SoftwareIdentity>")]
        raw = tag(file(b"evil"), sign=taken).encode()

        assert "changed after signing" in refused(raw).reason

    def test_signed_tag_within_another_one(self, good: bytes) -> None:
        inner = good.decode().partition("\n")[2]
        raw = tag(file(b"evil"), sign=inner).encode()

        assert "not a child of the SWID tag itself" in refused(raw).reason

    def test_signed_tag_within_an_object_of_its_signature(self, good: bytes) -> None:
        text = good.decode()
        start, end = text.index("<Signature "), text.index("</SoftwareIdentity>")
        taken = text[start:end]
        inner = text[text.index("<SoftwareIdentity") : start] + "</SoftwareIdentity>"
        hidden = taken.replace("</Signature>", f"<Object>{inner}</Object></Signature>")

        assert "changed after" in refused(tag(file(b"evil"), sign=hidden).encode()).reason

    def test_reference_to_a_part_is_not_taken_for_the_whole(self) -> None:
        raw = press(KEY, template(sign=signature(reference("#acme-rr-1"))))

        assert "does not cover the whole document" in refused(raw).reason

    def test_whole_document_must_be_covered_once(self) -> None:
        raw = press(KEY, template(sign=signature(reference(), reference())))

        assert "does not cover the whole document, once" in refused(raw).reason

    def test_two_signatures(self, good: bytes) -> None:
        assert "has 2 signatures" in refused(template(sign=signature() * 2).encode()).reason
        text = good.decode()
        taken = text[text.index("<Signature ") : text.index("</SoftwareIdentity>")]
        raw = changed(good, "</SoftwareIdentity>", f"{taken}</SoftwareIdentity>")
        assert refused(raw).code is RefusalCode.RIM_MALFORMED

    def test_no_signature(self) -> None:
        assert "nobody signed" in refused(template(sign=" ").encode()).reason

    def test_external_reference(self) -> None:
        outside = reference("http://rim.example/file", transforms=())
        raw = template(sign=signature(reference(), outside)).encode()

        assert "what is not in the document" in refused(raw).reason

    def test_many_references(self) -> None:
        many = [reference("#x", transforms=()) for _ in range(MAX_RIM_REFERENCES)]
        raw = template(sign=signature(reference(), *many)).encode()

        assert f"wanted 1 to {MAX_RIM_REFERENCES}" in refused(raw).reason


class TestAlgorithms:
    @pytest.mark.parametrize(
        "made",
        [
            signature(reference(digest=SHA1)),
            signature(method="http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
            signature(method=f"{MORE}hmac-sha256"),
            signature(c14n=f"{C14N}#WithComments"),
            signature(reference(transforms=(ENVELOPED, "http://www.w3.org/TR/1999/REC-xpath-19991116"))),
            signature(reference(transforms=("http://www.w3.org/TR/1999/REC-xslt-19991116",))),
        ],
    )  # fmt: skip
    def test_algorithm_not_in_our_lists(self, made: str) -> None:
        assert refused(template(sign=made).encode()).code is RefusalCode.UNSUPPORTED_ALGORITHM

    def test_sha1_that_really_signed(self) -> None:
        made = signature(
            reference(digest=SHA1), method="http://www.w3.org/2000/09/xmldsig#rsa-sha1"
        )
        raw = press(RSA, template(sign=made))

        assert refused(raw, signer(RSA)).code is RefusalCode.UNSUPPORTED_ALGORITHM


def laughs(text: str) -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<!DOCTYPE SoftwareIdentity [<!ENTITY l0 "ha">{entities}]>\n<SoftwareIdentity'
    return text.replace("<SoftwareIdentity", head).replace('name="ACME"', 'name="&l9;"').encode()


def outside(text: str) -> bytes:
    head = '<!DOCTYPE SoftwareIdentity [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n<SoftwareId'
    return text.replace("<SoftwareId", head, 1).replace("</Payload>", "&x;</Payload>").encode()


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (laughs, "document type"),
        (outside, "document type"),
        (lambda text: text.encode("utf-16"), "not UTF-8"),
        (lambda text: text.replace("UTF-8", "UTF-7").encode()[:-5], "not well-formed"),
        (lambda text: text.replace('name="ACME"', 'name="&x;"').encode(), "not well-formed"),
        (lambda _: b"<a/>", "no SWID tag"),
        (lambda _: b"", "not well-formed"),
        (lambda text: text.replace("2015", "2009").encode(), "no SWID tag"),
        (lambda text: text.replace("SignedInfo>", "SignedInf>").encode(), "no SignedInfo"),
        (lambda text: text.replace("<SignatureValue/>", "").encode(), "no value"),
        (lambda text: text.replace(f'<DigestMethod Algorithm="{SHA512}"/>', "").encode(), "no alg"),
    ],
)  # fmt: skip
def test_hostile_or_broken_xml(bend: Callable[[str], bytes], reason: str) -> None:
    raw = bend(template(sign=signature(reference(digest=SHA512))))

    error = refused(raw)

    assert error.code is RefusalCode.RIM_MALFORMED
    assert reason in error.reason


def test_encoding_that_hides_a_document_type_is_not_followed() -> None:
    text = template(sign=" ").replace("UTF-8", "UTF-7")
    hidden = text.replace(
        "<SoftwareIdentity", "+ADw-!DOCTYPE SoftwareIdentity+AD4-<SoftwareIdentity"
    )

    assert "not well-formed" in refused(hidden.encode()).reason


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("</SignedInfo>", "</SignedInfo><SignedInfo/>"),
        ("</SignatureValue>", "</SignatureValue><SignatureValue>AAAA</SignatureValue>"),
        ("</SignatureValue>", "</SignatureValue><Note/>"),
    ],
)
def test_signature_with_more_than_the_schema_has(good: bytes, where: str, more: str) -> None:
    assert refused(changed(good, where, more)).code is RefusalCode.RIM_SIGNER_UNKNOWN


def test_size_and_depth_are_bounded() -> None:
    assert refused(b"<" * (MAX_RIM_BYTES + 1)).code is RefusalCode.TOO_LARGE
    folders = "<Directory>" * MAX_RIM_DEPTH + "</Directory>" * MAX_RIM_DEPTH
    deep = press(KEY, tag(payload=folders))
    assert refused(deep).code is RefusalCode.TOO_MANY
    bottomless = f"{'<a>' * 60_000}"
    assert refused(bottomless.encode()).code is RefusalCode.RIM_MALFORMED


def test_element_keeps_attributes_by_namespace(good: bytes) -> None:
    found, _ = open_signed_tag(good, [signer(KEY)])

    assert isinstance(found, Element)
    assert found.attributes["{http://www.w3.org/XML/1998/namespace}lang"] == "en"
