"""Hold ``docs/refusals.md`` and the refusal codes together: each code one row, no row without code.

A row is ``| `code` | what was seen | what to do |``; both texts must be there. Each code is given
somewhere in the packages, and some test expects it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attestation.refusals import RefusalCode
from tools.tracked import ROOT, report, tracked_files

PAGE: Final = "docs/refusals.md"
CODES: Final = Path("attestation/refusals.py")
_PACKAGES: Final = {"attestation", "device_agent", "verifier"}
_HOUSE: Final = Path("tests/house")
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


def unshown(codes: Iterable[RefusalCode], packages: str, tests: str) -> list[str]:
    """Return which codes nothing gives, and which no test expects.

    Args:
        codes: The codes.
        packages: Source of the packages, without that of the codes.
        tests: Source of the tests, without those of the house's own rules.
    """
    found: list[str] = []
    for code in codes:
        name = rf"\b{code.name}\b"
        if not re.search(name, packages):
            found.append(f"{CODES}: {code} is given by nothing: remove it")
        elif not re.search(rf"{name}|(?<![\w-]){re.escape(code.value)}(?![\w-])", tests):
            found.append(f"{CODES}: {code} is expected by no test")
    return found


def sources() -> tuple[str, str]:
    """Return the Python source of the packages and of the tests of this checkout."""
    files = [path for path in tracked_files() if path.suffix == ".py" and path != CODES]
    packages = [path for path in files if path.parts[0] in _PACKAGES]
    tests = [path for path in files if path.parts[0] == "tests" and _HOUSE not in path.parents]
    told = [
        "\n".join((ROOT / path).read_text("utf-8") for path in some) for some in (packages, tests)
    ]
    return told[0], told[1]


def main() -> int:
    """Check the page and the codes of the checkout this file stands in."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    codes = [code.value for code in RefusalCode]
    found = faults(page, codes) + unshown(RefusalCode, *sources())
    return report("refusals", found, f"all {len(codes)} codes are explained, given and tested")


if __name__ == "__main__":
    sys.exit(main())
