"""Evidence on the wire: a CMW collection whose every part is bound into the quote.

====================  ============================  =============================================
label                 media type                    bound digest
====================  ============================  =============================================
``challenge``         CHALLENGE                     none: the nonce itself is hashed
``quote``             TPM_QUOTE                     none: it is what binds
``pcr-values``        PCR_VALUES                    SHA-256(media type || 0x00 || value)
``firmware-log``      FIRMWARE_LOG or               SHA-256("firmware-log" || 0x00 ||
                      FIRMWARE_LOG_DIGEST           SHA-256(log))
``ima-list``          IMA_LIST                      SHA-256(media type || 0x00 || value)
``agent-log``         AGENT_LOG                     SHA-256(media type || 0x00 || value)
``claims``            CLAIMS                        SHA-256(media type || 0x00 || value)
====================  ============================  =============================================

The firmware log's bound digest is the same whether the log is sent whole or as its digest: a
device that was asked for the whole log sends it under the quote it already has.

Nothing here is believed: that is the business of the appraisal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from attestation.errors import MalformedInput, Unsupported
from attestation.evidence import ClaimValue, Evidence, FirmwareLog, ImaPart, Quote
from attestation.limits import MAX_EVIDENCE_BYTES
from attestation.pcr import PcrBanks
from attestation.refusals import RefusalCode
from attestation.wire import media_types, strict_cbor
from attestation.wire.cmw import (
    CmwCollection,
    CmwRecord,
    Indicator,
    decode_collection,
    encode_collection,
)
from attestation.wire.evidence_parts import (
    MAX_CLAIMS,
    MAX_NONCE_BYTES,
    MIN_NONCE_BYTES,
    PART_AGENT_LOG,
    PART_CHALLENGE,
    PART_CLAIMS,
    PART_FIRMWARE_LOG,
    PART_IMA_LIST,
    PART_PCR_VALUES,
    PART_QUOTE,
    STRUCTURE,
    malformed,
    read_agent_log,
    read_claims,
    read_firmware_log,
    read_ima_list,
    read_nonce,
    read_pcr_values,
    read_quote,
)
from attestation.wire.shapes import KnownShapes
from attestation.wire.strict_cbor import CborKey, CborValue

__all__ = [
    "MAX_CLAIMS",
    "MAX_NONCE_BYTES",
    "MIN_NONCE_BYTES",
    "PART_AGENT_LOG",
    "PART_CHALLENGE",
    "PART_CLAIMS",
    "PART_FIRMWARE_LOG",
    "PART_IMA_LIST",
    "PART_PCR_VALUES",
    "PART_QUOTE",
    "BoundParts",
    "decode_evidence",
    "encode_evidence",
    "encode_parts",
]

_MEDIA_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    PART_CHALLENGE: (media_types.CHALLENGE,),
    PART_QUOTE: (media_types.TPM_QUOTE,),
    PART_PCR_VALUES: (media_types.PCR_VALUES,),
    PART_FIRMWARE_LOG: (media_types.FIRMWARE_LOG, media_types.FIRMWARE_LOG_DIGEST),
    PART_IMA_LIST: (media_types.IMA_LIST,),
    PART_AGENT_LOG: (media_types.AGENT_LOG,),
    PART_CLAIMS: (media_types.CLAIMS,),
}
_BOUND: Final = frozenset(_MEDIA_TYPES) - {PART_CHALLENGE, PART_QUOTE}
_EVIDENCE_INDICATORS: Final = frozenset(
    {None, *(Indicator(bits) for bits in range(1, 32) if bits & Indicator.EVIDENCE)}
)
_REQUIRED: Final = (PART_CHALLENGE, PART_QUOTE, PART_PCR_VALUES)


class _Layout(NamedTuple):
    """Which parts a message has, in its order, and how each is bound.

    Attributes:
        types: Media types by label.
        bound: (label, what is hashed before the value) of each bound part, sorted by label.
    """

    types: Mapping[str, str | int]
    bound: tuple[tuple[str, bytes], ...]


_MESSAGES: Final[KnownShapes[_Layout]] = KnownShapes()
"""Messages by shape; one with a whole log comes once and is too long to be remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundParts:
    """The parts that a quote binds, ready to send.

    Attributes:
        records: The parts by label.
        digests: (label, SHA-256) of each, sorted by label: the argument of
            :func:`attestation.evidence.qualifying_data`.
    """

    records: Mapping[str, CmwRecord]
    digests: tuple[tuple[str, bytes], ...]


