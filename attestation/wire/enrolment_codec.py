"""Enrolment on the wire: one CBOR map with chains, keys, certifications, CSR and evidence.

Layout (keys with ``?`` may be left out, none other is accepted)::

    {
      ? "idevid-chain": [+ DER], ? "iak-chain": [+ DER],        leaf first
      ? "idevid-public": TPMT_PUBLIC, "iak-public": TPMT_PUBLIC, "ldevid-public": TPMT_PUBLIC,
      ? "idevid-certify": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE},
      ? "ldevid-certify": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE},
      ? "csr": DER of a PKCS#10 request, ? "evidence": an evidence message,
      ? "nonce": the challenge, where there is no evidence to hold it,
      ? "result": an attestation result of ours (EAR, JWT),
      ? "ek": {"public": TPMT_PUBLIC, ? "chain": [+ DER], ? "activation": {"id", "answer"}},
      ? "cloud": {? "aws-iid": PKCS#7 text or DER, ? "azure-msi": JWT},
      ? "proofs": {* name: bytes}                               e.g. "owner-binding"
    }

What may be left out is what the enrolment policy does not ask for. Only sizes and kinds are judged
here. :class:`ActivationRequest` is what a device sends beforehand to be challenged by its EK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from attestation.errors import LimitExceeded
from attestation.evidence import Quote
from attestation.limits import (
    MAX_ACTIVATION_REQUEST_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN_LENGTH,
    MAX_CLOUD_DOCUMENT_BYTES,
    MAX_CSR_BYTES,
    MAX_ENROLMENT_BYTES,
    MAX_ENROLMENT_PROOFS,
    MAX_EVIDENCE_BYTES,
    MAX_PROOF_BYTES,
    MAX_TPM_STRUCTURE_BYTES,
)
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.strict_cbor import CborValue, Map

_STRUCTURE: Final = "enrolment request"


NO_PROOFS: Final[Mapping[str, bytes]] = MappingProxyType({})
_STRUCTURE_CSR: Final = "proofs beside a CSR"
_STRUCTURE_ACTIVATION: Final = "activation request"
_MAX_NONCE_BYTES: Final = 64
_MAX_ANSWER_BYTES: Final = 64
_ACTIVATION_ID_BYTES: Final = 256
_MAX_NAME_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EkStatement:
    """What a device says of its endorsement key.

    Attributes:
        public: TPMT_PUBLIC of the EK.
        chain: DER certificates of the EK, leaf first; empty for a TPM without one.
        activation: Id of the activation that was begun; empty if none was.
        answer: The secret that the TPM gave back.
    """

    public: bytes
    chain: tuple[bytes, ...] = ()
    activation: bytes = field(default=b"", repr=False)
    answer: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStatement:
    """What the cloud says of the instance that a device is.

    Attributes:
        aws_iid: Instance identity document with its signature (PKCS#7); empty for none.
        azure_msi: Managed identity token (JWT); empty for none.
    """

    aws_iid: bytes = b""
    azure_msi: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRequest:
    """What a device sends to be challenged by its endorsement key.

    Attributes:
        ek_public: TPMT_PUBLIC of the EK.
        ek_chain: DER certificates of the EK, leaf first; empty for a TPM without one.
        iak_public: TPMT_PUBLIC of the attestation key that must live beside it.
    """

    ek_public: bytes
    ek_chain: tuple[bytes, ...]
    iak_public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """What a device sends to be enrolled; what is empty or None was not sent.

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
        nonce: The challenge where there is no evidence to hold it.
        result: An attestation result of ours (EAR, JWT).
        ek: The endorsement key.
        cloud: The cloud's word.
        proofs: Further proofs by name, for whoever judges them.
    """

    idevid_chain: tuple[bytes, ...]
    iak_chain: tuple[bytes, ...]
    idevid_public: bytes
    iak_public: bytes
    ldevid_public: bytes
    idevid_certify: Quote | None
    ldevid_certify: Quote | None
    csr: bytes
    evidence: bytes
    nonce: bytes = field(default=b"", repr=False)
    result: str = ""
    ek: EkStatement | None = None
    cloud: CloudStatement = field(default_factory=CloudStatement)
    proofs: Mapping[str, bytes] = field(default_factory=lambda: NO_PROOFS)


def encode_enrolment(request: EnrolmentRequest) -> bytes:
    """Encode one enrolment request; what is empty is left out."""
    fields: dict[strict_cbor.CborKey, CborValue] = {
        "idevid-chain": request.idevid_chain,
        "iak-chain": request.iak_chain,
        "idevid-public": request.idevid_public,
        "ldevid-public": request.ldevid_public,
        "idevid-certify": _certify_value(request.idevid_certify),
        "ldevid-certify": _certify_value(request.ldevid_certify),
        "csr": request.csr,
        "evidence": request.evidence,
        "result": request.result,
        **_csr_fields(request),
    }
    return strict_cbor.encode(_present(fields))


def encode_csr_proofs(request: EnrolmentRequest) -> bytes:
    """Encode what a PKCS#10 request has no other place for; empty if there is nothing.

    Of the layout above: ``iak-public``, ``nonce``, ``ek``, ``cloud``, ``proofs``.
    """
    fields = _present(_csr_fields(request))
    return strict_cbor.encode(fields) if fields else b""


def encode_activation(request: ActivationRequest) -> bytes:
    """Encode what asks for an activation challenge."""
    return strict_cbor.encode(
        _present(
            {
                "ek-public": request.ek_public,
                "ek-chain": request.ek_chain,
                "iak-public": request.iak_public,
            }
        )
    )


def decode_activation(raw: bytes) -> ActivationRequest:
    """Decode what asks for an activation challenge.

    Raises:
        LimitExceeded: If it or a field is larger than we take.
        MalformedInput: If it is not such a map (``request-invalid``, ``cbor-…``).
    """
    value = strict_cbor.decode(
        raw, limit_bytes=MAX_ACTIVATION_REQUEST_BYTES, structure=_STRUCTURE_ACTIVATION
    )
    fields = Map(value, _STRUCTURE_ACTIVATION, RefusalCode.REQUEST_INVALID)
    request = ActivationRequest(
        ek_public=fields.octets("ek-public", limit=MAX_TPM_STRUCTURE_BYTES),
        ek_chain=_chain(fields, "ek-chain"),
        iak_public=fields.octets("iak-public", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    fields.finish()
    return request


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
        idevid_public=_octets(fields, "idevid-public", MAX_TPM_STRUCTURE_BYTES),
        iak_public=fields.octets("iak-public", limit=MAX_TPM_STRUCTURE_BYTES),
        ldevid_public=fields.octets("ldevid-public", limit=MAX_TPM_STRUCTURE_BYTES),
        idevid_certify=_certify(fields, "idevid-certify"),
        ldevid_certify=_certify(fields, "ldevid-certify"),
        csr=_octets(fields, "csr", MAX_CSR_BYTES),
        evidence=_octets(fields, "evidence", MAX_EVIDENCE_BYTES),
        nonce=_octets(fields, "nonce", _MAX_NONCE_BYTES),
        result=_text(fields, "result", MAX_PROOF_BYTES),
        ek=_ek(fields.map("ek")) if "ek" in fields else None,
        cloud=_cloud(fields.map("cloud")) if "cloud" in fields else CloudStatement(),
        proofs=_proofs(fields),
    )
    fields.finish()
    return request


def decode_csr_proofs(raw: bytes) -> EnrolmentRequest:
    """Decode what stands beside the rest of an enrolment in a PKCS#10 request.

    Returns:
        A request that is empty otherwise.

    Raises:
        LimitExceeded: If it or a field is larger than we take.
        MalformedInput: If it is not such a map (``request-invalid``, ``cbor-…``).
    """
    value = strict_cbor.decode(raw, limit_bytes=MAX_ENROLMENT_BYTES, structure=_STRUCTURE_CSR)
    fields = Map(value, _STRUCTURE_CSR, RefusalCode.REQUEST_INVALID)
    request = EnrolmentRequest(
        idevid_chain=(),
        iak_chain=(),
        idevid_public=b"",
        iak_public=_octets(fields, "iak-public", MAX_TPM_STRUCTURE_BYTES),
        ldevid_public=b"",
        idevid_certify=None,
        ldevid_certify=None,
        csr=b"",
        evidence=b"",
        nonce=_octets(fields, "nonce", _MAX_NONCE_BYTES),
        ek=_ek(fields.map("ek")) if "ek" in fields else None,
        cloud=_cloud(fields.map("cloud")) if "cloud" in fields else CloudStatement(),
        proofs=_proofs(fields),
    )
    fields.finish()
    return request


def _csr_fields(request: EnrolmentRequest) -> dict[strict_cbor.CborKey, CborValue]:
    """Return what a PKCS#10 request has no place for but a map of ours."""
    return {
        "iak-public": request.iak_public,
        "nonce": request.nonce,
        "ek": _ek_value(request.ek),
        "cloud": _present({"aws-iid": request.cloud.aws_iid, "azure-msi": request.cloud.azure_msi}),
        "proofs": dict[strict_cbor.CborKey, CborValue](request.proofs.items()),
    }


def _present(
    fields: Mapping[strict_cbor.CborKey, CborValue],
) -> dict[strict_cbor.CborKey, CborValue]:
    return {key: value for key, value in fields.items() if value}


def _certify_value(certify: Quote | None) -> CborValue:
    if certify is None:
        return None
    return {"attest": certify.attest, "signature": certify.signature}


def _ek_value(ek: EkStatement | None) -> CborValue:
    if ek is None:
        return None
    begun: dict[strict_cbor.CborKey, CborValue] = {"id": ek.activation, "answer": ek.answer}
    activation = begun if ek.activation else None
    return _present({"public": ek.public, "chain": ek.chain, "activation": activation})


def _octets(fields: Map, key: str, limit: int) -> bytes:
    return fields.octets(key, limit=limit) if key in fields else b""


def _text(fields: Map, key: str, limit: int) -> str:
    return fields.text(key, limit=limit) if key in fields else ""


def _certify(fields: Map, key: str) -> Quote | None:
    if key not in fields:
        return None
    inner = fields.map(key)
    certify = Quote(
        attest=inner.octets("attest", limit=MAX_TPM_STRUCTURE_BYTES),
        signature=inner.octets("signature", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    inner.finish()
    return certify


def _ek(fields: Map) -> EkStatement:
    public = fields.octets("public", limit=MAX_TPM_STRUCTURE_BYTES)
    chain = _chain(fields, "chain")
    activation = answer = b""
    if "activation" in fields:
        begun = fields.map("activation")
        activation = begun.octets("id", limit=_ACTIVATION_ID_BYTES)
        answer = begun.octets("answer", limit=_MAX_ANSWER_BYTES)
        begun.finish()
    fields.finish()
    return EkStatement(public=public, chain=chain, activation=activation, answer=answer)


def _cloud(fields: Map) -> CloudStatement:
    cloud = CloudStatement(
        aws_iid=_octets(fields, "aws-iid", MAX_CLOUD_DOCUMENT_BYTES),
        azure_msi=_text(fields, "azure-msi", MAX_CLOUD_DOCUMENT_BYTES),
    )
    fields.finish()
    if cloud == CloudStatement():
        raise fields.refusal("is an empty map; leave it out")
    return cloud


def _proofs(fields: Map) -> Mapping[str, bytes]:
    if "proofs" not in fields:
        return NO_PROOFS
    value = fields.value("proofs")
    if not isinstance(value, dict) or not value:
        raise fields.refusal("'proofs' is not a map with something in it")
    if len(value) > MAX_ENROLMENT_PROOFS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"'proofs' holds {len(value)}, at most {MAX_ENROLMENT_PROOFS} are accepted",
            structure=_STRUCTURE,
        )
    inner = Map(value, f"{_STRUCTURE}.proofs", RefusalCode.REQUEST_INVALID)
    found = {}
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_CHARS:
            raise fields.refusal("'proofs' has a name that is empty or too long")
        found[name] = inner.octets(name, limit=MAX_PROOF_BYTES)
    return MappingProxyType(found)


def _chain(fields: Map, key: str) -> tuple[bytes, ...]:
    if key not in fields:
        return ()
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
