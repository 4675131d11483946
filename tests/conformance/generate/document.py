"""All cases together, in the order of their files."""

from __future__ import annotations

import json
from typing import Final

from tests.conformance.generate import (
    agents,
    attested_csrs,
    boots,
    endorsement_keys,
    enrolments,
    file_signatures,
    freshness,
    http,
    log_forms,
    logs,
    manufacture,
    other_pcrs,
    quotes,
    runtime,
)
from tests.conformance.generate.model import Json

VERSION: Final = 1
_MODULES: Final = (
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


def cases() -> list[Json]:
    """Make every case anew."""
    return [one for module in _MODULES for one in module.cases()]


def document() -> str:
    """The text of ``cases.json``."""
    whole = {"$schema": "schema.json", "version": VERSION, "cases": cases()}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
