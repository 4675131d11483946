"""IMA lists in ascii form: every input is made to look like one."""

from __future__ import annotations

from attestation.logs.ima.measured import parse_ima_list


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_ima_list(b"10 " + data)
