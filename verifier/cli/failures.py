"""Errors to one clear line on stderr and an exit code by kind.

===== ==========================================================
code  kind
===== ==========================================================
1     refused: not found, conflict, a proof that does not hold
2     malformed: input, request or configuration
3     unavailable: store, broker, key files, a full disk under the output
===== ==========================================================
"""

from __future__ import annotations

import errno
import sys

from attestation.errors import AttestationError, InputError
from attestation.refusals import RefusalCode
from verifier.errors import RequestRefused, ServiceError, SettingsInvalid, Unavailable

REFUSED, MALFORMED, UNAVAILABLE = 1, 2, 3

OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a file that output is sent to can fail with; files of ours are told where they are written.
"""


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


def output_lost(error: OSError) -> int:
    """Say that what was printed is not all written, and return the exit code for it."""
    print(f"verifier: the output cannot be written: {error.strerror}", file=sys.stderr)
    return UNAVAILABLE
