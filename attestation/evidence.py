"""Evidence as values: what a device sends, parsed and believed by nobody yet.

The raw bytes of every signed part are kept beside the parsed view, so that what was signed and
what is read can never part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from attestation.identity import Nonce
from attestation.pcr import PcrBanks
from attestation.reader import pack

QUOTE_DOMAIN: Final = b"device-attestation/quote/v1\x00"
"""Domain tag of a quote's qualifying data."""

CERTIFY_DOMAIN: Final = b"device-attestation/certify/v1\x00"
"""Domain tag of a key certification's qualifying data."""

ClaimValue = str | int | bool | bytes
"""What one host claim may hold: text, number, flag or bytes. Claims are context, never proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A TPM2_Quote or TPM2_Certify answer as the TPM gave it.

    Attributes:
        attest: TPMS_ATTEST, without the TPM2B size.
        signature: TPMT_SIGNATURE over ``attest``.
    """

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareLog:
    """A firmware event log, or only its digest when the verifier has already seen it.

    Attributes:
        digest: SHA-256 of the log's bytes. When ``content`` is present the codec computed it.
        content: The log (``binary_bios_measurements``), or None for "you have seen this one".
    """

    digest: bytes
    content: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaPart:
    """An IMA measurement list from one entry on.

    Attributes:
        offset: How many entries are left out because the verifier has them; 0 for the whole list.
        content: The entries from there on, binary form; empty if nothing is new.
    """

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One evidence message (RFC 9334 section 8.1).

    Attributes:
        nonce: The challenge that the device says it answers.
        quote: The signed quote.
        pcr_values: The PCR values that the device says it quoted; proven by the pcrDigest or not
            used.
        firmware_log: The firmware log or its digest; None if the device has none.
        claims: Host facts (kernel, boot id, …): context, never proof.
        ima_list: What the running kernel measured; None if the device sends no list.
        agent_log: The AI agent's measurements (canonical event log, TLV form); None without.
        part_digests: (label, SHA-256) of each bound part as received, sorted by label; see
            :func:`qualifying_data`.
        digest: SHA-256 of the whole message as received; names this evidence in stores and logs.
    """

    nonce: Nonce
    quote: Quote
    pcr_values: PcrBanks
    firmware_log: FirmwareLog | None
    claims: Mapping[str, ClaimValue]
    part_digests: tuple[tuple[str, bytes], ...]
    digest: bytes
    ima_list: ImaPart | None = None
    agent_log: bytes | None = None


def qualifying_data(nonce: bytes, part_digests: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return what the quote's extraData must be: SHA-256 over tag, nonce and every other part.

    Layout hashed: ``QUOTE_DOMAIN || u16 len(nonce) || nonce || for each part sorted by label:
    u16 len(label) || label (UTF-8) || SHA-256(part)``. Nothing can be swapped under a valid quote.
    """
    hashed = [QUOTE_DOMAIN, len(nonce).to_bytes(2), nonce]
    for label, digest in sorted(part_digests):
        hashed += (_named(label), digest)
    return hashlib.sha256(b"".join(hashed)).digest()


@lru_cache(maxsize=64)
def _named(label: str) -> bytes:
    name = label.encode()
    return pack(">H", len(name)) + name


def certify_qualifying_data(nonce: bytes, subject: str) -> bytes:
    """Return what a TPM2_Certify's extraData must be for the key named ``subject``.

    Args:
        nonce: The enrolment challenge.
        subject: ``idevid`` or ``ldevid``.
    """
    name = subject.encode()
    return hashlib.sha256(
        CERTIFY_DOMAIN + pack(">H", len(nonce)) + nonce + pack(">H", len(name)) + name
    ).digest()
