"""Run the conformance cases against this verifier and print what was said of each.

``python -m tools.conformance [--json] [ID …]``; ``docs/conformance.md`` says what the cases are.
"""

from __future__ import annotations

import sys

from tests.conformance.run.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
