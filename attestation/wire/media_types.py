"""Media types on the wire, one constant each; a part's type carries its version.

A new layout gets a new type (``….v2``), never a new meaning for an old one.
"""

from __future__ import annotations

from typing import Final

EVIDENCE: Final = "application/cmw+cbor"
"""One evidence message: a CMW collection (draft-ietf-rats-msg-wrap-23)."""

ENROLMENT: Final = "application/vnd.device-attestation.enrolment.v1+cbor"
"""One enrolment request: a CBOR map, see :mod:`attestation.wire.enrolment_codec`."""

ACTIVATION: Final = "application/vnd.device-attestation.activation.v1+cbor"
"""What asks for a challenge by endorsement key: see :mod:`attestation.wire.enrolment_codec`."""

CSR_PROOFS: Final = "application/vnd.device-attestation.csr-proofs.v1+cbor"
"""What no other place of a PKCS#10 request holds, see :mod:`attestation.wire.attested_csr`."""

AGENT: Final = "application/vnd.device-attestation.agent.v1+cbor"
"""An AI agent's request: a CBOR map, see :mod:`attestation.wire.agent_codec`."""

PROBLEM: Final = "application/problem+json"
"""Every HTTP error (RFC 9457)."""

EVIDENCE_COLLECTION_TYPE: Final = "urn:x-device-attestation:evidence:1"
"""``__cmwc_t`` of an evidence collection: which parts it has and how they are bound."""

CHALLENGE: Final = "application/vnd.device-attestation.challenge.v1"
"""The nonce, as the verifier made it."""

TPM_QUOTE: Final = "application/vnd.device-attestation.tpm-quote.v1+cbor"
"""``{"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE}``."""

PCR_VALUES: Final = "application/vnd.device-attestation.pcr-values.v1+cbor"
"""``{TPM_ALG_ID: {index: digest}}``."""

FIRMWARE_LOG: Final = "application/vnd.device-attestation.firmware-log.v1"
"""The firmware event log, whole (TCG PC Client Platform Firmware Profile, section 10)."""

FIRMWARE_LOG_DIGEST: Final = "application/vnd.device-attestation.firmware-log-digest.v1"
"""SHA-256 of a firmware event log that the verifier has seen before; 32 bytes."""

IMA_LIST: Final = "application/vnd.device-attestation.ima-list.v1+cbor"
"""``{"offset": entries left out, "entries": binary runtime measurements from there on}``."""

AGENT_LOG: Final = "application/vnd.device-attestation.agent-log.v1"
"""The AI agent's measurements: a TCG canonical event log in its TLV form."""

CLAIMS: Final = "application/vnd.device-attestation.claims.v1+cbor"
"""Host facts: ``{name: text | number | flag | bytes}``."""

EAR_JWT: Final = "application/eat+jwt"
"""An attestation result as a signed EAR (RFC 9782)."""

PKCS10: Final = "application/pkcs10"
"""A certification request, in base64 (RFC 7030, 4.2.1)."""

PKCS7: Final = "application/pkcs7-mime"
"""Certificates, in base64 (RFC 7030, 4.1.3 and 4.2.3)."""

CSR_ATTRIBUTES: Final = "application/csrattrs"
"""What a certification request should hold, in base64 (RFC 7030, 4.5.2)."""

EST_NONCE: Final = "application/est-attestation-freshness+json"
"""A request for, or answer with, a nonce (draft-ietf-lamps-attestation-freshness, 5.1)."""
