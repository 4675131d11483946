"""Cases of kind ``ima-list``: N35 where IMA rules with ``pcr=`` extend several PCRs."""

from __future__ import annotations

from typing import Any, Final

from attestation.algorithms import HashAlgorithm
from attestation.logs.event_types import EventType
from attestation.logs.ima.framing import walk
from attestation.pcr import parse_selection
from tests.conformance.generate.model import Json, blob, pcrs
from tests.conformance.generate.runtime import SELECTION, Kernel, one
from tests.simulators.firmware_log import agile_event, header

OTHER: Final = 11
_SHA256: Final = HashAlgorithm.SHA256
_WHY: Final = (
    "A firmware event need not tell what was hashed. Where the kernel may extend a PCR, its list "
    "must explain it: entries that a device keeps back pass for events of the boot otherwise."
)


def _given(kernel: Kernel, *, declared: bool = True, hide: bool = False) -> Json:
    """The list and every PCR; ``hide`` tells the other PCR's entries as firmware events instead."""
    asked: dict[str, Any] = {"other_pcrs": [OTHER]} if declared else {}
    given = kernel.given(**asked)
    given["pcrs"] = pcrs(kernel.tpm.read_pcrs(parse_selection(f"{SELECTION},{OTHER}")))
    if hide:
        entries = list(walk(kernel.ima.list()))
        pieces = zip(entries, kernel.ima.pieces, strict=True)
        given["list"] = blob(b"".join(piece for seen, piece in pieces if seen.pcr != OTHER))
        events = (
            agile_event(OTHER, EventType.IPL, b"x", {int(_SHA256): _SHA256.digest(seen.data)})
            for seen in entries
            if seen.pcr == OTHER
        )
        log = header(((int(_SHA256), _SHA256.size),)) + b"".join(events)
        given["firmware_log"] = blob(log)
    return given


def cases() -> list[Json]:
    """Every case of this file."""
    honest = Kernel()
    honest.ima.measure(b"/usr/bin/env", b"env", pcr=OTHER)
    evil = Kernel()
    evil.ima.measure(b"/usr/bin/evil", b"evil", pcr=OTHER)
    return [
        one(
            "other-pcr-honest",
            "N35",
            "A list that leads to each PCR that IMA rules name is accepted",
            "accepted",
            None,
            "The neighbour of every list that keeps one of them back.",
            _given(honest),
        ),
        one(
            "other-pcr-unknown-file",
            "N35 N37",
            "A file that is measured into another PCR is judged like any other",
            "warning",
            "ima-file-unknown",
            "Where an entry is extended says nothing of what was run.",
            _given(evil),
        ),
        one(
            "other-pcr-told-as-firmware-events",
            "N35",
            "Entries that are kept back and told as firmware events are missed",
            "refused",
            "ima-replay-mismatch",
            _WHY,
            _given(evil, hide=True),
            importance="critical",
        ),
        one(
            "other-pcr-not-declared",
            "N35",
            "Entries of a PCR that the policy leaves to the firmware log affirm nothing",
            "warning",
            "pcr-not-covered",
            _WHY,
            _given(honest, declared=False),
        ),
    ]
