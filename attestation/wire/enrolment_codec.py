"""Enrolment on the wire: one CBOR map with chains, keys, certifications, CSR and evidence.

Layout (all keys required, none other accepted)::

    {
      "idevid-chain": [+ DER], "iak-chain": [+ DER],        leaf first
      "idevid-public": TPMT_PUBLIC, "iak-public": TPMT_PUBLIC, "ldevid-public": TPMT_PUBLIC,
      "idevid-certify": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE},
      "ldevid-certify": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE},
      "csr": DER of a PKCS#10 request, "evidence": an evidence message
    }

Only sizes and kinds are judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.errors import LimitExceeded
from attestation.evidence import Quote
from attestation.limits import (
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_CSR_BYTES,
    MAX_ENROLMENT_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_TPM_STRUCTURE_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.strict_cbor import CborValue, Map

_STRUCTURE: Final = "enrolment request"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """What a device sends to be enrolled.

    Attributes:
        idevid_chain: DER certificates of the IDevID, leaf first, without the anchor.
        iak_chain: The same of the IAK.
        idevid_public: TPMT_PUBLIC of the IDevID key.
        iak_public: TPMT_PUBLIC of the IAK.
        ldevid_public: TPMT_PUBLIC of the new LDevID key.
        idevid_certify: TPM2_Certify of the IDevID key by the IAK.
        ldevid_certify: TPM2_Certify of the LDevID key by the IAK.
        csr: PKCS#10 request of the LDevID key, DER.
        evidence: A fresh evidence message quoted by the IAK.
    """

    idevid_chain: tuple[bytes, ...]
    iak_chain: tuple[bytes, ...]
    idevid_public: bytes
    iak_public: bytes
    ldevid_public: bytes
    idevid_certify: Quote
    ldevid_certify: Quote
    csr: bytes
    evidence: bytes


def encode_enrolment(request: EnrolmentRequest) -> bytes:
    """Encode one enrolment request."""
    return strict_cbor.encode(
        {
            "idevid-chain": request.idevid_chain,
            "iak-chain": request.iak_chain,
            "idevid-public": request.idevid_public,
            "iak-public": request.iak_public,
            "ldevid-public": request.ldevid_public,
            "idevid-certify": _certify_value(request.idevid_certify),
            "ldevid-certify": _certify_value(request.ldevid_certify),
            "csr": request.csr,
            "evidence": request.evidence,
        }
    )


def decode_enrolment(raw: bytes) -> EnrolmentRequest:
    """Decode one enrolment request.

    Raises:
        LimitExceeded: If the request, a chain or a field is larger than we take.
        MalformedInput: If it breaks the layout above (``request-invalid``, ``cbor-…``).
    """
    value = strict_cbor.decode(raw, limit_bytes=MAX_ENROLMENT_BYTES, structure=_STRUCTURE)
    fields = Map(value, _STRUCTURE, RefusalCode.REQUEST_INVALID)
    request = EnrolmentRequest(
        idevid_chain=_chain(fields, "idevid-chain"),
        iak_chain=_chain(fields, "iak-chain"),
        idevid_public=fields.octets("idevid-public", limit=MAX_TPM_STRUCTURE_BYTES),
        iak_public=fields.octets("iak-public", limit=MAX_TPM_STRUCTURE_BYTES),
        ldevid_public=fields.octets("ldevid-public", limit=MAX_TPM_STRUCTURE_BYTES),
        idevid_certify=_certify(fields.map("idevid-certify")),
        ldevid_certify=_certify(fields.map("ldevid-certify")),
        csr=fields.octets("csr", limit=MAX_CSR_BYTES),
        evidence=fields.octets("evidence", limit=MAX_EVIDENCE_BYTES),
    )
    fields.finish()
    return request


def _certify_value(certify: Quote) -> dict[strict_cbor.CborKey, CborValue]:
    return {"attest": certify.attest, "signature": certify.signature}


def _certify(fields: Map) -> Quote:
    certify = Quote(
        attest=fields.octets("attest", limit=MAX_TPM_STRUCTURE_BYTES),
        signature=fields.octets("signature", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    fields.finish()
    return certify


def _chain(fields: Map, key: str) -> tuple[bytes, ...]:
    certificates: list[bytes] = []
    for item in fields.array(key, limit=MAX_CHAIN_LENGTH):
        if not isinstance(item, bytes) or not item:
            raise fields.refusal(f"{key!r} holds something that is not a DER certificate")
        if len(item) > MAX_CERTIFICATE_BYTES:
            raise LimitExceeded(
                RefusalCode.TOO_LARGE,
                f"{key!r} holds a certificate of {len(item)} bytes, at most "
                f"{MAX_CERTIFICATE_BYTES} are accepted",
                structure=_STRUCTURE,
            )
        certificates.append(item)
    return tuple(certificates)
