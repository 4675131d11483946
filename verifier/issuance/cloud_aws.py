"""AWS instance identity documents: verified for real, and never enough alone.

The document is what ``/latest/dynamic/instance-identity/rsa2048`` of the metadata service serves:
a CMS SignedData (RSA-2048, SHA-256) with the JSON inside, base64. The key is AWS's for the region
that the document names; AWS publishes its certificates, the owner configures them. (AWS: "Verify
the instance identity document", RSA-2048.)

The document has no nonce and no end: whoever could once ask an instance's metadata service holds it
for good. It says which instance a device claims to be; only a TPM says that it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attestation.algorithms import HashAlgorithm
from attestation.errors import IdentityMismatch, InputError, MalformedInput, SignatureInvalid
from attestation.refusals import RefusalCode
from attestation.wire.cms import SignedContent, parse_signed_content
from attestation.wire.strict_json import parse_json

_STRUCTURE: Final = "AWS instance identity document"
MIN_RSA_BITS: Final = 2048
"""Below this no key of AWS's is used."""

_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,32}")
_PEM_LINE: Final = re.compile(rb"-----(?:BEGIN|END) PKCS7-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """Whose instance identity documents are believed.

    Attributes:
        keys: AWS's RSA keys by region.
        accounts: The owner's accounts.
    """

    keys: Mapping[str, tuple[rsa.RSAPublicKey, ...]]
    accounts: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsInstance:
    """An instance that AWS vouched for.

    Attributes:
        account: AWS account.
        region: Its region.
        instance: Its id, ``i-…``.
    """

    account: str
    region: str
    instance: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of what only one device may be."""
        return hashlib.sha256(f"{self.account}/{self.region}/{self.instance}".encode()).digest()


def judge_aws(document: bytes, trusted: AwsKeys) -> AwsInstance:
    """Prove that AWS signed an instance identity document for an account of the owner's.

    Args:
        document: base64 text, with or without PEM lines, or DER or BER as it is.
        trusted: From the enrolment policy.

    Raises:
        MalformedInput: ``aws-document-malformed``.
        SignatureInvalid: ``aws-signature-invalid`` if no key of the region made the signature.
        IdentityMismatch: ``aws-document-foreign`` for another account.
    """
    signed = _parsed(_binary(document))
    claims = _claims(signed.content)
    region, account = _text(claims, "region"), _text(claims, "accountId")
    instance = _text(claims, "instanceId")
    if not _INSTANCE.fullmatch(instance):
        raise _malformed("instanceId is not of the form i-…")
    keys = trusted.keys.get(region, ())
    if not signed.is_of_content or not any(_made_by(key, signed) for key in keys):
        known = "has not signed it" if keys else "is not configured"
        raise SignatureInvalid(
            RefusalCode.AWS_SIGNATURE_INVALID,
            f"AWS's key for region {region[:32]!r} {known}",
            structure=_STRUCTURE,
        )
    if account not in trusted.accounts:
        raise IdentityMismatch(
            RefusalCode.AWS_DOCUMENT_FOREIGN,
            "the instance belongs to an account that the enrolment policy does not name",
            structure=_STRUCTURE,
        )
    return AwsInstance(account=account, region=region, instance=instance)


def _binary(document: bytes) -> bytes:
    if document[:1] == b"\x30":
        return document
    text = b"".join(_PEM_LINE.sub(b"", document).split())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _malformed("it is neither base64 nor CMS") from error


def _parsed(raw: bytes) -> SignedContent:
    try:
        return parse_signed_content(raw)
    except InputError as error:
        raise _malformed(error.reason) from error


def _claims(content: bytes) -> Mapping[str, object]:
    try:
        claims = parse_json(content)
    except ValueError as error:
        raise _malformed("what is signed is not JSON") from error
    if not isinstance(claims, dict):
        raise _malformed("what is signed is no JSON object")
    return claims


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(f"{name} is missing")
    return value


def _made_by(key: rsa.RSAPublicKey, signed: SignedContent) -> bool:
    made = signed.signature
    if not made.is_rsa or made.algorithm is not HashAlgorithm.SHA256:
        return False
    if key.key_size < MIN_RSA_BITS:
        return False
    try:
        key.verify(
            made.signature, signed.signed, padding.PKCS1v15(), made.algorithm.for_signature()
        )
    except InvalidSignature:
        return False
    return True


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.AWS_DOCUMENT_MALFORMED, reason, structure=_STRUCTURE)
