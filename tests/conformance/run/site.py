"""Kind ``http``: steps against a real verifier over TLS, with software devices."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from attestation.refusals import RefusalCode
from attestation.wire.enrolment_codec import encode_enrolment
from attestation.wire.media_types import ENROLMENT, EST_NONCE, EVIDENCE, PKCS10
from device_agent.ports import KeyRole
from tests.conformance.run.outcome import Outcome
from tests.conformance.run.revoked import OPERATOR, RELYING_PARTY, Begun, check, operator
from tests.conformance.run.sequences import WrongStep
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, Client, SiteDevice, VerifierSite

_SERIALS: Final = itertools.count(1)
_LIMITS: Final = "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"
_AFTER_REFRESH_S: Final = 0.8
"""The verifier looks for new reference values twice a second."""
_STATUS_WORDS: Final = {
    "affirming": "accepted",
    "warning": "warning",
    "contraindicated": "refused",
    "none": "warning",
}
_ACTS: Final = {"enrol", "enrol-tampered", "attest", "attest-tampered", "reboot", "begin"}
_REFUSING: Final = {401, 403, 404, 409, 410, 429, 501, 503}
_FIXED: Final = {
    "est-nonce-of-32-bytes": (b'{"len": 32}', EST_NONCE),
    "pem": (
        b"-----BEGIN CERTIFICATE REQUEST-----\nMIIBAAAA\n-----END CERTIFICATE REQUEST-----\n",
        PKCS10,
    ),
}


@cache
def site() -> VerifierSite:
    """One running verifier for all cases of this process, with one known-good configuration."""
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    running = VerifierSite(folder / "site", SoftManufacturer(), extra=_LIMITS)
    try:
        running.start()
        golden = running.device("GOLDEN")
        golden.enrol()
        golden.attest()
        running.learn("known good", golden)
    except BaseException:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    threading.Event().wait(_AFTER_REFRESH_S)
    return running


def close() -> None:
    """Stop the verifier, if one runs."""
    if site.cache_info().currsize:
        site().stop()
        shutil.rmtree(site().folder.parent, ignore_errors=True)
        site.cache_clear()


class _Play:
    """One case's devices, and who does what."""

    def __init__(self) -> None:
        number = next(_SERIALS)
        self.site = site()
        self.device = self.site.device(f"CASE-{number:04}")
        self.other = self.site.device(f"OTHER-{number:04}")
        self.impostor = self.site.device(f"CASE-{number:04}")
        self.before = b""
        self.begun = Begun(bodies={})

    def perform(self, step: Mapping[str, Any]) -> Outcome:
        """Do one step and say what the verifier said."""
        who, what = step["as"], step["do"]
        if who == OPERATOR:
            return operator(self.site, self.device, what)
        if who == RELYING_PARTY:
            return check(self.site, self.device.chain_pem, what)
        if what in _ACTS:
            return self._act(self._device(who), what)
        method, path = what.split(" ")
        path = path.replace("{self}", self.device.device_id or "nobody")
        path = path.replace("{other}", self.other.device_id or "nobody")
        body, media_type = self._body(step.get("body", ""), path)
        try:
            answer = self._client(who).request(
                method,
                path,
                body=body,
                content_type=media_type,
                headers={} if body else {"Content-Length": "0"},
            )
        except OSError as error:
            return Outcome(verdict="refused", detail=f"no answer: {error}")
        return said(answer)

    def _act(self, device: SiteDevice, what: str) -> Outcome:
        if what.endswith("-tampered"):
            device.tamper()
        if what.startswith("enrol"):
            self.before = device.chain_pem
            return said(device.enrol())
        if what == "begin":
            self.begun = Begun.by(device)
            return Outcome(verdict="accepted")
        if what == "reboot":
            device.tpm.reboot()
            assert device.log is not None
            device.boot(device.log)
            return Outcome(verdict="accepted")
        return said(device.attest())

    def _device(self, who: str) -> SiteDevice:
        devices = {"device": self.device, "other-device": self.other, "impostor": self.impostor}
        return devices[who]

    def _client(self, who: str) -> Client:
        if who in ("stranger", "wrong-token", "reader"):
            return self.site.client(token=self._token(who))
        if who == "device-before":
            return self.site.client(self.before, self.device.tpm.keys[KeyRole.LDEVID].private)
        if who == "device-idevid":
            return self.device.idevid_client()
        if who == "foreign-device":
            foreign = SiteDevice(
                site=self.site, tpm=type(self.device.tpm)(SoftManufacturer("Foreign"), serial="F-1")
            )
            return foreign.idevid_client()
        return self._device(who).client

    def _token(self, who: str) -> str:
        if who == "reader":
            return self.site.token(name=f"reader {next(_SERIALS)}")
        return "dav_guessed" if who == "wrong-token" else ""

    def _body(self, kind: str, path: str) -> tuple[bytes, str]:
        """Return a body and its media type."""
        if not kind:
            return b"", ""
        for bodies in (self.begun.bodies, _FIXED):
            if kind in bodies:
                return bodies[kind]
        return self._made(kind), ENROLMENT if "enrol" in path else EVIDENCE

    def _made(self, kind: str) -> bytes:
        if kind == "garbage":
            return b"\xff" * 64
        if kind == "enrolment-of-other-device":
            challenge = self.device.client.post("/enrol/v1/challenges").json
            return encode_enrolment(self.other.enrolment_request(challenge))
        if kind == "evidence":
            return self.device.evidence(self.device.ask())
        if kind == "evidence-of-other-device":
            return self.other.evidence(self.other.ask())
        return self.other.evidence(self.device.ask())


