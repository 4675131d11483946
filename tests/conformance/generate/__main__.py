"""``python -m tests.conformance.generate [--check]``: write the cases, or hold them to this."""

from __future__ import annotations

import sys

from tests.conformance.cases import CASES_FILES
from tests.conformance.generate.document import document

_STALE = 1


def main(arguments: list[str]) -> int:
    """Write the files; with ``--check`` only say whether they are what would be written."""
    for path in CASES_FILES:
        wanted = document(path.name)
        if "--check" not in arguments:
            path.write_text(wanted, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != wanted:
            print(f"{path.name} is stale; run: python -m tests.conformance.generate")  # noqa: T201
            return _STALE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
