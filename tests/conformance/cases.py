"""The conformance cases as values: read, checked against what they name, bytes resolved."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]
CASES_FILES: Final = (FOLDER / "cases.json", FOLDER / "cases-credentials.json")
SCHEMA_FILE: Final = FOLDER / "schema.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; the fields are those of ``schema.json``."""

    id: str
    anchors: tuple[str, ...]
    title: str
    importance: str
    kind: str
    input: Mapping[str, Any]
    expected: Mapping[str, Any]
    why: str


@cache
def load() -> Mapping[str, Case]:
    """Return every case by id, in the order of the files.

    Raises:
        ValueError: If an id stands twice.
    """
    documents = (json.loads(path.read_text(encoding="utf-8")) for path in CASES_FILES)
    cases = [
        Case(**{**one, "anchors": tuple(one["anchors"])})
        for document in documents
        for one in document["cases"]
    ]
    found = {one.id: one for one in cases}
    if len(found) != len(cases):
        raise ValueError("a case id stands twice")
    return found


def octets(blob: str | Mapping[str, Any]) -> bytes:
    """Return the bytes that a case describes: hexadecimal text, base64, or a file with patches.

    Patches are ``{"offset", "delete", "insert"}``: at ``offset`` of the *unpatched* file,
    ``delete`` bytes give way to the hexadecimal ``insert``. They ascend and do not overlap.

    Raises:
        ValueError: If a named file is not the one that was meant, or a patch lies outside it.
    """
    if isinstance(blob, str):
        return bytes.fromhex(blob)
    if "base64" in blob:
        return base64.b64decode(blob["base64"], validate=True)
    content = (ROOT / blob["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != blob["sha256"]:
        raise ValueError(f"{blob['file']} is not the file that was meant")
    done, out = 0, []
    for patch in blob.get("patches", ()):
        offset, removed = patch["offset"], patch["delete"]
        if not done <= offset <= offset + removed <= len(content):
            raise ValueError(f"a patch at {offset} of {blob['file']} does not fit")
        out += [content[done:offset], bytes.fromhex(patch["insert"]) * patch.get("times", 1)]
        done = offset + removed
    return b"".join((*out, content[done:]))


def pcr_values(banks: Mapping[str, Mapping[str, str]]) -> dict[str, dict[int, bytes]]:
    """Return PCR values of a case by bank label and index."""
    return {
        bank: {int(index): bytes.fromhex(value) for index, value in values.items()}
        for bank, values in banks.items()
    }
