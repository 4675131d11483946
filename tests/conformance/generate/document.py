"""All cases together: which modules make which file, in order."""

from __future__ import annotations

import json
from typing import Final

from tests.conformance.generate import (
    agents,
    attested_csrs,
    boots,
    classes,
    clouds,
    endorsement_keys,
    enrolments,
    file_signatures,
    freshness,
    http,
    log_forms,
    logs,
    manufacture,
    other_pcrs,
    passports,
    quotes,
    revocations,
    runtime,
    token_proofs,
)
from tests.conformance.generate.model import Json

VERSION: Final = 1
_EVIDENCE: Final = (
    quotes,
    logs,
    log_forms,
    boots,
    runtime,
    file_signatures,
    other_pcrs,
    freshness,
    enrolments,
    attested_csrs,
    endorsement_keys,
    manufacture,
    agents,
    http,
)
_CREDENTIALS: Final = (clouds, passports, token_proofs, revocations, classes)
_FILES: Final = {"cases.json": _EVIDENCE, "cases-credentials.json": _CREDENTIALS}


def cases(name: str) -> list[Json]:
    """Make every case of one file anew."""
    return [one for module in _FILES[name] for one in module.cases()]


def document(name: str) -> str:
    """The text of one file."""
    whole = {"$schema": "schema.json", "version": VERSION, "cases": cases(name)}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
