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
from typing import Final

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import LimitExceeded, MalformedInput, Unsupported
from attestation.evidence import ClaimValue, Evidence, FirmwareLog, ImaPart, Quote
from attestation.identity import Nonce
from attestation.limits import (
    MAX_AGENT_LOG_BYTES,
    MAX_CLAIMS_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_FIRMWARE_LOG_BYTES,
    MAX_IMA_ENTRIES,
    MAX_IMA_PART_BYTES,
    MAX_TPM_STRUCTURE_BYTES,
)
from attestation.pcr import PCR_COUNT, PcrBanks
from attestation.refusals import RefusalCode
from attestation.wire import media_types, strict_cbor
from attestation.wire.cmw import (
    CmwCollection,
    CmwRecord,
    Indicator,
    decode_collection,
    encode_collection,
)
from attestation.wire.strict_cbor import CborKey, CborValue, Map

PART_CHALLENGE: Final = "challenge"
PART_QUOTE: Final = "quote"
PART_PCR_VALUES: Final = "pcr-values"
PART_FIRMWARE_LOG: Final = "firmware-log"
PART_IMA_LIST: Final = "ima-list"
PART_AGENT_LOG: Final = "agent-log"
PART_CLAIMS: Final = "claims"

MIN_NONCE_BYTES: Final = 8
MAX_NONCE_BYTES: Final = 64
"""An EAT nonce is 8 to 64 bytes (RFC 9711 section 4.1)."""

MAX_CLAIMS: Final = 64
"""Host facts in one message."""

_MAX_CLAIM_NAME_CHARS: Final = 64
_MAX_PCR_VALUES_BYTES: Final = 8 * 1024
_IMA_HEAD_BYTES: Final = 64
"""What the map around the entries takes."""

_MAX_QUOTE_BYTES: Final = 2 * MAX_TPM_STRUCTURE_BYTES + 64
_STRUCTURE: Final = "evidence"
_MEDIA_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    PART_CHALLENGE: (media_types.CHALLENGE,),
    PART_QUOTE: (media_types.TPM_QUOTE,),
    PART_PCR_VALUES: (media_types.PCR_VALUES,),
    PART_FIRMWARE_LOG: (media_types.FIRMWARE_LOG, media_types.FIRMWARE_LOG_DIGEST),
    PART_IMA_LIST: (media_types.IMA_LIST,),
    PART_AGENT_LOG: (media_types.AGENT_LOG,),
    PART_CLAIMS: (media_types.CLAIMS,),
}
_BOUND_AS_SENT: Final = frozenset({PART_PCR_VALUES, PART_IMA_LIST, PART_AGENT_LOG, PART_CLAIMS})
_EVIDENCE_INDICATORS: Final = frozenset(
    {None, *(Indicator(bits) for bits in range(1, 32) if bits & Indicator.EVIDENCE)}
)
_REQUIRED: Final = (PART_CHALLENGE, PART_QUOTE, PART_PCR_VALUES)


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
    return BoundParts(records=records, digests=_part_digests(records, _firmware_log(records)))


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
    collection = decode_collection(raw, limit_bytes=MAX_EVIDENCE_BYTES)
    if collection.collection_type != media_types.EVIDENCE_COLLECTION_TYPE:
        raise Unsupported(
            RefusalCode.UNSUPPORTED_VERSION,
            f"the collection type is {collection.collection_type!r}, wanted "
            f"{media_types.EVIDENCE_COLLECTION_TYPE!r}",
            structure=_STRUCTURE,
        )
    records = collection.records
    _check_records(records)
    firmware_log = _firmware_log(records)
    return Evidence(
        nonce=_nonce(records[PART_CHALLENGE].value),
        quote=_quote(records[PART_QUOTE].value),
        pcr_values=_pcr_values(records[PART_PCR_VALUES].value),
        firmware_log=firmware_log,
        ima_list=_ima_list(records),
        agent_log=_agent_log(records),
        claims=_claims(records[PART_CLAIMS].value) if PART_CLAIMS in records else {},
        part_digests=_part_digests(records, firmware_log),
        digest=hashlib.sha256(raw).digest(),
    )


