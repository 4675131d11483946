"""What an operator does with AIBOM files before they are loaded: schema, and a folder compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.errors import MalformedInput
from attestation.refusals import RefusalCode
from attestation.wire.cyclonedx import AibomListing
from attestation.wire.strict_json import parse_json
from verifier.errors import RequestRefused

_MOST_FILES: Final = 100_000
_SHOWN_CHARS: Final = 300


def require_schema(document: bytes) -> None:
    """Hold an AIBOM against the CycloneDX JSON schema, strictly: no key that it does not know.

    Raises:
        MalformedInput: ``aibom-malformed`` with the first complaint and its place.
    """
    # Only these commands need the library and its twenty dependencies.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    versions = {"1.6": SchemaVersion.V1_6, "1.7": SchemaVersion.V1_7}
    try:
        bom = parse_json(document)
    except ValueError as error:
        raise _malformed(f"not JSON: {str(error)[:_SHOWN_CHARS]}") from error
    version = versions.get(str(bom.get("specVersion"))) if isinstance(bom, dict) else None
    if version is None:
        raise _malformed(f"specVersion must be {' or '.join(versions)}")
    complaint = JsonStrictValidator(version).validate_str(document.decode())
    if complaint is not None:
        place = "/".join(str(step) for step in complaint.data.absolute_path) or "the document"
        raise _malformed(f"{place}: {complaint.data.message[:_SHOWN_CHARS]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderCheck:
    """Where a folder is not what an AIBOM lists."""

    files: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether anything differs."""
        return bool(self.changed or self.missing or self.unlisted)


def check_folder(listing: AibomListing, root: Path) -> FolderCheck:
    """Compare a folder with what an AIBOM lists; links are not followed, and count as unlisted.

    Raises:
        RequestRefused: If a file cannot be read, or there are too many.
    """
    digests: dict[str, bytes] = {}
    for path in _walk(root):
        if len(digests) >= _MOST_FILES:
            raise RequestRefused(
                RefusalCode.TOO_MANY, f"{root} holds more than {_MOST_FILES} files"
            )
        relative = path.relative_to(root).as_posix()
        digests[relative] = b"" if path.is_symlink() or not path.is_file() else _sha256(path)
    return FolderCheck(
        files=len(digests),
        changed=tuple(
            sorted(
                path
                for path, digest in digests.items()
                if path in listing.files and digest not in listing.files[path].digests
            )
        ),
        missing=tuple(sorted(listing.files.keys() - digests.keys())),
        unlisted=tuple(sorted(digests.keys() - listing.files.keys())),
    )


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, f"{error.filename}: {error.strerror}"
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*links, *files):
            yield Path(folder, name)


def _sha256(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path}: {error.strerror}") from error


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.AIBOM_MALFORMED, reason, structure="AIBOM")
