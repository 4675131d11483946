"""Signatures that stand behind a file's content (template ``ima-modsig``), as modules have them.

The field ``modsig`` is a CMS SignedData (RFC 5652, 5) in DER with one signer and without content,
as the kernel's ``scripts/sign-file`` writes it; ``d-modsig`` is the digest that the kernel had
computed for it over the file without its signature (Linux ``ima_modsig.c``).

Without signed attributes the signature is over the content's digest. With them it is over the DER
of the attributes as a SET, and one of them, messageDigest, is the content's digest (RFC 5652, 5.4).
Linux then writes the attributes' digest into ``d-modsig``, after it has held messageDigest against
the content itself (``pkcs7_verify.c``, ``pkcs7_digest`` and ``pkcs7_get_digest``). So ``d-modsig``
must be the one or the other.

Certificates in the message are passed over unread: who sends a signature must not bring its key.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attestation import der
from attestation.algorithms import HashAlgorithm
from attestation.der import DerReader, Element
from attestation.errors import InputError, MalformedInput, SignatureInvalid
from attestation.limits import MAX_MODSIG_BYTES, MAX_SIGNED_ATTRIBUTES
from attestation.logs.ima.template import ImaFile
from attestation.refusals import RefusalCode

_STRUCTURE: Final = "modsig"
_EXPLICIT: Final = 0xA0
_CRLS: Final = 0xA1
_ATTRIBUTES: Final = 0xA0
_UNSIGNED: Final = 0xA1
_KEY_ID: Final = 0x80

_DATA: Final = "1.2.840.113549.1.7.1"
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_RSA: Final = "1.2.840.113549.1.1.1"
_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": HashAlgorithm.SHA256,
    "2.16.840.1.101.3.4.2.2": HashAlgorithm.SHA384,
    "2.16.840.1.101.3.4.2.3": HashAlgorithm.SHA512,
}
_SHA1: Final = "1.3.14.3.2.26"
_ECDSA: Final = {
    "1.2.840.10045.4.3.2": HashAlgorithm.SHA256,
    "1.2.840.10045.4.3.3": HashAlgorithm.SHA384,
    "1.2.840.10045.4.3.4": HashAlgorithm.SHA512,
}


class IssuerAndSerial(NamedTuple):
    """A key named by its certificate (RFC 5652, 10.2.4).

    Attributes:
        issuer: Name of the issuer, DER.
        serial: Serial number.
    """

    issuer: bytes
    serial: int


class SubjectKeyId(NamedTuple):
    """A key named by its subject key identifier (RFC 5280, 4.2.1.2)."""

    value: bytes


class AppendedSignature(NamedTuple):
    """The signer's part of an appended signature.

    Attributes:
        algorithm: With what the content, and signed attributes, are hashed.
        signer: Which key made it; a hint, never a proof.
        is_rsa: Whether it is RSA PKCS#1 v1.5; otherwise it is ECDSA.
        signature: The signature.
        attributes: Signed attributes as the SET that is signed; empty if there are none.
        message_digest: What they say is the content's digest; empty if there are none.
    """

    algorithm: HashAlgorithm
    signer: IssuerAndSerial | SubjectKeyId
    is_rsa: bool
    signature: bytes
    attributes: bytes = b""
    message_digest: bytes = b""


def parse_modsig(message: bytes) -> AppendedSignature:
    """Read an appended signature.

    Args:
        message: ContentInfo with SignedData, DER, nothing before or behind it.

    Raises:
        MalformedInput: ``ima-signature-invalid`` if it is larger than we accept, is not of this
            form, has content, has not exactly one signer, or has an algorithm other than SHA-256,
            SHA-384 or SHA-512 with RSA PKCS#1 v1.5 or ECDSA.
    """
    if len(message) > MAX_MODSIG_BYTES:
        raise _malformed(f"has {len(message)} bytes, at most {MAX_MODSIG_BYTES} are accepted")
    try:
        return _signer_info(_only_signer(message))
    except InputError as error:
        if error.code is RefusalCode.IMA_SIGNATURE_INVALID:
            raise
        raise _malformed(f"is not the DER that is wanted: {error.reason}") from error


def appended_digest(made: AppendedSignature, file: ImaFile) -> bytes:
    """Return the hash that an appended signature must be over, with ``made.algorithm``.

    Raises:
        SignatureInvalid: ``ima-signature-invalid`` if the kernel has measured no digest for it,
            one of another algorithm, or one that the signed attributes do not speak of.
    """
    algorithm, _, value = file.modsig_digest.partition(b":\0")
    if algorithm.decode("ascii", "replace") != made.algorithm.label:
        raise _invalid(f"hashes with {made.algorithm.label}, d-modsig is of another algorithm")
    if len(value) != made.algorithm.size:
        raise _invalid("is over a digest of another length than d-modsig")
    if not made.attributes:
        return value
    signed = made.algorithm.digest(made.attributes)
    if value not in (signed, made.message_digest):
        raise _invalid("has signed attributes for another content than was measured")
    return signed


class Appended:
    """An appended signature that is read when it is first asked for, and once.

    Args:
        message: As for :func:`parse_modsig`.
    """

    __slots__ = ("_message", "_read")

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._read: AppendedSignature | MalformedInput | None = None

    def read(self) -> AppendedSignature:
        """Return what it says; raises as :func:`parse_modsig`, each time."""
        if self._read is None:
            try:
                self._read = parse_modsig(self._message)
            except MalformedInput as error:
                self._read = error
        if isinstance(self._read, MalformedInput):
            raise self._read
        return self._read

    def stated_digest(self) -> bytes:
        """Return the content's digest by the signature's own words (messageDigest).

        Returns:
            In the form of ``d-modsig`` (``sha256:`` NUL digest); empty if there are no signed
            attributes or the signature cannot be read.
        """
        try:
            made = self.read()
        except MalformedInput:
            return b""
        if not made.attributes:
            return b""
        return f"{made.algorithm.label}:\0".encode() + made.message_digest


def _only_signer(message: bytes) -> Element:
    """Return the SignerInfo of a message (RFC 5652, 3 and 5.1)."""
    outer = DerReader(message, _STRUCTURE)
    info = DerReader(outer.next("ContentInfo", der.SEQUENCE).body, _STRUCTURE)
    outer.end()
    if der.oid(info.next("contentType", der.OID)) != _SIGNED_DATA:
        raise _malformed("is no SignedData")
    explicit = DerReader(info.next("content", _EXPLICIT).body, _STRUCTURE)
    info.end()
    signed = DerReader(explicit.next("SignedData", der.SEQUENCE).body, _STRUCTURE)
    explicit.end()
    if der.integer(signed.next("version", der.INTEGER)) not in (1, 3):
        raise _malformed("is a SignedData of another version than 1 or 3")
    signed.next("digestAlgorithms", der.SET)
    content = DerReader(signed.next("encapContentInfo", der.SEQUENCE).body, _STRUCTURE)
    if der.oid(content.next("eContentType", der.OID)) != _DATA or content.more:
        raise _malformed("has content inside, or is for content other than data")
    signed.optional("certificates", _EXPLICIT)
    signed.optional("crls", _CRLS)
    signers = DerReader(signed.next("signerInfos", der.SET).body, _STRUCTURE)
    signed.end()
    signer = signers.next("SignerInfo", der.SEQUENCE)
    if signers.more:
        raise _malformed("has more than one signer")
    return signer


def _signer_info(element: Element) -> AppendedSignature:
    """Read a SignerInfo (RFC 5652, 5.3)."""
    reader = DerReader(element.body, _STRUCTURE)
    version = der.integer(reader.next("version", der.INTEGER))
    signer = _signer(reader.next("sid"), version)
    algorithm = _hash(reader.next("digestAlgorithm", der.SEQUENCE))
    attributes = reader.optional("signedAttrs", _ATTRIBUTES)
    is_rsa = _is_rsa(reader.next("signatureAlgorithm", der.SEQUENCE), algorithm)
    signature = reader.next("signature", der.OCTET_STRING).body
    reader.optional("unsignedAttrs", _UNSIGNED)
    reader.end()
    made = AppendedSignature(algorithm, signer, is_rsa, signature)
    if attributes is None:
        return made
    return made._replace(
        attributes=bytes([der.SET]) + attributes.raw[1:],
        message_digest=_message_digest(attributes),
    )


def _signer(sid: Element, version: int) -> IssuerAndSerial | SubjectKeyId:
    if version == 3 and sid.tag == _KEY_ID:  # noqa: PLR2004 - the version of RFC 5652, 5.3
        return SubjectKeyId(sid.body)
    if version != 1 or sid.tag != der.SEQUENCE:
        raise _malformed("names its signer in a way that its version does not know")
    reader = DerReader(sid.body, _STRUCTURE)
    issuer = reader.next("issuer", der.SEQUENCE).raw
    serial = der.integer(reader.next("serialNumber", der.INTEGER))
    reader.end()
    return IssuerAndSerial(issuer, serial)


def _algorithm(element: Element) -> str:
    """Return the OID of an AlgorithmIdentifier whose parameters are absent or NULL."""
    reader = DerReader(element.body, _STRUCTURE)
    name = der.oid(reader.next("algorithm", der.OID))
    if reader.optional("parameters", der.NULL) is None and reader.more:
        raise _malformed(f"has the algorithm {name} with parameters")
    reader.end()
    return name


def _hash(element: Element) -> HashAlgorithm:
    name = _algorithm(element)
    if name == _SHA1:
        raise _malformed("is over SHA-1, which is not accepted; sign with SHA-256 or better")
    if name not in _HASHES:
        raise _malformed(f"hashes with {name}, wanted SHA-256, -384 or -512")
    return _HASHES[name]


def _is_rsa(element: Element, algorithm: HashAlgorithm) -> bool:
    name = _algorithm(element)
    if name != _RSA and _ECDSA.get(name) is not algorithm:
        raise _malformed(f"is made with {name}, wanted rsaEncryption, or ECDSA with its own hash")
    return name == _RSA


def _message_digest(attributes: Element) -> bytes:
    """Return messageDigest of signed attributes; each attribute stands once (RFC 5652, 5.3, 11)."""
    reader = DerReader(attributes.body, _STRUCTURE)
    found: dict[str, Element] = {}
    while reader.more:
        if len(found) >= MAX_SIGNED_ATTRIBUTES:
            raise _malformed(f"has more than {MAX_SIGNED_ATTRIBUTES} signed attributes")
        attribute = DerReader(reader.next("Attribute", der.SEQUENCE).body, _STRUCTURE)
        name = der.oid(attribute.next("attrType", der.OID))
        values = attribute.next("attrValues", der.SET)
        attribute.end()
        if name in found:
            raise _malformed(f"has the signed attribute {name} twice")
        found[name] = values
    if der.oid(_value(found, _CONTENT_TYPE, der.OID)) != _DATA:
        raise _malformed("has signed attributes for content other than data")
    return _value(found, _MESSAGE_DIGEST, der.OCTET_STRING).body


def _value(found: dict[str, Element], name: str, tag: int) -> Element:
    if name not in found:
        raise _malformed(f"has signed attributes without {name}")
    reader = DerReader(found[name].body, _STRUCTURE)
    value = reader.next(name, tag)
    reader.end()
    return value


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.IMA_SIGNATURE_INVALID,
        f"the appended signature {reason}",
        structure=_STRUCTURE,
    )


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(
        RefusalCode.IMA_SIGNATURE_INVALID,
        f"the appended signature {reason}",
        structure=_STRUCTURE,
    )
