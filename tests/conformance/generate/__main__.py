"""``python -m tests.conformance.generate [--check]``: write ``cases.json``, or hold it to this."""

from __future__ import annotations

import sys

from tests.conformance.cases import CASES_FILE
from tests.conformance.generate.document import document

_STALE = 1


def main(arguments: list[str]) -> int:
    """Write the file; with ``--check`` only say whether it is what would be written."""
    wanted = document()
    if "--check" in arguments:
        if CASES_FILE.read_text(encoding="utf-8") == wanted:
            return 0
        print("cases.json is stale; run: python -m tests.conformance.generate")  # noqa: T201
        return _STALE
    CASES_FILE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
