"""EFI_GUID: 16 bytes, first three fields little endian (UEFI 2.10, appendix A)."""

from __future__ import annotations

from typing import Final
from uuid import UUID

GUID_BYTES: Final = 16


def guid_text(value: bytes) -> str:
    """Return the registry form of 16 bytes: ``8be4df61-93ca-11d2-aa0d-00e098032b8c``."""
    text = value.hex()
    return (
        f"{text[6:8]}{text[4:6]}{text[2:4]}{text[0:2]}-{text[10:12]}{text[8:10]}-"
        f"{text[14:16]}{text[12:14]}-{text[16:20]}-{text[20:]}"
    )


def guid(text: str) -> bytes:
    """Return the 16 bytes of a GUID in registry form."""
    return UUID(text).bytes_le


GLOBAL_VARIABLE: Final = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")
"""EFI_GLOBAL_VARIABLE: SecureBoot, PK, KEK, Boot#### … (UEFI 2.10, 3.3)."""

IMAGE_SECURITY_DATABASE: Final = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
"""EFI_IMAGE_SECURITY_DATABASE_GUID: db, dbx, dbt, dbr (UEFI 2.10, 32.4.1)."""

SHIM_LOCK: Final = guid("605dab50-e046-4300-abb6-3dd810dd8b23")
"""Variables of shim: MokList, MokListX, MokListTrusted, SbatLevel, Shim, vendor_db."""

CERT_X509: Final = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
"""EFI_CERT_X509_GUID: each entry is one DER certificate (UEFI 2.10, 32.4.1)."""

CERT_SHA256: Final = guid("c1c41626-504c-4092-aca9-41f936934328")
"""EFI_CERT_SHA256_GUID: each entry is one SHA-256 image hash (UEFI 2.10, 32.4.1)."""
