"""The parts of an evidence message, each read from its value; all sizes judged, nothing believed.

Everything here serves :mod:`attestation.wire.evidence_codec`; every reader raises
``MalformedInput``, ``LimitExceeded`` or ``Unsupported`` as :func:`decode_evidence` there says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from attestation.algorithms import HashAlgorithm, hash_by_id
from attestation.errors import LimitExceeded, MalformedInput
from attestation.evidence import ClaimValue, FirmwareLog, ImaPart, Quote
from attestation.identity import Nonce
from attestation.limits import (
    MAX_AGENT_LOG_BYTES,
    MAX_CLAIMS_BYTES,
    MAX_FIRMWARE_LOG_BYTES,
    MAX_IMA_ENTRIES,
    MAX_IMA_PART_BYTES,
    MAX_TPM_STRUCTURE_BYTES,
)
from attestation.pcr import PCR_COUNT, PcrBanks
from attestation.refusals import RefusalCode
from attestation.wire import strict_cbor
from attestation.wire.shapes import KnownShapes
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
STRUCTURE: Final = "evidence"
"""The name of an evidence message in errors."""
_LOG_STRUCTURE: Final = f"{STRUCTURE}.{PART_FIRMWARE_LOG}"

_QUOTE_FIELDS: Final = ("attest", "signature")

_KNOWN_PARTS: Final = 1024
_LONGEST_PART: Final = 2 * 1024
"""PCR values of two banks and usual claims; at most some 10 MiB of objects are remembered."""

_KNOWN_CLAIMS: Final = 16 * 1024
_LONGEST_CLAIMS: Final = 256
"""Each device has claims of its own, of some 100 bytes. 10 MiB of objects for a fleet of that size,
60 MiB if every device of it packs its claims with facts."""

_QUOTES: Final[KnownShapes[None]] = KnownShapes()


def read_nonce(value: bytes) -> Nonce:
    """Take a challenge of 8 to 64 bytes."""
    if not MIN_NONCE_BYTES <= len(value) <= MAX_NONCE_BYTES:
        raise MalformedInput(
            RefusalCode.NONCE_MALFORMED,
            f"the challenge is {len(value)} bytes, wanted {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES}",
            structure=f"{STRUCTURE}.{PART_CHALLENGE}",
        )
    return Nonce(value)


def read_quote(value: bytes) -> Quote:
    """Read attest and signature; of a shape that was read before they are only cut out."""
    known = _QUOTES.read(value)
    if known is not None:
        attest, signature = known[1]
        return Quote(attest=attest, signature=signature)
    structure = f"{STRUCTURE}.{PART_QUOTE}"
    decoded = strict_cbor.decode(value, limit_bytes=_MAX_QUOTE_BYTES, structure=structure)
    fields = Map(decoded, structure, RefusalCode.EVIDENCE_MALFORMED)
    quote = Quote(
        attest=fields.octets("attest", limit=MAX_TPM_STRUCTURE_BYTES),
        signature=fields.octets("signature", limit=MAX_TPM_STRUCTURE_BYTES),
    )
    fields.finish()
    if isinstance(decoded, dict) and tuple(decoded) == _QUOTE_FIELDS:
        _QUOTES.learn(value, None)
    return quote


def read_pcr_values(value: bytes) -> PcrBanks:
    """Read PCR values; those of a kind of machine come again and again, so they are remembered."""
    return _known_pcr_values(value) if len(value) <= _LONGEST_PART else _decode_pcr_values(value)


def _decode_pcr_values(value: bytes) -> PcrBanks:
    structure = f"{STRUCTURE}.{PART_PCR_VALUES}"
    decoded = strict_cbor.decode(
        value, limit_bytes=_MAX_PCR_VALUES_BYTES, structure=structure, integer_keys=True
    )
    if not isinstance(decoded, dict) or not decoded:
        raise malformed("wanted a map of at least one bank", structure)
    banks: dict[HashAlgorithm, Mapping[int, bytes]] = {}
    for alg_id, values in decoded.items():
        if not isinstance(alg_id, int) or alg_id < 0:
            raise malformed("a bank is not named by its TPM_ALG_ID", structure)
        bank = hash_by_id(alg_id)
        banks[bank] = _bank(values, bank, structure)
    return MappingProxyType(banks)


_known_pcr_values: Final = lru_cache(maxsize=_KNOWN_PARTS)(_decode_pcr_values)


def _bank(values: CborValue, bank: HashAlgorithm, structure: str) -> Mapping[int, bytes]:
    if not isinstance(values, dict) or not values:
        raise malformed(f"bank {bank.label} is not a map of at least one PCR", structure)
    size = bank.size
    digests: dict[int, bytes] = {}
    for index, digest in values.items():
        if not isinstance(index, int) or not 0 <= index < PCR_COUNT:
            raise malformed(f"bank {bank.label} names PCR {index!r}"[:80], structure)
        if not isinstance(digest, bytes) or len(digest) != size:
            raise malformed(
                f"{bank.label} PCR {index} is not a byte string of {size} bytes", structure
            )
        digests[index] = digest
    return MappingProxyType(digests)


def read_firmware_log(value: bytes, *, digest_only: bool) -> FirmwareLog:
    """Take a firmware log, or its SHA-256 alone."""
    size = len(value)
    if digest_only:
        if size != HashAlgorithm.SHA256.size:
            raise malformed(f"the log's digest is {size} bytes, wanted 32", _LOG_STRUCTURE)
        return FirmwareLog(digest=value, content=None)
    if size == 0:
        raise malformed(
            "the log is empty; a device without a log leaves the part out", _LOG_STRUCTURE
        )
    if size > MAX_FIRMWARE_LOG_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the log is {size} bytes, at most {MAX_FIRMWARE_LOG_BYTES} are accepted",
            structure=_LOG_STRUCTURE,
        )
    return FirmwareLog(digest=hashlib.sha256(value).digest(), content=value)


def read_ima_list(value: bytes | None) -> ImaPart | None:
    """Take offset and entries; whether they are entries is for the appraisal to find out."""
    if value is None:
        return None
    structure = f"{STRUCTURE}.{PART_IMA_LIST}"
    limit = MAX_IMA_PART_BYTES + _IMA_HEAD_BYTES
    fields = Map(
        strict_cbor.decode(value, limit_bytes=limit, structure=structure),
        structure,
        RefusalCode.EVIDENCE_MALFORMED,
    )
    part = ImaPart(
        offset=fields.integer("offset", lowest=0, highest=MAX_IMA_ENTRIES),
        content=fields.octets("entries", limit=MAX_IMA_PART_BYTES, least=0),
    )
    fields.finish()
    return part


def read_agent_log(value: bytes | None) -> bytes | None:
    """Take a log that is not empty; what it says is for the appraisal to find out."""
    if value is None:
        return None
    structure = f"{STRUCTURE}.{PART_AGENT_LOG}"
    if not value:
        raise malformed("the log is empty; a device without one leaves the part out", structure)
    if len(value) > MAX_AGENT_LOG_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"the log is {len(value)} bytes, at most {MAX_AGENT_LOG_BYTES} are accepted",
            structure=structure,
        )
    return value


def read_claims(value: bytes) -> Mapping[str, ClaimValue]:
    """Read host facts; a device's change seldom, so they are remembered."""
    return _known_claims(value) if len(value) <= _LONGEST_CLAIMS else _decode_claims(value)


def _decode_claims(value: bytes) -> Mapping[str, ClaimValue]:
    structure = f"{STRUCTURE}.{PART_CLAIMS}"
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
    return MappingProxyType(claims)


_known_claims: Final = lru_cache(maxsize=_KNOWN_CLAIMS)(_decode_claims)


def _is_claim_name(name: CborKey) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _MAX_CLAIM_NAME_CHARS and name.isprintable()


def malformed(reason: str, structure: str = STRUCTURE) -> MalformedInput:
    """Make (not raise) the error for evidence that breaks its layout."""
    return MalformedInput(RefusalCode.EVIDENCE_MALFORMED, reason, structure=structure)


def _bad_claims(reason: str) -> MalformedInput:
    return MalformedInput(
        RefusalCode.CLAIMS_MALFORMED, reason, structure=f"{STRUCTURE}.{PART_CLAIMS}"
    )
