"""How a case is written down."""

from __future__ import annotations

import base64
import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attestation.pcr import PcrBanks
from tests.conformance.cases import ROOT

Given = Mapping[str, Any]
Json = dict[str, Any]

_READABLE_BYTES: Final = 160


def case(
    name: str,
    anchors: str,
    title: str,
    *,
    kind: str,
    given: Given,
    verdict: str,
    code: str | None = None,
    why: str,
    importance: str = "high",
    **more: Any,
) -> Json:
    """One case; ``anchors`` are words, ``more`` are further expectations."""
    return {
        "id": name,
        "anchors": anchors.split(),
        "title": title,
        "importance": importance,
        "kind": kind,
        "input": dict(given),
        "expected": {"verdict": verdict, "code": code, **more},
        "why": why,
    }


def blob(content: bytes) -> str | Json:
    """Bytes: hexadecimal while a person may read them, else base64."""
    if len(content) <= _READABLE_BYTES:
        return content.hex()
    return {"base64": base64.b64encode(content).decode()}


def file_blob(path: str, patches: Sequence[Json] = ()) -> Json:
    """A file of this repository, with what is changed in it."""
    content = (ROOT / path).read_bytes()
    named: Json = {"file": path, "sha256": hashlib.sha256(content).hexdigest()}
    return {**named, "patches": list(patches)} if patches else named


def patch(offset: int, delete: int = 0, insert: bytes = b"") -> Json:
    """One change: at ``offset``, ``delete`` bytes give way to ``insert``."""
    return {"offset": offset, "delete": delete, "insert": insert.hex()}


def patches_between(before: Sequence[bytes], after: Sequence[bytes]) -> list[Json]:
    """Say in patches how one sequence of pieces becomes another."""
    starts = [0]
    for piece in before:
        starts.append(starts[-1] + len(piece))
    found = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, first, last, start, stop in matcher.get_opcodes():
        if tag != "equal":
            old, new = b"".join(before[first:last]), b"".join(after[start:stop])
            same = 0
            while same < min(len(old), len(new)) and old[same] == new[same]:
                same += 1
            tail = 0
            while tail < min(len(old), len(new)) - same and old[-1 - tail] == new[-1 - tail]:
                tail += 1
            insert = new[same : len(new) - tail]
            found.append(patch(starts[first] + same, len(old) - same - tail, insert))
    return found


def pcrs(banks: PcrBanks) -> Json:
    """PCR values by bank label and index."""
    return {
        bank.label: {str(index): values[index].hex() for index in sorted(values)}
        for bank, values in banks.items()
    }


def attack(
    family: str,
    name: str,
    anchors: str,
    title: str,
    code: str,
    why: str,
    given: Json,
    *,
    kind: str,
    verdict: str = "refused",
) -> Json:
    """A critical case of a family that is named by what it attacks."""
    return case(
        f"{family}-{name}",
        anchors,
        title,
        kind=kind,
        given=given,
        verdict=verdict,
        code=code,
        why=why,
        importance="critical",
    )
