"""AIBOMs: which files, models and settings an AI agent consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AiBom:
    """One AIBOM (CycloneDX ML-BOM), compiled once.

    Attributes:
        name: The agent's name and version, e.g. ``field-assistant 2.1``.
        sha256: SHA-256 of the AIBOM document as the device measured it.
    """

    name: str
    sha256: bytes