def encode_parts(
    pcr_values: PcrBanks,
    firmware_log: bytes | None,
    log_digest_only: bool,  # noqa: FBT001 - the contract's order; callers name it
    claims: Mapping[str, ClaimValue],
    *,
    ima_list: ImaPart | None = None,
    agent_log: bytes | None = None,
) -> BoundParts:
    """Encode what the quote will bind; quote over ``.digests``, then :func:`encode_evidence`.

    Args:
        pcr_values: The values about to be quoted, by bank and index.
        firmware_log: The log's bytes, or None if the device has none.
        log_digest_only: Send the log's SHA-256 in its place: the verifier has seen the log.
        claims: Host facts; left out of the message if there are none.
        ima_list: The IMA list from one entry on, or None to send none.
        agent_log: The AI agent's measurements, or None if there are none.
    """
    banks: dict[CborKey, CborValue] = {
        int(bank): dict(values.items()) for bank, values in pcr_values.items()
    }
    records = {PART_PCR_VALUES: _part(media_types.PCR_VALUES, strict_cbor.encode(banks))}
    if firmware_log is not None and log_digest_only:
        digest = hashlib.sha256(firmware_log).digest()
        records[PART_FIRMWARE_LOG] = _part(media_types.FIRMWARE_LOG_DIGEST, digest)
    elif firmware_log is not None:
        records[PART_FIRMWARE_LOG] = _part(media_types.FIRMWARE_LOG, firmware_log)
    if ima_list is not None:
        entries = strict_cbor.encode({"offset": ima_list.offset, "entries": ima_list.content})
        records[PART_IMA_LIST] = _part(media_types.IMA_LIST, entries)
    if agent_log is not None:
        records[PART_AGENT_LOG] = _part(media_types.AGENT_LOG, agent_log)
    if claims:
        facts: dict[CborKey, CborValue] = dict(claims.items())
        records[PART_CLAIMS] = _part(media_types.CLAIMS, strict_cbor.encode(facts))
    layout = _layout(records)
    values = {label: record.value for label, record in records.items()}
    return BoundParts(
        records=records, digests=_part_digests(layout, values, _firmware_log(layout, values))
    )


def encode_evidence(nonce: bytes, quote: Quote, parts: BoundParts) -> bytes:
    """Encode one evidence message.

    Args:
        nonce: The verifier's challenge, 8 to 64 bytes.
        quote: The TPM's answer over ``qualifying_data(nonce, parts.digests)``.
        parts: What the quote binds.
    """
    signed = strict_cbor.encode({"attest": quote.attest, "signature": quote.signature})
    records = {
        PART_CHALLENGE: _part(media_types.CHALLENGE, nonce),
        PART_QUOTE: _part(media_types.TPM_QUOTE, signed),
        **parts.records,
    }
    return encode_collection(
        CmwCollection(collection_type=media_types.EVIDENCE_COLLECTION_TYPE, records=records)
    )


def decode_evidence(raw: bytes) -> Evidence:
    """Decode one evidence message; every size is judged, nothing is believed.

    Raises:
        LimitExceeded: If the message or a part is larger than we take.
        MalformedInput: If it breaks the layout above (``evidence-malformed``,
            ``evidence-part-missing``, ``claims-malformed``, ``cbor-…``).
        Unsupported: If the collection or a part is of a version or algorithm we do not take.
    """
    known = _MESSAGES.read(raw)
    if known is not None:
        return _evidence(raw, known[0], known[1])
    layout, contents = _decoded_strictly(raw)
    evidence = _evidence(raw, layout, contents)
    _MESSAGES.learn(raw, layout)
    return evidence


