"""TCG-CSR-IDEVID: what a device hands its manufacturer's CA (TCG Device Identity 1.10, 13.1).

Two nested structures, big endian, no padding between fields: the *content* (product, EK
certificate, both public areas, the certification of the IDevID by the IAK, and a hash over all of
that) and the *envelope* (content and the IDevID's signature over it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import IdentityMismatch, LimitExceeded, Unsupported
from attestation.limits import MAX_CERTIFICATE_BYTES, MAX_TPM_STRUCTURE_BYTES
from attestation.reader import Reader, Struct, pack
from attestation.refusals import RefusalCode
from attestation.tpm.attest import parse_attest
from attestation.tpm.public import (
    TpmPublic,
    parse_public,
    require_attestation_key,
    require_device_key,
)
from attestation.tpm.signature import verify_attest

CONTENT_VERSION: Final = 0x00000100
ENVELOPE_VERSION: Final = 0x01000100

_CONTENT: Final = "TCG_CSR_IDEVID_CONTENT"
_ENVELOPE: Final = "TCG_CSR_IDEVID"
_HEAD: Final = Struct(">III")
_SIZES: Final = Struct(">13I")
_ALIGNMENT: Final = 16
_MAX_TEXT_BYTES: Final = 1024
_MAX_BOOT_LOG_BYTES: Final = 64 * 1024
_LIMITS: Final = (
    ("prodModel", _MAX_TEXT_BYTES),
    ("prodSerial", _MAX_TEXT_BYTES),
    ("prodCaData", MAX_CERTIFICATE_BYTES),
    ("bootEvntLog", _MAX_BOOT_LOG_BYTES),
    ("ekCert", MAX_CERTIFICATE_BYTES),
    ("attestPub", MAX_TPM_STRUCTURE_BYTES),
    ("atCreateTkt", MAX_TPM_STRUCTURE_BYTES),
    ("atCertifyInfo", MAX_TPM_STRUCTURE_BYTES),
    ("atCertifyInfoSignature", MAX_TPM_STRUCTURE_BYTES),
    ("signingPub", MAX_TPM_STRUCTURE_BYTES),
    ("sgnCertifyInfo", MAX_TPM_STRUCTURE_BYTES),
    ("sgnCertifyInfoSignature", MAX_TPM_STRUCTURE_BYTES),
    ("pad", _ALIGNMENT - 1),
)
"""The thirteen payload fields in order, with what we accept of each, in bytes."""

_MAX_CONTENT_BYTES: Final = 1024 + sum(limit for _, limit in _LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcgCsrIdevidContent:
    """The payload of a TCG-CSR-IDEVID. Empty bytes stand for an absent field.

    Attributes:
        hash: Algorithm of the content's own hash.
        product_model: ASCII, as the manufacturer writes it.
        product_serial: ASCII; becomes the certificate's subject serialNumber.
        ca_data: Anything the CA and the device agreed on.
        boot_log: Boot event log.
        ek_certificate: EK certificate, DER (some devices send PEM).
        iak_public: TPMT_PUBLIC of the IAK.
        iak_create_ticket: TPMT_TK_CREATION of the IAK.
        iak_certify: TPMS_ATTEST, certification of the IAK's creation.
        iak_certify_signature: TPMT_SIGNATURE over ``iak_certify``.
        idevid_public: TPMT_PUBLIC of the IDevID.
        idevid_certify: TPMS_ATTEST, certification of the IDevID by the IAK.
        idevid_certify_signature: TPMT_SIGNATURE over ``idevid_certify``.
    """

    hash: HashAlgorithm
    product_model: bytes
    product_serial: bytes
    ca_data: bytes = b""
    boot_log: bytes = b""
    ek_certificate: bytes
    iak_public: bytes
    iak_create_ticket: bytes = b""
    iak_certify: bytes = b""
    iak_certify_signature: bytes = b""
    idevid_public: bytes
    idevid_certify: bytes
    idevid_certify_signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TcgCsrIdevid:
    """A TCG-CSR-IDEVID with its signature, parsed and believed by nobody yet.

    Attributes:
        raw_content: The content bytes that the IDevID signed.
        content: The parsed view of ``raw_content``.
        signature: TPMT_SIGNATURE by the IDevID over ``raw_content``.
    """

    raw_content: bytes
    content: TcgCsrIdevidContent
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenDeviceKeys:
    """The two keys of a TCG-CSR-IDEVID after :func:`prove_device_keys`.

    Attributes:
        idevid: Unrestricted identity key; it signed the content.
        iak: Restricted attestation key; it certified ``idevid``.
        firmware_version: What the TPM said with it that it runs; vendor's number, 64 bits.
    """

    idevid: TpmPublic
    iak: TpmPublic
    firmware_version: int


def build_content(content: TcgCsrIdevidContent, *, entropy: bytes) -> bytes:
    """Marshal the content, hash and padding included; the IDevID then signs these bytes.

    Args:
        content: The payload.
        entropy: At least 15 random bytes; the padding is cut from it.

    Returns:
        Bytes whose number is a multiple of 16.

    Raises:
        LimitExceeded: If a field is larger than :func:`parse_content` would take.
        ValueError: If ``entropy`` is too short.
    """
    payload = _payload(content)
    for (name, limit), value in zip(_LIMITS, payload, strict=False):
        if len(value) > limit:
            raise _too_large(name, len(value), limit)
    bare = _HEAD.size + content.hash.size + _SIZES.size + sum(len(value) for value in payload)
    padding = entropy[: -bare % _ALIGNMENT]
    if len(padding) != -bare % _ALIGNMENT:
        raise ValueError(f"entropy holds {len(entropy)} bytes, wanted {_ALIGNMENT - 1} or more")
    fields = (*payload, padding)
    hashed = pack(">13I", *(len(value) for value in fields)) + b"".join(fields)
    head = pack(">III", CONTENT_VERSION, content.hash, content.hash.size)
    return head + content.hash.digest(hashed) + hashed


def build(raw_content: bytes, signature: bytes) -> bytes:
    """Marshal the envelope around signed content.

    Args:
        raw_content: From :func:`build_content`.
        signature: TPMT_SIGNATURE by the IDevID over ``raw_content``.
    """
    head = pack(">III", ENVELOPE_VERSION, len(raw_content), len(signature))
    return head + raw_content + signature


def parse(raw: bytes) -> TcgCsrIdevid:
    """Read the envelope and its content.

    Raises:
        MalformedInput: If sizes do not add up, or as :func:`parse_content`.
        LimitExceeded: If it, or a field of it, is too large.
        Unsupported: For another structure version or hash.
    """
    reader = Reader(raw, _ENVELOPE)
    version, content_size, signature_size = reader.unpack(_HEAD, "structVer and sizes")
    _require_version(version, ENVELOPE_VERSION, _ENVELOPE)
    if content_size > _MAX_CONTENT_BYTES:
        raise _too_large("contents", content_size, _MAX_CONTENT_BYTES)
    if signature_size > MAX_TPM_STRUCTURE_BYTES:
        raise _too_large("signature", signature_size, MAX_TPM_STRUCTURE_BYTES)
    raw_content = reader.take(content_size, "csrContents")
    signature = reader.take(signature_size, "signature")
    reader.end()
    return TcgCsrIdevid(
        raw_content=raw_content, content=parse_content(raw_content), signature=signature
    )


def parse_content(raw: bytes) -> TcgCsrIdevidContent:
    """Read the content alone: some devices send content and signature apart.

    Raises:
        MalformedInput: If sizes do not add up to the length, or the hash inside is not that of
            what follows it.
        LimitExceeded: If a field is too large.
        Unsupported: For another structure version, or a hash other than SHA-256, -384, -512.
    """
    reader = Reader(raw, _CONTENT)
    version, hash_id, hash_size = reader.unpack(_HEAD, "structVer, hashAlgoId and hashSz")
    _require_version(version, CONTENT_VERSION, _CONTENT)
    algorithm = hash_by_id(hash_id)
    algorithm.for_signature()  # refuses SHA-1
    if hash_size != algorithm.size:
        raise reader.wrong("hashSz", hash_size, f"{algorithm.size} for {algorithm.label}")
    claimed = reader.take(hash_size, "hash")
    if algorithm.digest(raw[reader.offset :]) != claimed:
        raise reader.wrong("hash", "not that of the bytes after it", "an unchanged content")
    sizes = reader.unpack(_SIZES, "sizes")
    for (name, limit), size in zip(_LIMITS, sizes, strict=True):
        if size > limit:
            raise _too_large(name, size, limit)
    fields = [reader.take(size, name) for (name, _), size in zip(_LIMITS, sizes, strict=True)]
    reader.end()
    return TcgCsrIdevidContent(
        hash=algorithm,
        product_model=fields[0],
        product_serial=fields[1],
        ca_data=fields[2],
        boot_log=fields[3],
        ek_certificate=fields[4],
        iak_public=fields[5],
        iak_create_ticket=fields[6],
        iak_certify=fields[7],
        iak_certify_signature=fields[8],
        idevid_public=fields[9],
        idevid_certify=fields[10],
        idevid_certify_signature=fields[11],
    )


def prove_device_keys(request: TcgCsrIdevid) -> ProvenDeviceKeys:
    """Check that the IDevID signed the content and that the IAK certified that IDevID.

    TCG Device Identity 1.10, 6.1.2, the steps that need nothing but the request. What a CA still
    has to do: chain the EK certificate, match the serial with its inventory, and bind the IAK to
    the EK (credential activation).

    Returns:
        Both keys.

    Raises:
        SignatureInvalid: ``ak-not-restricted``, ``ak-attributes-wrong``; ``quote-magic-wrong`` or
            ``quote-type-wrong`` for the certification; ``quote-signature-invalid`` or
            ``signature-scheme-mismatch`` for either signature.
        IdentityMismatch: ``key-attributes-wrong`` for the IDevID; ``manufacture-request-invalid``
            if the IAK certified something else.
        MalformedInput: If a TPM structure inside is malformed.
        LimitExceeded: If a TPM structure inside has too large a field.
        Unsupported: If one uses an algorithm we do not take.
    """
    content = request.content
    iak = parse_public(content.iak_public)
    idevid = parse_public(content.idevid_public)
    require_attestation_key(iak)
    require_device_key(idevid)
    verify_attest(idevid, request.raw_content, request.signature)
    attest = parse_attest(content.idevid_certify)
    verify_attest(iak, content.idevid_certify, content.idevid_certify_signature)
    if attest.certified is None or attest.certified.name != idevid.name:
        raise IdentityMismatch(
            RefusalCode.MANUFACTURE_REQUEST_INVALID,
            "the IAK's certification names another object than the IDevID in this request",
            structure=_CONTENT,
        )
    return ProvenDeviceKeys(idevid=idevid, iak=iak, firmware_version=attest.firmware_version)


def _payload(content: TcgCsrIdevidContent) -> tuple[bytes, ...]:
    return (
        content.product_model,
        content.product_serial,
        content.ca_data,
        content.boot_log,
        content.ek_certificate,
        content.iak_public,
        content.iak_create_ticket,
        content.iak_certify,
        content.iak_certify_signature,
        content.idevid_public,
        content.idevid_certify,
        content.idevid_certify_signature,
    )


def _require_version(seen: int, wanted: int, structure: str) -> None:
    if seen != wanted:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_VERSION,
            f"structVer is 0x{seen:08x}, wanted 0x{wanted:08x}",
            structure=structure,
            offset=0,
        )


def _too_large(name: str, size: int, limit: int) -> LimitExceeded:
    return LimitExceeded(
        RefusalCode.TOO_LARGE,
        f"{name} announces {size} bytes, at most {limit} are accepted",
        structure=_CONTENT,
    )
