"""A result of ours shown in place of evidence (RFC 9334, 5.1), over real TLS."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.simulators.trust_yard import CLASSES, PROOFS, TrustYard
from tests.simulators.verifier_site import Answer, SiteDevice, decode_nonce, in_use

_NUMBERS = itertools.count(1)
LENIENT = {**CLASSES, "passport": ("PASS-*", "idevid", PROOFS)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    with_devices = Known(tmp_path_factory.mktemp("passport"))
    with with_devices.yard.site:
        yield with_devices


class Known:
    """Devices that were affirming while evidence was wanted; now a result is."""

    def __init__(self, folder: Path) -> None:
        self.yard = TrustYard(folder, classes=LENIENT)
        with self.yard.site:
            self.device, self.other, self.spoilt = (
                self.yard.device(f"PASS-{number}") for number in (1, 2, 3)
            )
            for one in (self.device, self.other, self.spoilt):
                assert self.yard.enrol(one).status == 201
            self.yard.site.learn("golden", self.device)
            in_use()
            assert self.device.attest().json["status"] == "affirming"
        self.yard.choose(CLASSES)

    def fresh(self, device: SiteDevice) -> str:
        """A result of this moment."""
        device.challenge = {}
        device._client = None
        answer = device.attest()
        assert answer.json["status"] == "affirming", answer.body
        return answer.json["result"]


def show(known: Known, device: SiteDevice, result: str) -> Answer:
    """Enrol with a result and without evidence."""
    client = device.idevid_client()
    challenge = client.post("/enrol/v1/challenges").json
    request = device.enrolment_request(challenge)
    shown = replace(request, evidence=b"", nonce=decode_nonce(challenge), result=result)
    return known.yard.send(client, device, shown)


def refused(answer: Answer, code: str) -> Answer:
    assert (answer.json.get("code"), answer.status) == (code, 403), answer.body
    return answer


def test_affirming_result_of_ours_does_in_place_of_evidence(known: Known) -> None:
    result = known.fresh(known.device)

    answer = show(known, known.device, result)

    assert answer.status == 201, answer.body
    assert answer.json["result"] == result
    assert known.device.attest().json["status"] == "affirming"
    entries = known.yard.site.running.store.log_entries()
    issued = [json.loads(one.entry) for one in entries if one.kind == "issued"]
    assert (issued[-1]["proofs"], issued[-1]["evidence"]) == (
        ["idevid", "pop", "residency", "result"],
        "",
    )
    assert issued[-1]["ear"] == hashlib.sha256(result.encode()).hexdigest()


def test_request_that_is_sent_twice_gets_one_certificate(known: Known) -> None:
    """There is no evidence whose clock would tell: the challenge has one answer."""
    result, client = known.fresh(known.device), known.device.idevid_client()
    challenge = client.post("/enrol/v1/challenges").json
    request = known.device.enrolment_request(challenge)
    shown = replace(request, evidence=b"", nonce=decode_nonce(challenge), result=result)

    assert known.yard.send(client, known.device, shown).status == 201
    before = len(known.yard.site.running.store.log_entries())
    refused(known.yard.send(client, known.device, shown), "nonce-reused")

    assert len(known.yard.site.running.store.log_entries()) == before


def test_nothing_shown_is_told_as_missing(known: Known) -> None:
    answer = refused(show(known, known.device, ""), "proofs-missing")

    assert answer.json["missing"] == ["result"]


def test_result_by_another_key_is_refused(known: Known) -> None:
    result = known.fresh(known.device)
    header = jwt.get_unverified_header(result)
    claims = jwt.decode(result, options={"verify_signature": False})
    key = ec.generate_private_key(ec.SECP256R1())
    for kid in (header["kid"], "another"):
        forged = jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})
        refused(show(known, known.device, forged), "result-signature-invalid")


def test_changed_result_is_refused(known: Known) -> None:
    head, body, signature = known.fresh(known.device).split(".")
    place = len(body) // 2
    changed = body[:place] + ("A" if body[place] != "A" else "B") + body[place + 1 :]

    answer = show(known, known.device, f"{head}.{changed}.{signature}")

    refused(answer, "result-signature-invalid")


def test_result_of_another_device_is_refused(known: Known) -> None:
    answer = show(known, known.device, known.fresh(known.other))

    assert "another device" in refused(answer, "result-not-acceptable").json["detail"]


def test_result_with_a_worse_one_after_it_is_refused(known: Known) -> None:
    result = known.fresh(known.spoilt)
    known.spoilt.tamper()
    assert known.spoilt.attest().json["status"] == "contraindicated"

    answer = show(known, known.spoilt, result)

    assert (
        "newest result is contraindicated"
        in refused(answer, "result-not-acceptable").json["detail"]
    )


def test_result_for_another_attestation_key_is_refused(known: Known) -> None:
    """R23: the serial is the device's, the keys are not those that were appraised."""
    result = known.fresh(known.device)
    twin = known.yard.device(known.device.tpm.serial)

    answer = show(known, twin, result)

    assert answer.status in {403, 409}
    assert answer.json["code"] in {"result-not-acceptable", "device-id-taken"}


def test_result_of_a_device_never_seen_here_is_refused(known: Known) -> None:
    stranger = known.yard.device(f"PASS-{next(_NUMBERS)}9")

    answer = show(known, stranger, known.fresh(known.device))

    refused(answer, "result-not-acceptable")


def test_expired_result_is_refused(known: Known) -> None:
    """Signed by our own key: only its time is over."""
    claims = jwt.decode(known.fresh(known.device), options={"verify_signature": False})
    for moved, code in ((-3600, "result-expired"), (3600, "result-not-yet-valid")):
        other = {**claims, "iat": claims["iat"] + moved, "exp": claims["exp"] + moved}
        signed = known.yard.site.running.ring.sign_claims(other)

        refused(show(known, known.device, signed), code)
