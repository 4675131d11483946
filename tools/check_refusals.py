"""Hold ``docs/refusals.md`` and the refusal codes together: each code one row, no row without code.

A row is ``| `code` | what was seen | what to do |``; both texts must be there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from attestation.refusals import RefusalCode
from tools.tracked import ROOT, report

PAGE: Final = "docs/refusals.md"
_ROW: Final = re.compile(r"^\|\s*`(?P<code>[a-z0-9-]+)`\s*\|(?P<seen>[^|]*)\|(?P<mend>[^|]*)\|\s*$")
_MIN_WORDS: Final = 3


def faults(page: str, codes: Iterable[str]) -> list[str]:
    """Return what is missing, doubled, empty or extra in the page's rows."""
    found: list[str] = []
    rows: set[str] = set()
    known = set(codes)
    for number, line in enumerate(page.splitlines(), start=1):
        match = _ROW.match(line)
        if match is None:
            if line.startswith("| `"):
                found.append(f"{PAGE}:{number}: not of the form | `code` | seen | do |")
            continue
        code = match["code"]
        if code in rows:
            found.append(f"{PAGE}:{number}: {code} has a row already")
        if code not in known:
            found.append(f"{PAGE}:{number}: {code} is no refusal code")
        rows.add(code)
        found.extend(
            f"{PAGE}:{number}: {code} does not say {what}"
            for what, text in (("what was seen", match["seen"]), ("what to do", match["mend"]))
            if len(text.split()) < _MIN_WORDS
        )
    found.extend(f"{PAGE}: {code} has no row" for code in sorted(known - rows))
    return found


def main() -> int:
    """Check the page of the checkout this file stands in."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    codes = [code.value for code in RefusalCode]
    return report("refusals", faults(page, codes), f"all {len(codes)} codes are explained")


if __name__ == "__main__":
    sys.exit(main())
