"""TOML that an owner writes, to a value: bounded first; complaints name file and line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import TypeVar

from attestation.errors import AttestationError, MalformedInput
from attestation.refusals import RefusalCode
from verifier.appraisal.policy_lines import KeyLines
from verifier.appraisal.policy_table import Table

Rules = TypeVar("Rules")


def read_rules(
    text: str,
    origin: str,
    build: Callable[[Table], Rules],
    *,
    most: int,
    structure: str,
    code: RefusalCode = RefusalCode.POLICY_INVALID,
    empty: str = "",
) -> Rules:
    """Read one file of rules.

    Args:
        text: TOML.
        origin: Where it came from, for messages.
        build: Makes the value; complains as ``KEY: reason``.
        most: Most characters that are read.
        structure: What it is, for messages.
        code: The code of every complaint.
        empty: Why an empty text is refused here; empty where ``build`` says it.

    Raises:
        MalformedInput: With ``code``, if it is too long, not TOML, or ``build`` complains; the
            message names origin, key and line.
    """

    def unusable(place: str, reason: str) -> MalformedInput:
        return MalformedInput(code, f"{place}: {reason}", structure=structure)

    if len(text) > most:
        raise unusable(origin, f"{len(text)} characters, at most {most} are read")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise unusable(origin, f"not TOML: {error}") from error
    if empty and not table:
        raise unusable(origin, empty)
    try:
        return build(Table("", table))
    except AttestationError as error:
        line = KeyLines(text).find(error.reason.partition(": ")[0])
        place = origin if line is None else f"{origin}, line {line}"
        raise unusable(place, error.reason) from error
