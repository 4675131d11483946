"""Run the conformance cases against this verifier and print what was said of each.

``python -m tools.conformance [--json] [ID …]``; ``docs/conformance.md`` says what the cases are.
"""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("tests.conformance.run", run_name="__main__")
