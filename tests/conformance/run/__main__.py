"""``python -m tests.conformance.run [--json] [ID …]``: run cases, print what was said of each."""

from __future__ import annotations

import sys

from tests.conformance.run.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
