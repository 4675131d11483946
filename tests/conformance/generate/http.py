"""Cases of kind ``http``: N13 to N15 and N39, against a running verifier.

A step is a request with somebody's credentials, or an act of a device (``enrol``, ``attest``,
``enrol-tampered``, ``attest-tampered``, ``reboot``), in order.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.generate.model import Json, case

_EVIDENCE: Final = "POST /attest/v1/evidence"
_CHALLENGE: Final = "POST /attest/v1/challenges"
_DECISION: Final = "GET /decisions/v1/devices/{self}"
_RESULT: Final = "GET /results/v1/devices/{self}"
_FALLEN: Final = (
    "What a certificate gives access to falls with the evidence; attesting alone goes on, so that "
    "recovery is seen."
)
_GOOD_FOR: Final = "A credential is good for what it was given for and for nothing else."


def step(
    who: str,
    what: str,
    verdict: str = "accepted",
    code: str | None = None,
    *,
    body: str = "",
    status: int | None = None,
    allow: bool | None = None,
) -> Json:
    """One step and what is expected of it."""
    expected: Json = {"verdict": verdict, "code": code}
    if status is not None:
        expected["status"] = status
    if allow is not None:
        expected["allow"] = allow
    return {"as": who, "do": what, **({"body": body} if body else {}), "expected": expected}


ENROL: Final = step("device", "enrol", status=201)
ENROL_OTHER: Final = step("other-device", "enrol", status=201)


def sequence(
    name: str, anchors: str, title: str, why: str, *steps: Json, importance: str = "critical"
) -> Json:
    """A case; its last step decides."""
    last = steps[-1]["expected"]
    return case(
        f"http-{name}",
        anchors,
        title,
        kind="http",
        given={"steps": list(steps)},
        verdict=last["verdict"],
        code=last["code"],
        why=why,
        importance=importance,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *(*_doors(), *_est(), *_est_forms(), *_readers(), *_identities()),
        *(*_failures(), *_failures_at_enrolment(), *_relays(), *_ids()),
    ]


def _doors() -> list[Json]:
    token, certificate = "token-required", "client-certificate-required"
    why = (
        "One route without its guard opens the fleet (CVE-2026-1709): every route names what it "
        "asks, and refuses before it reads."
    )
    told = {
        "results": ("GET /results/v1/devices", token),
        "result": (_RESULT, token),
        "history": (_RESULT + "/history", token),
        "decision": (_DECISION, token),
        "metrics": ("GET /metrics", token),
        "evaluation": ("POST /access/v1/evaluation", token),
        "challenge": (_CHALLENGE, certificate),
        "evidence": (_EVIDENCE, certificate),
        "enrolment-challenge": ("POST /enrol/v1/challenges", certificate),
        "enrolment": ("POST /enrol/v1/requests", certificate),
        "est-nonce": ("GET /.well-known/est/nonce", certificate),
        "est-enrolment": ("POST /.well-known/est/simpleenroll", certificate),
        "est-renewal": ("POST /.well-known/est/simplereenroll", certificate),
    }
    return [
        sequence(
            f"stranger-asks-for-{name}",
            "N15",
            f"{request} without credentials is refused",
            why,
            ENROL,
            step("stranger", request, "refused", code, status=401),
        )
        for name, (request, code) in told.items()
    ]


def _est() -> list[Json]:
    est = "/.well-known/est"
    return [
        sequence(
            "est-renewal-by-manufacturers-identity",
            "N15",
            "A manufacturer's identity renews nothing",
            _GOOD_FOR,
            ENROL,
            step(
                "device-idevid",
                f"POST {est}/simplereenroll",
                "refused",
                "client-certificate-wrong",
                status=401,
            ),
        ),
        *(
            sequence(
                f"est-{operation}",
                "N15",
                title,
                "What is not offered is refused by name, not ignored and not half done.",
                ENROL,
                step("device", f"POST {est}/{operation}", "refused", code, status=501),
            )
            for operation, code, title in (
                ("serverkeygen", "est-serverkeygen-refused", "No key is made outside the TPM"),
                ("fullcmc", "est-fullcmc-unsupported", "Full CMC is refused by name"),
            )
        ),
        sequence(
            "est-label-unknown",
            "N15",
            "A label that no class has is refused",
            "A mistyped label must not land in a class that asks for less.",
            ENROL,
            step(
                "stranger",
                f"GET {est}/unheard-of/cacerts",
                "refused",
                "est-label-unknown",
                status=404,
            ),
        ),
    ]


def _est_forms() -> list[Json]:
    est = "/.well-known/est"
    return [
        sequence(
            "est-nonce-of-another-length",
            "N10",
            "A nonce of another length than the verifier's is not given",
            "Whoever chooses the length of a nonce chooses how easily it is guessed.",
            ENROL,
            step(
                "device",
                f"POST {est}/nonce",
                "refused",
                "nonce-length-unsupported",
                status=503,
                body="est-nonce-of-32-bytes",
            ),
        ),
        sequence(
            "est-request-as-pem",
            "N15",
            "A request in another form than base64 of DER is malformed",
            "A door that guesses at forms has two readers of one request.",
            ENROL,
            step(
                "device",
                f"POST {est}/simpleenroll",
                "malformed",
                "base64-malformed",
                status=400,
                body="pem",
            ),
        ),
    ]


def _readers() -> list[Json]:
    return [
        sequence(
            "wrong-token",
            "N15",
            "A token that nobody issued is refused",
            _GOOD_FOR,
            ENROL,
            step("wrong-token", "GET /results/v1/devices", "refused", "token-wrong", status=401),
        ),
        sequence(
            "reader",
            "N15",
            "A reader's token reads results",
            "The neighbour of every refused request.",
            ENROL,
            step("reader", _RESULT, status=200),
        ),
        sequence(
            "device-reads-itself",
            "N15",
            "A device reads its own result",
            "The neighbour of the device that reads about others.",
            ENROL,
            step("device", _RESULT, status=200),
        ),
        sequence(
            "device-reads-another",
            "N15",
            "A device may not read about another",
            _GOOD_FOR,
            ENROL,
            ENROL_OTHER,
            step(
                "device",
                "GET /results/v1/devices/{other}",
                "refused",
                "role-missing",
                status=403,
            ),
        ),
    ]


def _identities() -> list[Json]:
    return [
        sequence(
            "maker-identity-attests",
            "N15",
            "The maker's identity certificate does not do for attestation",
            _GOOD_FOR,
            ENROL,
            step("device-idevid", _CHALLENGE, "refused", "client-certificate-wrong", status=401),
        ),
        sequence(
            "owner-identity-enrols-another",
            "N15 N39",
            "The owner's certificate of one device does not enrol another",
            _GOOD_FOR,
            ENROL,
            step(
                "device",
                "POST /enrol/v1/requests",
                "refused",
                "client-certificate-wrong",
                status=403,
                body="enrolment-of-other-device",
            ),
        ),
        sequence(
            "foreign-maker",
            "N15 N41",
            "A device of a maker that is not trusted does not get through the TLS handshake",
            _GOOD_FOR,
            step("foreign-device", "POST /enrol/v1/challenges", "refused"),
        ),
    ]


def _failures() -> list[Json]:
    why = (
        "A failure that is not recorded is forgotten by whoever asks next (CVE-2023-3674): it "
        "stays until a whole fresh appraisal holds."
    )
    tampered = step("device", "attest-tampered", "refused", "log-replay-mismatch", allow=False)
    denied = step("reader", _DECISION, status=200, verdict="refused", allow=False)
    return [
        sequence(
            "failure-is-kept",
            "N14",
            "After a failed quote the decision stays deny, also after malformed evidence",
            why,
            ENROL,
            tampered,
            step("device", _EVIDENCE, "malformed", body="garbage", status=400),
            denied,
        ),
        sequence(
            "failure-is-kept-while-a-challenge-is-open",
            "N14",
            "Asking for a new challenge does not lift a failure",
            why,
            ENROL,
            tampered,
            step("device", _CHALLENGE, status=200),
            denied,
        ),
        sequence(
            "fallen-certificate-reads-nothing",
            "N14 N15",
            "A certificate that fell with contraindicated evidence does not read results",
            _FALLEN,
            ENROL,
            tampered,
            step("device", _RESULT, "refused", "certificate-revoked", status=403),
        ),
        sequence(
            "failure-ends-with-a-good-boot",
            "N14",
            "A failure ends with a whole fresh appraisal that holds",
            "The neighbour: a device that was mended comes back by itself.",
            ENROL,
            tampered,
            step("device", "reboot"),
            step("device", "attest", status=200, allow=True),
            step("reader", _DECISION, status=200, allow=True),
        ),
    ]


def _failures_at_enrolment() -> list[Json]:
    why = (
        "A device shows its state also when it asks for a certificate. What is only refused there "
        "leaves the certificates it has in force, and it need never attest again."
    )
    unwell = "evidence-not-acceptable"
    tampered = step("device", "enrol-tampered", "refused", unwell, status=403)
    return [
        sequence(
            "failure-at-the-enrolment-door",
            "N14",
            "Certificates fall with contraindicated evidence that was sent to enrol again",
            why,
            ENROL,
            tampered,
            step("device", _RESULT, "refused", "certificate-revoked", status=403),
        ),
        sequence(
            "failure-at-the-enrolment-door-ends",
            "N14",
            "A device that fell when it enrolled enrols once it is well",
            "The neighbour: a device that was mended comes back by itself.",
            ENROL,
            tampered,
            step("device", "reboot"),
            step("device", "enrol", status=201),
            step("device", "attest", status=200, allow=True),
        ),
        sequence(
            "failure-of-an-impostor",
            "N13 N14",
            "Contraindicated evidence of another TPM with the same serial number fells nobody",
            "Whoever can make a known device fall by evidence of his own can shut a fleet down.",
            ENROL,
            step("impostor", "enrol-tampered", "refused", unwell, status=403),
            step("device", _RESULT, status=200),
        ),
    ]


def _relays() -> list[Json]:
    why = (
        "The key of the TLS connection lives in the TPM that quotes: evidence of another TPM on "
        "this connection is refused, whoever forwarded it."
    )
    return [
        sequence(
            "evidence-of-another-device",
            "N39",
            "Another device's good evidence over this device's connection is refused",
            why,
            ENROL,
            ENROL_OTHER,
            step(
                "device",
                _EVIDENCE,
                "refused",
                "quote-signature-invalid",
                body="evidence-of-other-device",
                allow=False,
            ),
        ),
        sequence(
            "challenge-relayed-to-another-device",
            "N39",
            "This device's challenge, answered by another device's TPM, is refused",
            why + " The nonce is right, the platform is not (the cuckoo).",
            ENROL,
            ENROL_OTHER,
            step(
                "device",
                _EVIDENCE,
                "refused",
                "quote-signature-invalid",
                body="challenge-answered-by-other-device",
                allow=False,
            ),
        ),
        sequence(
            "evidence-over-its-own-connection",
            "N39",
            "A device's own evidence over its own connection is taken",
            "The neighbour of the relayed evidence.",
            ENROL,
            ENROL_OTHER,
            step("other-device", "attest", status=200, allow=True),
            step("device", "attest", status=200, allow=True),
        ),
    ]


def _ids() -> list[Json]:
    return [
        sequence(
            "id-taken-by-another-tpm",
            "N13",
            "A second device that claims the serial of a known one is refused",
            "An id belongs to the hardware that enrolled first: else whoever registers last "
            "answers for it (keylime #1820).",
            ENROL,
            step("impostor", "enrol", "refused", "device-id-taken", status=409),
        ),
        sequence(
            "id-kept-after-an-impostor",
            "N13",
            "The known device attests as before after somebody claimed its id",
            "The neighbour: a refused claim must not harm the one who was claimed to be.",
            ENROL,
            step("impostor", "enrol", "refused", "device-id-taken", status=409),
            step("device", "attest", status=200, allow=True),
        ),
        sequence(
            "known-device-enrols-again",
            "N13",
            "A known device may enrol again and keeps its id",
            "The neighbour: a device that lost its state comes back by itself.",
            ENROL,
            step("device", "enrol", status=201),
            importance="high",
        ),
    ]
