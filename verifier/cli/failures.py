"""Errors to one clear line on stderr and an exit code by kind.

===== ==========================================================
code  kind
===== ==========================================================
1     refused: not found, conflict, a proof that does not hold
2     malformed: input, request or configuration
3     unavailable: store, broker, key files
===== ==========================================================
"""

from __future__ import annotations

import sys

from attestation.errors import AttestationError, InputError
from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused, ServiceError, SettingsInvalid, Unavailable

REFUSED, MALFORMED, UNAVAILABLE = 1, 2, 3


def complain(code: RefusalCode, reason: str) -> None:
    """Print ``verifier: <code>: <reason>``."""
    print(f"verifier: {code.value}: {reason}", file=sys.stderr)


def failure(error: AttestationError | ServiceError) -> int:
    """Print an error and return the exit code of its kind."""
    complain(error.code, error.reason)
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, InputError | RequestRefused | SettingsInvalid):
        return MALFORMED
    return REFUSED
