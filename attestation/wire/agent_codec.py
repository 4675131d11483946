"""An AI agent's request on the wire: a CBOR map with its key's proofs and what it asks for.

Layout (keys with ``?`` may be left out, none other is accepted)::

    {
      "agent": name, ? "class": class of the enrolment policy that it expects to be put in,
      "nonce": the challenge,
      "agent-public": TPMT_PUBLIC, ? "csr": DER of a PKCS#10 request by that key,
      ? "agent-certify": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE},   by the IAK
      ? "evidence": an evidence message over the same challenge,
      ? "aibom": SHA-256 of the AIBOM that the agent consists of,
      ? "aibom-document": the AIBOM itself, ? "provider-endorsement": DSSE envelope (JSON),
      ? "owner-binding": JWS of the owner (attestation.wire.owner_binding),
      ? "capabilities": [+ word], ? "locator": URI, ? "validation-methods": [+ word]
    }

Lists are canonical (:mod:`attestation.capabilities`). What may be left out is what the class does
not ask for. The certification's purpose is :func:`certify_purpose`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from attestation.capabilities import VALIDATION_METHODS, require_canonical, require_locator
from attestation.evidence import Quote
from attestation.identity import AgentName, agent_name
from attestation.limits import (
    MAX_AGENT_REQUEST_BYTES,
    MAX_AIBOM_BYTES,
    MAX_CAPABILITIES,
    MAX_CAPABILITY_CHARS,
    MAX_CSR_BYTES,
    MAX_ENDORSEMENT_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_LOCATOR_CHARS,
    MAX_OWNER_BINDING_CHARS,
    MAX_TPM_STRUCTURE_BYTES,
    MAX_VALIDATION_METHODS,
)
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.strict_cbor import CborValue, Map

_STRUCTURE: Final = "agent request"
_MAX_NONCE_BYTES: Final = 64
_DIGEST_BYTES: Final = 32
_MAX_NAME_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """What a device sends to have one of its AI agents enrolled; what is empty was not sent.

    Attributes:
        agent: The agent's name.
        nonce: The challenge, issued for this agent of this device.
        agent_public: TPMT_PUBLIC of the agent's key.
        csr: PKCS#10 request signed by it, DER.
        certify: TPM2_Certify of it by the IAK, purpose :func:`certify_purpose`.
        evidence: Evidence over ``nonce``; empty where the device's last result is to do.
        agent_class: The class that it expects to be put in; empty for whichever it is.
        aibom: SHA-256 of the agent's AIBOM.
        aibom_document: The AIBOM, exact bytes; empty where the verifier holds it.
        provider_endorsement: The provider's DSSE envelope for it, JSON.
        owner_binding: What the owner signed, JWS in compact form.
        capabilities: What it asks to be allowed, in canonical order.
        locator: Where it is reached; empty if that is nobody's business.
        validation_methods: How a registry may have it prove itself, in canonical order.
    """

    agent: AgentName
    nonce: bytes = field(repr=False)
    agent_public: bytes
    csr: bytes = b""
    certify: Quote | None = None
    evidence: bytes = b""
    agent_class: str = ""
    aibom: bytes = b""
    aibom_document: bytes = b""
    provider_endorsement: bytes = b""
    owner_binding: str = ""
    capabilities: tuple[str, ...] = ()
    locator: str = ""
    validation_methods: tuple[str, ...] = ()


def certify_purpose(agent: AgentName) -> str:
    """Return what an agent's key is certified as: ``subject`` of ``certify_qualifying_data``."""
    return f"agent:{agent}"


def encode_agent(request: AgentRequest) -> bytes:
    """Encode one request; what is empty is left out."""
    certify: CborValue = None
    if request.certify is not None:
        certify = {"attest": request.certify.attest, "signature": request.certify.signature}
    fields: dict[strict_cbor.CborKey, CborValue] = {
        "agent": request.agent,
        "class": request.agent_class,
        "nonce": request.nonce,
        "agent-public": request.agent_public,
        "csr": request.csr,
        "agent-certify": certify,
        "evidence": request.evidence,
        "aibom": request.aibom,
        "aibom-document": request.aibom_document,
        "provider-endorsement": request.provider_endorsement,
        "owner-binding": request.owner_binding,
        "capabilities": request.capabilities,
        "locator": request.locator,
        "validation-methods": request.validation_methods,
    }
    return strict_cbor.encode({key: value for key, value in fields.items() if value})


def decode_agent(raw: bytes) -> AgentRequest:
    """Decode one request.

    Raises:
        LimitExceeded: If it, a list or a field is larger than we take.
        MalformedInput: If it breaks the layout above (``request-invalid``, ``cbor-…``,
            ``agent-name-invalid``, ``capability-invalid``).
    """
    value = strict_cbor.decode(raw, limit_bytes=MAX_AGENT_REQUEST_BYTES, structure=_STRUCTURE)
    fields = Map(value, _STRUCTURE, RefusalCode.REQUEST_INVALID)
    request = AgentRequest(
        agent=agent_name(fields.text("agent", limit=_MAX_NAME_CHARS)),
        agent_class=_text(fields, "class", _MAX_NAME_CHARS),
        nonce=fields.octets("nonce", limit=_MAX_NONCE_BYTES),
        agent_public=fields.octets("agent-public", limit=MAX_TPM_STRUCTURE_BYTES),
        csr=_octets(fields, "csr", MAX_CSR_BYTES),
        certify=_certify(fields),
        evidence=_octets(fields, "evidence", MAX_EVIDENCE_BYTES),
        aibom=_octets(fields, "aibom", _DIGEST_BYTES),
        aibom_document=_octets(fields, "aibom-document", MAX_AIBOM_BYTES),
        provider_endorsement=_octets(fields, "provider-endorsement", MAX_ENDORSEMENT_BYTES),
        owner_binding=_text(fields, "owner-binding", MAX_OWNER_BINDING_CHARS),
        capabilities=require_canonical(_words(fields, "capabilities", MAX_CAPABILITIES)),
        locator=require_locator(fields.text("locator", limit=MAX_LOCATOR_CHARS))
        if "locator" in fields
        else "",
        validation_methods=require_canonical(
            _words(fields, "validation-methods", MAX_VALIDATION_METHODS), kind=VALIDATION_METHODS
        ),
    )
    fields.finish()
    if request.aibom and len(request.aibom) != _DIGEST_BYTES:
        raise fields.refusal(f"'aibom' has {len(request.aibom)} bytes, a SHA-256 has 32")
    return request


def _octets(fields: Map, key: str, limit: int) -> bytes:
    return fields.octets(key, limit=limit) if key in fields else b""


def _text(fields: Map, key: str, limit: int) -> str:
    return fields.text(key, limit=limit) if key in fields else ""


def _certify(fields: Map) -> Quote | None:
    if "agent-certify" not in fields:
        return None
    inner = fields.map("agent-certify")
    certify = Quote(
        attest=inner.octets("attest", limit=MAX_TPM_STRUCTURE_BYTES),
        signature=inner.octets("signature", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    inner.finish()
    return certify


def _words(fields: Map, key: str, limit: int) -> tuple[str, ...]:
    if key not in fields:
        return ()
    found: list[str] = []
    for item in fields.array(key, limit=limit):
        if not isinstance(item, str) or not 0 < len(item) <= MAX_CAPABILITY_CHARS:
            raise fields.refusal(f"{key!r} holds something that is not a word we take")
        found.append(item)
    return tuple(found)
