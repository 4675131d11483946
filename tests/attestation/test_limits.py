"""The caps on hostile input: each defined once, documented as it is, and adding up."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from pathlib import Path

from attestation import limits

HTTP_API = Path(__file__).parents[2] / "docs" / "http-api.md"


def test_no_cap_is_raised_by_a_second_definition_further_down() -> None:
    names = Counter(
        target.id
        for node in ast.parse(inspect.getsource(limits)).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    )

    assert names
    assert [name for name, count in names.items() if count > 1] == []


def test_the_largest_parts_leave_room_for_the_rest_of_one_evidence() -> None:
    largest = limits.MAX_IMA_PART_BYTES + limits.MAX_FIRMWARE_LOG_BYTES + limits.MAX_AGENT_LOG_BYTES

    assert largest + 1024 * 1024 <= limits.MAX_EVIDENCE_BYTES


def test_the_http_page_names_the_caps_that_hold() -> None:
    page = HTTP_API.read_text()
    for label, cap in (
        ("firmware-log", limits.MAX_FIRMWARE_LOG_BYTES),
        ("ima-list", limits.MAX_IMA_PART_BYTES),
        ("agent-log", limits.MAX_AGENT_LOG_BYTES),
    ):
        row = re.search(rf"^\| `{label}` \|.*\| (\d+) MiB \|", page, re.MULTILINE)
        assert row is not None
        assert int(row[1]) * 1024 * 1024 == cap
