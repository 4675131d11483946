"""Certificates in the TPM's non-volatile memory."""

from __future__ import annotations

from typing import Final

from tpm2_pytss import ESYS_TR
from tpm2_pytss.constants import TPM2_ALG, TPMA_NV
from tpm2_pytss.types import TPM2B_NV_PUBLIC, TPMS_NV_PUBLIC

from attestation.refusals import RefusalCode
from device_agent.errors import SourceUnreadable, TpmRefused
from device_agent.tpm.connection import OpenTpm

_CERTIFICATE_ATTRIBUTES: Final = (
    TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.PPREAD | TPMA_NV.NO_DA
)
"""Anyone may read (the index's own authorisation is empty), only the owner may write; failed
reads never count towards the dictionary-attack lockout."""

_PT_NV_INDEX_MAX: Final = 0x117
_PT_NV_BUFFER_MAX: Final = 0x12C
_SMALLEST_BUFFER: Final = 512

_DER_SEQUENCE: Final = 0x30
_DER_LONG_FORM: Final = 0x80
_DER_MAX_LENGTH_BYTES: Final = 3


def read_certificate(tpm: OpenTpm, index: int) -> bytes | None:
    """Read the DER object at an NV index, without the padding some makers leave behind it.

    Returns:
        The object; None if the index is absent or was never written.

    Raises:
        SourceUnreadable: If what is there does not begin with one whole DER SEQUENCE.
        TpmRefused: If the index may not be read with the owner's or its own authorisation.
    """
    content = read_content(tpm, index)
    return None if content is None else one_der_object(content, f"NV index 0x{index:08x}")


def read_content(tpm: OpenTpm, index: int) -> bytes | None:
    """Read all that an NV index holds.

    Returns:
        The content; None if the index is absent or was never written.

    Raises:
        TpmRefused: If the index may not be read with the owner's or its own authorisation.
    """
    found = tpm.find(index)
    if found is None:
        return None
    try:
        public, _ = tpm.esapi.nv_read_public(found)
        attributes = TPMA_NV(int(public.nvPublic.attributes))
        if not attributes & TPMA_NV.WRITTEN:
            return None
        return _read(tpm, found, attributes, int(public.nvPublic.dataSize), index)
    finally:
        tpm.esapi.tr_close(found)


def write_certificate(tpm: OpenTpm, index: int, der: bytes) -> None:
    """Write a DER certificate to an NV index with the owner's (empty) authorisation.

    Defines the index if absent, or anew if its size or attributes are not those of this
    certificate; an index that already holds it is left alone. Power lost in between leaves an
    index that the next call completes.

    Raises:
        TpmRefused: If the certificate does not fit, or the index is not the owner's.
    """
    size_max = tpm.properties(_PT_NV_INDEX_MAX, 1).get(_PT_NV_INDEX_MAX, 0)
    if size_max and len(der) > size_max:
        raise TpmRefused(
            f"the certificate is {len(der)} bytes and one NV index of this TPM holds {size_max}"
        )
    found = tpm.find(index)
    if found is not None:
        public, _ = tpm.esapi.nv_read_public(found)
        attributes = TPMA_NV(int(public.nvPublic.attributes)) & ~TPMA_NV.WRITTEN
        if int(public.nvPublic.dataSize) != len(der) or attributes != _CERTIFICATE_ATTRIBUTES:
            tpm.esapi.nv_undefine_space(found)
            found = None
    if found is None:
        found = _define(tpm, index, len(der))
    try:
        for offset, block in _blocks(tpm, len(der)):
            tpm.esapi.nv_write(
                found, der[offset : offset + block], offset, auth_handle=ESYS_TR.OWNER
            )
    finally:
        tpm.esapi.tr_close(found)


def one_der_object(content: bytes, place: str) -> bytes:
    """Cut the first DER SEQUENCE out of ``content`` (X.690, 8.1.3 and 10.1).

    Raises:
        SourceUnreadable: If there is none, or it is longer than what is there.
    """
    length_bytes = content[1] & ~_DER_LONG_FORM if len(content) > 1 else 0
    long_form = len(content) > 1 and content[1] & _DER_LONG_FORM
    header = 2 + (length_bytes if long_form else 0)
    length = int.from_bytes(content[2:header], "big") if long_form else length_bytes
    end = header + length
    if (
        content[:1] != bytes([_DER_SEQUENCE])
        or length == 0
        or (long_form and length_bytes > _DER_MAX_LENGTH_BYTES)
        or end > len(content)
    ):
        raise SourceUnreadable(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"{place} does not hold a whole DER certificate; write it again",
        )
    return content[:end]


def _define(tpm: OpenTpm, index: int, size: int) -> ESYS_TR:
    public = TPMS_NV_PUBLIC(
        nvIndex=index,
        nameAlg=TPM2_ALG.SHA256,
        attributes=_CERTIFICATE_ATTRIBUTES,
        dataSize=size,
    )
    return tpm.esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))


def _read(tpm: OpenTpm, found: ESYS_TR, attributes: TPMA_NV, size: int, index: int) -> bytes:
    if attributes & TPMA_NV.AUTHREAD:
        authority = found
    elif attributes & TPMA_NV.OWNERREAD:
        authority = ESYS_TR.OWNER
    else:
        raise TpmRefused(
            f"NV index 0x{index:08x} may be read by the platform or by policy only; configure the "
            "index that holds the certificate"
        )
    return b"".join(
        bytes(tpm.esapi.nv_read(found, block, offset, auth_handle=authority))
        for offset, block in _blocks(tpm, size)
    )


def _blocks(tpm: OpenTpm, size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of each read or write that the TPM's buffer allows."""
    step = tpm.properties(_PT_NV_BUFFER_MAX, 1).get(_PT_NV_BUFFER_MAX) or _SMALLEST_BUFFER
    return [(offset, min(step, size - offset)) for offset in range(0, size, step)]
