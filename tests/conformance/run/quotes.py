"""Kind ``quote``: the whole appraisal, and ``verifier quote`` beside it where it can tell."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attestation.evidence import Quote
from attestation.identity import Nonce
from attestation.wire.evidence_codec import decode_evidence, encode_evidence, encode_parts
from tests.conformance.cases import octets
from tests.conformance.run.bench import NOW, banks, enrolment_of, policy_of, reference_of
from tests.conformance.run.outcome import Outcome, of_result
from verifier.appraisal.appraise import appraise
from verifier.appraisal.freshness import ExpectedNonce
from verifier.cli import offline

_EXIT_WORDS: Final = {0: "accepted", 1: "refused", 2: "malformed"}
_APPRAISED_ONLY: Final = {"pcr-selection-wrong"}
"""``verifier quote`` shows the selection and leaves the judgement of it to its reader."""


class TwoVerdicts(AssertionError):
    """Appraisal and offline command disagree."""


def run(given: Mapping[str, Any]) -> Outcome:
    """Judge one quote."""
    if "qualifying_data" not in given:
        return _offline(given)
    enrolment, anchors = enrolment_of(octets(given["ak"]["tpmt_public"]))
    nonce = bytes.fromhex(given["nonce"])
    parts = encode_parts(banks(given["pcrs"]), None, False, {})  # noqa: FBT003
    quote = Quote(attest=octets(given["attest"]), signature=octets(given["signature"]))
    result = appraise(
        decode_evidence(encode_evidence(Nonce(nonce), quote, parts)),
        challenge=ExpectedNonce(nonce=nonce),
        enrolment=enrolment,
        anchors=anchors,
        reference=reference_of(given["policy"]),
        policy=policy_of(given["policy"]),
        at=NOW,
    )
    said = of_result(result)
    if not said.codes & _APPRAISED_ONLY:
        _require_same(said, _offline(given))
    return said


def _require_same(said: Outcome, offline_said: Outcome) -> None:
    if said.verdict != offline_said.verdict:
        raise TwoVerdicts(
            f"the appraisal says {said.verdict} ({said.detail}), "
            f"verifier quote {offline_said.verdict} ({offline_said.detail})"
        )


def _offline(given: Mapping[str, Any]) -> Outcome:
    """Run ``verifier quote --json`` over files."""
    printed, told = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "attest": octets(given["attest"]),
            "sig": octets(given["signature"]),
            "ak": octets(given["ak"]["tpmt_public"]),
        }
        if "pcrs" in given:
            files["pcrs"] = json.dumps(given["pcrs"]).encode()
        for part, content in files.items():
            (folder / part).write_bytes(content)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
            code = offline.quote(
                attest=folder / "attest",
                sig=folder / "sig",
                ak=folder / "ak",
                pcrs=folder / "pcrs" if "pcrs" in files else None,
                eventlog=None,
                nonce=given.get("qualifying_data"),
                as_json=True,
            )
    return Outcome(verdict=_EXIT_WORDS[code], detail=(printed.getvalue() or told.getvalue())[-600:])