def _part(media_type: str, value: bytes) -> CmwRecord:
    return CmwRecord(media_type=media_type, value=value, indicator=Indicator.EVIDENCE)


def _check_records(records: Mapping[str, CmwRecord]) -> None:
    for label in _REQUIRED:
        if label not in records:
            raise MalformedInput(
                RefusalCode.EVIDENCE_PART_MISSING,
                f"the part {label!r} is missing",
                structure=_STRUCTURE,
            )
    for label, record in records.items():
        accepted = _MEDIA_TYPES.get(label)
        if accepted is None:
            raise _malformed(f"the part {label[:40]!r} is not one of {', '.join(_MEDIA_TYPES)}")
        if record.media_type not in accepted:
            raise Unsupported(
                RefusalCode.UNSUPPORTED_VERSION,
                f"the part {label!r} is of type {record.media_type!r}, wanted "
                f"{' or '.join(accepted)}",
                structure=_STRUCTURE,
            )
        if record.indicator not in _EVIDENCE_INDICATORS:
            raise _malformed(f"the part {label!r} says that it is not evidence")


def _part_digests(
    records: Mapping[str, CmwRecord], firmware_log: FirmwareLog | None
) -> tuple[tuple[str, bytes], ...]:
    """Return the bound digests by the table at the top of this module, sorted by label."""
    digests: list[tuple[str, bytes]] = []
    for label in sorted(records):
        if label == PART_FIRMWARE_LOG and firmware_log is not None:
            bound = f"{label}\x00".encode() + firmware_log.digest
        elif label in _BOUND_AS_SENT:
            bound = f"{records[label].media_type}\x00".encode() + records[label].value
        else:
            continue
        digests.append((label, hashlib.sha256(bound).digest()))
    return tuple(digests)


def _nonce(value: bytes) -> Nonce:
    if not MIN_NONCE_BYTES <= len(value) <= MAX_NONCE_BYTES:
        raise MalformedInput(
            RefusalCode.NONCE_MALFORMED,
            f"the challenge is {len(value)} bytes, wanted {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES}",
            structure=f"{_STRUCTURE}.{PART_CHALLENGE}",
        )
    return Nonce(value)