def _decoded_strictly(raw: bytes) -> tuple[_Layout, tuple[bytes, ...]]:
    """Return which parts a message has and their values, in the message's order."""
    collection = decode_collection(raw, limit_bytes=MAX_EVIDENCE_BYTES)
    if collection.collection_type != media_types.EVIDENCE_COLLECTION_TYPE:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_VERSION,
            f"the collection type is {collection.collection_type!r}, wanted "
            f"{media_types.EVIDENCE_COLLECTION_TYPE!r}",
            structure=STRUCTURE,
        )
    records = collection.records
    _check_records(records)
    return _layout(records), tuple(record.value for record in records.values())


def _evidence(raw: bytes, layout: _Layout, contents: tuple[bytes, ...]) -> Evidence:
    """Read the parts of a message whose labels, types and indicators are judged."""
    values = dict(zip(layout.types, contents, strict=True))
    firmware_log = _firmware_log(layout, values)
    claims = values.get(PART_CLAIMS)
    return Evidence(
        nonce=read_nonce(values[PART_CHALLENGE]),
        quote=read_quote(values[PART_QUOTE]),
        pcr_values=read_pcr_values(values[PART_PCR_VALUES]),
        firmware_log=firmware_log,
        ima_list=read_ima_list(values.get(PART_IMA_LIST)),
        agent_log=read_agent_log(values.get(PART_AGENT_LOG)),
        claims=read_claims(claims) if claims is not None else {},
        part_digests=_part_digests(layout, values, firmware_log),
        digest=hashlib.sha256(raw).digest(),
    )


def _firmware_log(layout: _Layout, values: Mapping[str, bytes]) -> FirmwareLog | None:
    value = values.get(PART_FIRMWARE_LOG)
    if value is None:
        return None
    digest_only = layout.types[PART_FIRMWARE_LOG] == media_types.FIRMWARE_LOG_DIGEST
    return read_firmware_log(value, digest_only=digest_only)


def _part(media_type: str, value: bytes) -> CmwRecord:
    return CmwRecord(media_type=media_type, value=value, indicator=Indicator.EVIDENCE)


def _check_records(records: Mapping[str, CmwRecord]) -> None:
    for label in _REQUIRED:
        if label not in records:
            raise MalformedInput(
                RefusalCode.EVIDENCE_PART_MISSING,
                f"the part {label!r} is missing",
                structure=STRUCTURE,
            )
    for label, record in records.items():
        accepted = _MEDIA_TYPES.get(label)
        if accepted is None:
            raise malformed(f"the part {label[:40]!r} is not one of {', '.join(_MEDIA_TYPES)}")
        if record.media_type not in accepted:
            raise Unsupported(
                RefusalCode.UNSUPPORTED_VERSION,
                f"the part {label!r} is of type {record.media_type!r}, wanted "
                f"{' or '.join(accepted)}",
                structure=STRUCTURE,
            )
        if record.indicator not in _EVIDENCE_INDICATORS:
            raise malformed(f"the part {label!r} says that it is not evidence")


def _layout(records: Mapping[str, CmwRecord]) -> _Layout:
    bound = [
        (label, f"{label if label == PART_FIRMWARE_LOG else record.media_type}\x00".encode())
        for label, record in sorted(records.items())
        if label in _BOUND
    ]
    return _Layout(
        types={label: record.media_type for label, record in records.items()}, bound=tuple(bound)
    )


def _part_digests(
    layout: _Layout, values: Mapping[str, bytes], firmware_log: FirmwareLog | None
) -> tuple[tuple[str, bytes], ...]:
    """Return the bound digests by the table at the top of this module, sorted by label."""
    digests: list[tuple[str, bytes]] = []
    for label, head in layout.bound:
        value = values[label]
        if firmware_log is not None and label == PART_FIRMWARE_LOG:
            value = firmware_log.digest
        digests.append((label, hashlib.sha256(head + value).digest()))
    return tuple(digests)
