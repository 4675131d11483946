"""AIBOMs: which files, models and settings an AI agent consists of, and who vouches for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from attestation.errors import MalformedInput
from attestation.limits import MAX_AIBOM_BYTES, MAX_ENDORSEMENT_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.cyclonedx import ListedComponent, ListedFile, Part, read_aibom
from attestation.wire.strict_json import parse_json
from verifier.reference_values.provider import Endorsement, judge_endorsement

_KEYS: Final = frozenset({"aibom", "endorsement"})
_MOST_DOCUMENT_CHARS: Final = 2 * (MAX_AIBOM_BYTES + MAX_ENDORSEMENT_BYTES)
"""JSON escapes quotes and line ends of the AIBOM's text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AiBom:
    """One AIBOM (CycloneDX ML-BOM), compiled once and shared by every device that measured it.

    Attributes:
        name: The agent's name and version, e.g. ``field-assistant 2.1``.
        sha256: SHA-256 of the AIBOM document as the device measured it.
        files: The files it lists, by path relative to the agent's root.
        components: All its components, for deny-lists.
        missing: Those of the five parts that it says nothing of.
        endorsement: What its provider's endorsement is worth.
    """

    name: str
    sha256: bytes
    files: Mapping[str, ListedFile] = field(default_factory=dict)
    components: tuple[ListedComponent, ...] = ()
    missing: tuple[Part, ...] = ()
    endorsement: Endorsement = field(
        default_factory=lambda: Endorsement(
            code=RefusalCode.PROVIDER_ENDORSEMENT_MISSING, reason="it came without an endorsement"
        )
    )


def pack_aibom(aibom: str, endorsement: str | None) -> str:
    """Return the stored document of an AIBOM and its endorsement.

    Args:
        aibom: The exact text of the AIBOM.
        endorsement: The DSSE envelope (JSON text); None without.

    Raises:
        MalformedInput: If the endorsement is not JSON.
    """
    envelope = None
    if endorsement is not None:
        try:
            envelope = parse_json(endorsement.encode())
        except ValueError as error:
            raise MalformedInput(
                RefusalCode.PROVIDER_ENDORSEMENT_MALFORMED,
                f"not JSON: {str(error)[:80]}",
                structure="endorsement",
            ) from error
    return json.dumps({"aibom": aibom, "endorsement": envelope}, ensure_ascii=False)


def load_aibom(document: str, origin: str, providers: Mapping[str, str]) -> AiBom:
    """Compile a stored AIBOM.

    An endorsement that does not hold is no reason to refuse the AIBOM here: each appraisal says so.

    Args:
        document: ``{"aibom": "<exact text>", "endorsement": <DSSE envelope or null>}``.
        origin: Where it came from, for messages.
        providers: PEM public keys or certificates of trusted providers, by name.

    Raises:
        MalformedInput: ``aibom-malformed``.
        LimitExceeded: ``too-large`` or ``too-many``.
    """
    if len(document) > _MOST_DOCUMENT_CHARS:
        raise _malformed(origin, "the stored document is too large")
    try:
        table = parse_json(document.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise _malformed(origin, f"the stored document is not JSON: {str(error)[:80]}") from error
    if not isinstance(table, dict) or table.keys() != _KEYS or not isinstance(table["aibom"], str):
        raise _malformed(origin, "the stored document is not an AIBOM with its endorsement")
    listing = read_aibom(table["aibom"].encode("utf-8", "surrogatepass"))
    return AiBom(
        name=listing.name,
        sha256=listing.sha256,
        files=listing.files,
        components=listing.components,
        missing=listing.missing,
        endorsement=judge_endorsement(table["endorsement"], listing.sha256, providers),
    )


def _malformed(origin: str, reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.AIBOM_MALFORMED, f"{origin}: {reason}", structure="AIBOM")