def _quote(value: bytes) -> Quote:
    structure = f"{_STRUCTURE}.{PART_QUOTE}"
    fields = Map(
        strict_cbor.decode(value, limit_bytes=_MAX_QUOTE_BYTES, structure=structure),
        structure,
        RefusalCode.EVIDENCE_MALFORMED,
    )
    quote = Quote(
        attest=fields.octets("attest", limit=MAX_TPM_STRUCTURE_BYTES),
        signature=fields.octets("signature", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    fields.finish()
    return quote


def _pcr_values(value: bytes) -> PcrBanks:
    structure = f"{_STRUCTURE}.{PART_PCR_VALUES}"
    decoded = strict_cbor.decode(
        value, limit_bytes=_MAX_PCR_VALUES_BYTES, structure=structure, integer_keys=True
    )
    if not isinstance(decoded, dict) or not decoded:
        raise _malformed("wanted a map of at least one bank", structure)
    banks: dict[HashAlgorithm, Mapping[int, bytes]] = {}
    for alg_id, values in decoded.items():
        if not isinstance(alg_id, int) or alg_id < 0:
            raise _malformed("a bank is not named by its TPM_ALG_ID", structure)
        bank = hash_by_id(alg_id)
        banks[bank] = _bank(values, bank, structure)
    return banks


def _bank(values: CborValue, bank: HashAlgorithm, structure: str) -> Mapping[int, bytes]:
    if not isinstance(values, dict) or not values:
        raise _malformed(f"bank {bank.label} is not a map of at least one PCR", structure)
    size = bank.size
    digests: dict[int, bytes] = {}
    for index, digest in values.items():
        if not isinstance(index, int) or not 0 <= index < PCR_COUNT:
            raise _malformed(f"bank {bank.label} names PCR {index!r}"[:80], structure)
        if not isinstance(digest, bytes) or len(digest) != size:
            raise _malformed(
                f"{bank.label} PCR {index} is not a byte string of {size} bytes", structure
            )
        digests[index] = digest
    return digests


def _firmware_log(records: Mapping[str, CmwRecord]) -> FirmwareLog | None:
    record = records.get(PART_FIRMWARE_LOG)
    if record is None:
        return None
    structure = f"{_STRUCTURE}.{PART_FIRMWARE_LOG}"
    size = len(record.value)
    if record.media_type == media_types.FIRMWARE_LOG_DIGEST:
        if size != HashAlgorithm.SHA256.size:
            raise _malformed(f"the log's digest is {size} bytes, wanted 32", structure)
        return FirmwareLog(digest=record.value, content=None)
    if size == 0:
        raise _malformed("the log is empty; a device without a log leaves the part out", structure)
    if size > MAX_FIRMWARE_LOG_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the log is {size} bytes, at most {MAX_FIRMWARE_LOG_BYTES} are accepted",
            structure=structure,
        )
    return FirmwareLog(digest=hashlib.sha256(record.value).digest(), content=record.value)


def _ima_list(records: Mapping[str, CmwRecord]) -> ImaPart | None:
    """Take offset and entries; whether they are entries is for the appraisal to find out."""
    record = records.get(PART_IMA_LIST)
    if record is None:
        return None
    structure = f"{_STRUCTURE}.{PART_IMA_LIST}"
    limit = MAX_IMA_PART_BYTES + _IMA_HEAD_BYTES
    fields = Map(
        strict_cbor.decode(record.value, limit_bytes=limit, structure=structure),
        structure,
        RefusalCode.EVIDENCE_MALFORMED,
    )
    part = ImaPart(
        offset=fields.integer("offset", lowest=0, highest=MAX_IMA_ENTRIES),
        content=fields.octets("entries", limit=MAX_IMA_PART_BYTES, least=0),
    )
    fields.finish()
    return part


def _agent_log(records: Mapping[str, CmwRecord]) -> bytes | None:
    record = records.get(PART_AGENT_LOG)
    if record is None:
        return None
    structure = f"{_STRUCTURE}.{PART_AGENT_LOG}"
    if not record.value:
        raise _malformed("the log is empty; a device without one leaves the part out", structure)
    if len(record.value) > MAX_AGENT_LOG_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the log is {len(record.value)} bytes, at most {MAX_AGENT_LOG_BYTES} are accepted",
            structure=structure,
        )
    return record.value


def _claims(value: bytes) -> Mapping[str, ClaimValue]:
    structure = f"{_STRUCTURE}.{PART_CLAIMS}"
    decoded = strict_cbor.decode(value, limit_bytes=MAX_CLAIMS_BYTES, structure=structure)
    if not isinstance(decoded, dict):
        raise _bad_claims("wanted a map")
    if len(decoded) > MAX_CLAIMS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{len(decoded)} claims, at most {MAX_CLAIMS} are accepted",
            structure=structure,
        )
    claims: dict[str, ClaimValue] = {}
    for name, fact in decoded.items():
        if not _is_claim_name(name):
            raise _bad_claims(f"a name is not 1 to {_MAX_CLAIM_NAME_CHARS} printable characters")
        if not isinstance(fact, (str, int, bytes)):
            raise _bad_claims(f"{name!r} is a {type(fact).__name__}, wanted text, number or flag")
        claims[str(name)] = fact
    return claims


def _is_claim_name(name: CborKey) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _MAX_CLAIM_NAME_CHARS and name.isprintable()


def _malformed(reason: str, structure: str = _STRUCTURE) -> MalformedInput:
    return MalformedInput(RefusalCode.EVIDENCE_MALFORMED, reason, structure=structure)


def _bad_claims(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.CLAIMS_MALFORMED, reason, structure=f"{_STRUCTURE}.{PART_CLAIMS}"
    )
