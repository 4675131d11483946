"""The XML signature of a PC Client base RIM (W3C xmldsig-core1), and what it covers.

Only what came out of the check is handed on: the canonical bytes that the signature covers, read
again. What the document says of its key (KeyInfo) is thrown away before the check; the key is one
of a trusted signer. This is the only room that touches XML.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidDigest
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier
from typing_extensions import override

from attestation.errors import LimitExceeded, MalformedInput, SignatureInvalid, Unsupported
from attestation.limits import MAX_RIM_BYTES, MAX_RIM_DEPTH, MAX_RIM_REFERENCES
from attestation.refusals import RefusalCode
from verifier.reference_values.corim_sets import Signer

SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
"""Namespace of SWID tags (ISO/IEC 19770-2:2015)."""

_STRUCTURE: Final = "RIM signature"
_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_DS11: Final = "{http://www.w3.org/2009/xmldsig11#}"
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_HANDED_DOWN: Final = (f"{_XML}lang", f"{_XML}space")
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_CANONICAL: Final = frozenset(
    method.value
    for method in (
        CanonicalizationMethod.CANONICAL_XML_1_0,
        CanonicalizationMethod.CANONICAL_XML_1_1,
        CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
)
"""Without comments: a comment is not signed, and is not read."""
_METHODS: Final = frozenset(
    (
        *(SignatureMethod.RSA_SHA256, SignatureMethod.RSA_SHA384, SignatureMethod.RSA_SHA512),
        *(SignatureMethod.ECDSA_SHA256, SignatureMethod.ECDSA_SHA384, SignatureMethod.ECDSA_SHA512),
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
    )
)
_DIGESTS: Final = frozenset(
    (DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512)
)
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_CURVES: Final = frozenset(("secp256r1", "secp384r1", "secp521r1"))


@dataclass(frozen=True, slots=True)
class Element:
    """One XML element.

    Attributes:
        tag: ``{namespace}name``.
        attributes: By ``{namespace}name``, or ``name`` where it has no namespace.
        children: Elements within, in their order. Text is not kept: a SWID tag's is in attributes.
    """

    tag: str
    attributes: Mapping[str, str]
    children: tuple[Element, ...]


class _Verifier(XMLVerifier):
    """signxml, but each part is made canonical as a document of its own.

    lxml's canonical form of an element within a document loses the namespace of its children
    where two prefixes stand for it, as they do in the RIMs of common tools.
    """

    @override
    def _c14n(
        self,
        nodes: Any,
        algorithm: CanonicalizationMethod,
        inclusive_ns_prefixes: list[str] | None = None,
    ) -> bytes:
        alone = etree.fromstring(etree.tostring(nodes), parser=_parser())
        made: bytes = super()._c14n(alone, algorithm, inclusive_ns_prefixes)
        return made


def open_signed_tag(raw: bytes, signers: Iterable[Signer]) -> tuple[Element, Signer]:
    """Check a SWID tag's enveloped signature and return what it covers and who signed it.

    Args:
        raw: The file: UTF-8, at most ``MAX_RIM_BYTES``, without a document type.
        signers: Whose RIMs are believed.

    Raises:
        LimitExceeded: If it is too large or too deep.
        MalformedInput: ``rim-malformed`` if it is no SWID tag with one signature over all of it.
        Unsupported: ``unsupported-algorithm`` for SHA-1 and whatever else is not in our lists.
        SignatureInvalid: ``rim-signer-unknown`` if nobody, or none of the signers, signed it.
    """
    position = _covering_reference(_only_signature(_parse(raw)))
    why: list[str] = []
    for signer in signers:
        try:
            covered = _check(raw, signer, position)
        except SignatureInvalid as error:
            why.append(f"{signer.name}: {error.reason}")
            continue
        return _plain(covered), signer
    raise _not_signed(
        "no trusted signer signed it"
        + (f" ({'; '.join(why)})" if why else ": none is trusted here. Add one with: signer add")
    )


def _parse(raw: bytes) -> Any:  # noqa: ANN401 - lxml ships no types
    """Return the root of a SWID tag; entities, document types and other encodings are refused."""
    if len(raw) > MAX_RIM_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"a base RIM has at most {MAX_RIM_BYTES} bytes",
            structure=_STRUCTURE,
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed("is not UTF-8") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _malformed("has a document type; entities are not taken")
    try:
        root = etree.fromstring(raw, parser=_parser())
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise _malformed(f"is not well-formed XML at line {line}, column {column}") from error
    if root.tag != f"{SWID}SoftwareIdentity":
        raise _malformed("is no SWID tag of ISO/IEC 19770-2:2015")
    return root


def _parser() -> Any:  # noqa: ANN401 - lxml ships no types
    """Return a parser that fetches nothing, expands nothing, and keeps libxml2's own limits.

    The encoding is said here, so that the document's own word for it cannot hide anything.
    """
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
    )


def _only_signature(root: Any) -> Any:  # noqa: ANN401 - lxml ships no types
    found = list(root.iter(f"{_DS}Signature"))
    if not found:
        raise _not_signed("nobody signed this base RIM")
    if len(found) > 1:
        raise _malformed(f"has {len(found)} signatures, wanted one")
    if found[0].getparent() is not root:
        raise _malformed("the signature is not a child of the SWID tag itself")
    return found[0]


def _covering_reference(signature: Any) -> int:  # noqa: ANN401 - lxml ships no types
    """Return the place of the reference that covers the whole document without the signature."""
    info = signature.find(f"{_DS}SignedInfo")
    if info is None:
        raise _malformed("the signature has no SignedInfo")
    _require_algorithm(info.find(f"{_DS}CanonicalizationMethod"), _CANONICAL)
    _require_algorithm(info.find(f"{_DS}SignatureMethod"), frozenset(one.value for one in _METHODS))
    references = info.findall(f"{_DS}Reference")
    if not 0 < len(references) <= MAX_RIM_REFERENCES:
        raise _malformed(
            f"the signature has {len(references)} references, wanted 1 to {MAX_RIM_REFERENCES}"
        )
    covering: list[int] = []
    for position, reference in enumerate(references):
        _require_algorithm(
            reference.find(f"{_DS}DigestMethod"), frozenset(one.value for one in _DIGESTS)
        )
        transforms = list(reference.iter(f"{_DS}Transform"))
        for transform in transforms:
            _require_algorithm(transform, _CANONICAL | {_ENVELOPED})
        enveloped = _ENVELOPED in {transform.get("Algorithm") for transform in transforms}
        if reference.get("URI") == "" and enveloped:
            covering.append(position)
        elif not reference.get("URI", "").startswith("#"):
            raise _malformed("the signature refers to what is not in the document")
    if len(covering) != 1:
        raise _malformed("the signature does not cover the whole document, once")
    return covering[0]


def _require_algorithm(element: Any, taken: frozenset[str]) -> None:  # noqa: ANN401
    named = element.get("Algorithm") if element is not None else None
    if named is None:
        raise _malformed("the signature names no algorithm where it must")
    if named not in taken:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_ALGORITHM,
            f"the algorithm {named[:100]!r} is not taken",
            structure=_STRUCTURE,
        )


def _check(raw: bytes, signer: Signer, position: int) -> Any:  # noqa: ANN401 - as above
    """Return the part of the document that the signer's signature covers, read again.

    Raises:
        SignatureInvalid: If it does not hold with this signer's key.
    """
    _require_usable(signer)
    root = _parse(raw)  # anew for each signer, since it is changed below
    signature = _only_signature(root)
    for old in signature.findall(f"{_DS}KeyInfo"):
        signature.remove(old)
    own = etree.Element(f"{_DS}KeyInfo")
    der = signer.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    etree.SubElement(own, f"{_DS11}DEREncodedKeyValue").text = b64encode(der).decode()
    value = signature.find(f"{_DS}SignatureValue")
    if value is None:
        raise _malformed("the signature has no value")
    value.addnext(own)
    try:
        alone = etree.fromstring(etree.tostring(signature), parser=_parser())
        XMLVerifier().validate_schema(alone)
        _hand_down(root, signature)
        found = _Verifier().verify(
            etree.tostring(root),
            parser=_parser(),
            validate_schema=False,
            expect_config=SignatureConfiguration(
                require_x509=False,
                location="./",
                expect_references=False,
                signature_methods=_METHODS,
                digest_algorithms=_DIGESTS,
                default_reference_c14n_method=CanonicalizationMethod.CANONICAL_XML_1_0,
            ),
        )
    except InvalidDigest as error:
        raise _not_signed("it was changed after signing") from error
    except Exception as error:  # whatever the libraries raise on foreign bytes
        raise _not_signed("the signature is not this signer's") from error
    return _covered(found, position)


def _hand_down(root: Any, signature: Any) -> None:  # noqa: ANN401 - lxml ships no types
    """Write the language of the tag where canonical XML puts it, which signxml does not do.

    Inclusive canonical XML gives the topmost element of a part the ``xml:`` attributes of the
    elements around it (Canonical XML 1.0 section 2.4); SWID tags have ``xml:lang``. Whoever adds
    one to make a signature hold has only made what was signed.
    """
    info = signature.find(f"{_DS}SignedInfo")
    named = {reference.get("URI", "") for reference in info.findall(f"{_DS}Reference")}
    parts = [one for one in signature.iter() if f"#{one.get('Id')}" in named]
    method = info.find(f"{_DS}CanonicalizationMethod").get("Algorithm")
    if method != CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0.value:
        parts.append(info)
    for part in parts:
        for name in _HANDED_DOWN:
            if name in root.attrib and name not in part.attrib:
                part.set(name, root.get(name))


def _covered(found: VerifyResult | list[VerifyResult], position: int) -> Any:  # noqa: ANN401
    results = found if isinstance(found, list) else [found]
    covered = results[position].signed_xml if position < len(results) else None
    if covered is None:
        raise _not_signed("the signature covers no XML")
    return covered


def _require_usable(signer: Signer) -> None:
    key = signer.key
    if isinstance(key, rsa.RSAPublicKey):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise _not_signed(f"its RSA key has {key.key_size} bits, wanted 2048 to 8192")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _not_signed("its key is neither RSA nor on a NIST curve")


def _plain(element: Any, depth: int = 1) -> Element:  # noqa: ANN401 - lxml ships no types
    """Return an element without the library; comments and processing instructions fall away."""
    if depth > MAX_RIM_DEPTH:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"elements stand more than {MAX_RIM_DEPTH} deep",
            structure=_STRUCTURE,
        )
    return Element(
        tag=element.tag,
        attributes={str(name): str(value) for name, value in element.attrib.items()},
        children=tuple(_plain(one, depth + 1) for one in element if isinstance(one.tag, str)),
    )


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.RIM_MALFORMED, reason, structure=_STRUCTURE)


def _not_signed(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.RIM_SIGNER_UNKNOWN, reason, structure=_STRUCTURE)