def said(answer: Answer) -> Outcome:
    """An HTTP answer in the words of the cases."""
    facts: tuple[tuple[str, object], ...] = (("status", answer.status),)
    document: dict[str, Any] = {}
    if answer.headers.get("content-type", "").partition(";")[0].endswith("json"):
        document = json.loads(answer.body)
    if "allow" in document:
        facts += (("allow", document["allow"]),)
    if answer.status >= 300:
        code = frozenset({str(document.get("code"))})
        word = "refused" if answer.status in _REFUSING else "malformed"
        return Outcome(verdict=word, codes=code, told=code, facts=facts, detail=str(document))
    status = document.get("status")
    reasons = {str(reason).partition(":")[0] for reason in document.get("reasons", ())}
    codes = frozenset(reasons & {str(code) for code in RefusalCode})
    verdict = "refused" if document.get("allow") is False else "accepted"
    verdict = _STATUS_WORDS.get(str(status), verdict)
    return Outcome(
        verdict=verdict,
        codes=codes if verdict == "refused" else frozenset(),
        told=codes,
        facts=facts,
        detail=json.dumps(document)[:400],
    )


def run(given: Mapping[str, Any]) -> Outcome:
    """Perform the steps; the last is the answer."""
    play = _Play()
    steps = given["steps"]
    for number, step in enumerate(steps, start=1):
        outcome = play.perform(step)
        wrong = _faults(step["expected"], outcome)
        if wrong:
            raise WrongStep(f"step {number} ({step['as']}: {step['do']}): {'; '.join(wrong)}")
        if number == len(steps):
            return outcome
    raise WrongStep("no step")


def _faults(wanted: Mapping[str, Any], outcome: Outcome) -> list[str]:
    facts = dict(outcome.facts)
    found = []
    if outcome.verdict != wanted["verdict"]:
        found.append(f"{outcome.verdict}, wanted {wanted['verdict']}: {outcome.detail}")
    if wanted["code"] is not None and wanted["code"] not in outcome.codes:
        found.append(f"codes {sorted(outcome.codes)}, wanted {wanted['code']}: {outcome.detail}")
    found += [
        f"{name} is {facts.get(name)!r}, wanted {wanted[name]!r}"
        for name in ("status", "allow")
        if name in wanted and facts.get(name) != wanted[name]
    ]
    return found
