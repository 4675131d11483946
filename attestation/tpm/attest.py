"""TPMS_ATTEST: what a TPM says when it quotes PCRs or certifies a key (TPM 2.0 Part 2, 10.12.12).

Nothing here is believed yet: :func:`attestation.tpm.signature.verify_attest` proves the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from attestation.errors import LimitExceeded, SignatureInvalid
from attestation.identity import KeyName
from attestation.limits import MAX_PCR_SELECTIONS, MAX_TPM_STRUCTURE_BYTES
from attestation.pcr import PCR_COUNT
from attestation.reader import Reader, Struct
from attestation.refusals import RefusalCode
from attestation.tpm.clock import TpmClock
from attestation.tpm.constants import TPM_GENERATED, TPM_ST_ATTEST_CERTIFY, TPM_ST_ATTEST_QUOTE

_STRUCTURE: Final = "TPMS_ATTEST"
_MAX_NAME_BYTES: Final = 2 + 64
"""TPM2B_NAME: algorithm id and the largest digest."""
_MAX_EXTRA_BYTES: Final = 2 + 64
"""TPM2B_DATA is bounded by a TPMT_HA (Part 2, 10.4.3)."""
_MAX_DIGEST_BYTES: Final = 64
_MAX_SELECT_BYTES: Final = 4
"""PCR_SELECT_MAX: 3 on a PC Client TPM, 4 on some parts that round up."""

_HEAD: Final = Struct(">IH")
_CLOCK: Final = Struct(">QIIBQ")
_BANK: Final = Struct(">HB")
_USUAL_QUOTE: Final = Struct(">IHH34sH32sQIIBQIHB3BH32s")
"""A quote as nearly all are: a SHA-256 signer, 32 bytes of extraData, one bank, SHA-256."""
_USUAL_LENGTHS: Final = (TPM_GENERATED, TPM_ST_ATTEST_QUOTE, 34, 32, 1, 3, 32)
"""Magic, type, signer, extraData, banks, select and digest sizes of such a quote."""

_SELECTED: Final = tuple(
    tuple(tuple(8 * octet + bit for bit in range(8) if value >> bit & 1) for value in range(256))
    for octet in range(PCR_COUNT // 8)
)
"""PCR indices by octet number and octet value: bit n of octet m selects PCR 8m+n (10.6.1)."""


class QuotedPcrs(NamedTuple):
    """TPMS_QUOTE_INFO (Part 2, 10.12.1).

    Attributes:
        selections: (TPM_ALG_ID, ascending PCR indices) for each bank, in the order quoted: the
            pcrDigest depends on that order. Banks that we cannot compute keep their number.
        pcr_digest: H(selected values), with the hash of the *signing scheme*.
    """

    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """TPMS_CERTIFY_INFO (Part 2, 10.12.3).

    Attributes:
        name: Name of the certified object: nameAlg || H(TPMT_PUBLIC).
        qualified_name: Its Qualified Name, which tells its ancestors.
    """

    name: KeyName
    qualified_name: bytes


class Attest(NamedTuple):
    """One TPMS_ATTEST of type quote or certify; exactly one of the last two fields is there.

    A named tuple, like all that is made for every quote: a frozen dataclass costs three times as
    much.

    Attributes:
        raw: The bytes that were signed.
        type: ``TPM_ST_ATTEST_QUOTE`` or ``TPM_ST_ATTEST_CERTIFY``.
        qualified_signer: Qualified Name of the signing key, at most 66 bytes.
        extra: The caller's qualifying data (extraData), at most 66 bytes.
        clock: Clock, resetCount, restartCount, safe.
        firmware_version: Vendor's number; obfuscated by some TPMs outside the endorsement
            hierarchy.
        quote: What was quoted, for a quote.
        certified: What was certified, for a certification.
    """

    raw: bytes
    type: int
    qualified_signer: bytes
    extra: bytes
    clock: TpmClock
    firmware_version: int
    quote: QuotedPcrs | None
    certified: CertifiedKey | None


def parse_attest(raw: bytes) -> Attest:
    """Read a TPMS_ATTEST of type quote or certify (TPM 2.0 Part 2, 10.12.12).

    Args:
        raw: The structure without a TPM2B size, at most ``MAX_TPM_STRUCTURE_BYTES``.

    Returns:
        The parsed view beside the raw bytes.

    Raises:
        MalformedInput: If it is truncated, has trailing bytes or a field out of range.
        LimitExceeded: If it, or a field of it, is too large.
        SignatureInvalid: ``quote-magic-wrong`` if no TPM made it, ``quote-type-wrong`` if it is
            neither a quote nor a certification.
    """
    if len(raw) == _USUAL_QUOTE.size and (usual := _usual_quote(raw)) is not None:
        return usual
    return _by_fields(raw)


def _by_fields(raw: bytes) -> Attest:
    """Read any TPMS_ATTEST field by field, each bounded before it is read."""
    reader = Reader(raw, _STRUCTURE, limit=MAX_TPM_STRUCTURE_BYTES)
    magic, kind = reader.unpack(_HEAD, "magic and type")
    if magic != TPM_GENERATED:
        raise _magic_wrong(magic)
    signer = reader.sized("qualifiedSigner", limit=_MAX_NAME_BYTES)
    extra = reader.sized("extraData", limit=_MAX_EXTRA_BYTES)
    clock_ms, reset_count, restart_count, safe, firmware = reader.unpack(_CLOCK, "clockInfo")
    if safe > 1:
        raise reader.wrong("clockInfo.safe", safe, "0 or 1")
    quote = certified = None
    if kind == TPM_ST_ATTEST_QUOTE:
        quote = _read_quote(reader)
    elif kind == TPM_ST_ATTEST_CERTIFY:
        certified = _read_certified(reader)
    else:
        raise _type_wrong(kind)
    reader.end()
    return Attest(
        raw=raw,
        type=kind,
        qualified_signer=signer,
        extra=extra,
        clock=TpmClock(
            clock_ms=clock_ms,
            reset_count=reset_count,
            restart_count=restart_count,
            safe=safe == 1,
        ),
        firmware_version=firmware,
        quote=quote,
        certified=certified,
    )


def _usual_quote(raw: bytes) -> Attest | None:
    """Read a quote of the usual sizes in one go; None if a length or value is another.

    What it refuses is read field by field, to tell what is wrong.
    """
    (
        magic,
        kind,
        signer_size,
        signer,
        extra_size,
        extra,
        clock_ms,
        reset_count,
        restart_count,
        safe,
        firmware,
        banks,
        bank,
        select_size,
        first,
        second,
        third,
        digest_size,
        digest,
    ) = _USUAL_QUOTE.unpack(raw)
    lengths = (magic, kind, signer_size, extra_size, banks, select_size, digest_size)
    if lengths != _USUAL_LENGTHS or safe > 1:
        return None
    indices = _SELECTED[0][first] + _SELECTED[1][second] + _SELECTED[2][third]
    return Attest(
        raw=raw,
        type=kind,
        qualified_signer=signer,
        extra=extra,
        clock=TpmClock(
            clock_ms=clock_ms,
            reset_count=reset_count,
            restart_count=restart_count,
            safe=safe == 1,
        ),
        firmware_version=firmware,
        quote=QuotedPcrs(selections=((bank, indices),), pcr_digest=digest),
        certified=None,
    )


def _read_quote(reader: Reader) -> QuotedPcrs:
    count = reader.u32("pcrSelect.count")
    if count > MAX_PCR_SELECTIONS:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{count} PCR banks are selected, at most {MAX_PCR_SELECTIONS} are accepted",
            structure=_STRUCTURE,
            offset=reader.offset,
        )
    selections: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(count):
        bank, size = reader.unpack(_BANK, "pcrSelection")
        if size > _MAX_SELECT_BYTES:
            raise reader.wrong("sizeofSelect", size, f"0 to {_MAX_SELECT_BYTES}")
        if any(bank == earlier for earlier, _ in selections):
            raise reader.wrong("pcrSelection.hash", f"0x{bank:04x} again", "each bank once")
        selections.append((bank, _indices(reader, reader.take(size, "pcrSelect"))))
    digest = reader.sized("pcrDigest", limit=_MAX_DIGEST_BYTES)
    return QuotedPcrs(selections=tuple(selections), pcr_digest=digest)


def _indices(reader: Reader, bitmap: bytes) -> tuple[int, ...]:
    indices: tuple[int, ...] = ()
    for octet, value in enumerate(bitmap):
        if not value:
            continue
        if octet >= len(_SELECTED):
            raise reader.wrong(
                "pcrSelect", f"bits 0x{value:02x} above the last PCR", f"PCRs below {PCR_COUNT}"
            )
        indices += _SELECTED[octet][value]
    return indices


def _read_certified(reader: Reader) -> CertifiedKey:
    name = reader.sized("certify.name", limit=_MAX_NAME_BYTES)
    return CertifiedKey(
        name=KeyName(name),
        qualified_name=reader.sized("certify.qualifiedName", limit=_MAX_NAME_BYTES),
    )


def _magic_wrong(magic: int) -> SignatureInvalid:
    return SignatureInvalid(
        RefusalCode.QUOTE_MAGIC_WRONG,
        f"magic is 0x{magic:08x}, wanted 0x{TPM_GENERATED:08x}: these bytes were not made by a TPM",
        structure=_STRUCTURE,
        offset=0,
    )


def _type_wrong(kind: int) -> SignatureInvalid:
    return SignatureInvalid(
        RefusalCode.QUOTE_TYPE_WRONG,
        f"type is 0x{kind:04x}, wanted a quote (0x{TPM_ST_ATTEST_QUOTE:04x}) or a key "
        f"certification (0x{TPM_ST_ATTEST_CERTIFY:04x})",
        structure=_STRUCTURE,
        offset=4,
    )
