"""Cases of kind ``http`` around revocation: what fell opens no door, and everybody can see it."""

from __future__ import annotations

from typing import Final

from tests.conformance.generate.http import ENROL, sequence, step
from tests.conformance.generate.model import Json

_EST: Final = "/.well-known/est"
_REVOKED: Final = "certificate-revoked"
_DOORS: Final = (
    ("evidence", "POST /attest/v1/evidence", "evidence-begun", 200),
    ("renewal", "POST /enrol/v1/requests", "renewal-begun", 201),
    ("est-enrolment", f"POST {_EST}/simpleenroll", "renewal-csr-begun", 200),
    ("est-renewal", f"POST {_EST}/simplereenroll", "renewal-csr-begun", 200),
    ("agent", "POST /enrol/v1/agents/challenges", "agent-name", 200),
    ("token", "POST /enrol/v1/tokens", "", 200),
    ("result", "GET /results/v1/devices/{self}", "", 200),
    ("decision", "GET /decisions/v1/devices/{self}", "", 200),
)
"""Name, request, what the device had in hand before, status while its certificate is good."""

_BEGIN: Final = step("device", "begin")
_WHY: Final = (
    "Certificates are taken back because a key is in other hands: one door that does not look is a "
    "door for whoever holds it."
)
_SEEN: Final = (
    "Whoever relies on a certificate asks the list, not the verifier's mind; what was revoked must "
    "be in the next answer."
)
_CHECKS: Final = ("crl", "ocsp", "status-list")


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        *_doors(),
        *_devices(),
        *_decommissioned(),
        *_superseded(),
        *_stale(),
        *_published(),
        *_events(),
    ]


def _operator(act: str) -> Json:
    return step("operator", act)


def _asked(request: str, body: str, code: str | None, status: int, who: str = "device") -> Json:
    verdict = "refused" if code else "accepted"
    return step(who, request, verdict, code, body=body, status=status)


def _doors() -> list[Json]:
    made = []
    for name, request, body, status in _DOORS:
        made.append(
            sequence(
                f"revoked-certificate-asks-for-{name}",
                "N15 N43",
                f"{request} with a certificate that an operator revoked is refused",
                _WHY,
                ENROL,
                _BEGIN,
                _operator("revoke-certificate"),
                _asked(request, body, _REVOKED, 403),
            )
        )
        if name == "agent":
            continue  # the class of an agent is a matter of its own
        made.append(
            sequence(
                f"good-certificate-asks-for-{name}",
                "N15 N43",
                f"{request} with a certificate that is good is answered",
                "The neighbour of the revoked certificate.",
                ENROL,
                _BEGIN,
                _asked(request, body, None, status),
            )
        )
    return [
        *made,
        sequence(
            "revoked-certificate-comes-back",
            "N15 N43",
            "A device whose certificate was revoked gets another by its manufacturer's identity",
            "The neighbour: a certificate falls, and not the device.",
            ENROL,
            _operator("revoke-certificate"),
            step("device", "enrol", status=201),
            step("device", "attest", status=200, allow=True),
        ),
        sequence(
            "compromised-key-is-certified-again",
            "N18 N43",
            "A key that is no secret any more gets no other certificate",
            "What is wrong with the key is wrong with each certificate over it.",
            ENROL,
            _operator("revoke-certificate-key-compromised"),
            step("device", "enrol", "refused", "key-compromised", status=409),
        ),
    ]


def _devices() -> list[Json]:
    gone = "device-revoked"
    why = "A device that was sold, stolen or broken for good must not come back by enrolling again."
    return [
        sequence(
            "revoked-device-enrols",
            "N13 N43",
            "A revoked device does not enrol again by its manufacturer's identity",
            why,
            ENROL,
            _operator("revoke-device"),
            step("device", "enrol", "refused", gone, status=403),
        ),
        *(
            sequence(
                f"revoked-device-asks-for-{name}",
                "N15 N43",
                f"{request} of a revoked device is refused",
                why,
                ENROL,
                _BEGIN,
                _operator("revoke-device"),
                _asked(request, body, gone, 403),
            )
            for name, request, body, _ in _DOORS
        ),
    ]


def _decommissioned() -> list[Json]:
    why = "What is to be given back by a date must not go on after it, nor hold what lasts longer."
    planned, come = _operator("plan-end-in-a-year"), _operator("let-planned-end-come")
    return [
        sequence(
            "decommissioned-device-enrols",
            "N13 N43",
            "A device whose planned end has come does not enrol again",
            why,
            ENROL,
            planned,
            come,
            step("device", "enrol", "refused", "device-revoked", status=403),
        ),
        sequence(
            "decommissioned-device-attests",
            "N15 N43",
            "The certificate of a device whose planned end has come opens no door",
            why,
            ENROL,
            planned,
            come,
            step("device", "POST /attest/v1/challenges", "refused", "device-revoked", status=403),
        ),
        sequence(
            "device-enrols-at-its-planned-end",
            "N43",
            "A device that ends before a certificate may gets none",
            why,
            ENROL,
            _operator("plan-end-within-the-hour"),
            step("device", "enrol", "refused", "device-decommissioned", status=403),
        ),
        sequence(
            "device-enrols-before-its-planned-end",
            "N13 N43",
            "A device whose planned end is to come enrols again and attests",
            "The neighbour of the device whose end has come.",
            ENROL,
            planned,
            step("device", "enrol", status=201),
            step("device", "attest", status=200, allow=True),
        ),
    ]


def _superseded() -> list[Json]:
    why = "After the overlap a device has one certificate; an older one is somebody's copy."
    evidence = "POST /attest/v1/challenges"
    return [
        sequence(
            "superseded-certificate-after-its-overlap",
            "N43",
            "A certificate that a newer one has replaced is refused after the overlap",
            why,
            ENROL,
            ENROL,
            _operator("let-overlap-end"),
            _asked(evidence, "", "client-certificate-wrong", 403, who="device-before"),
        ),
        sequence(
            "superseded-certificate-in-its-overlap",
            "N43",
            "A certificate that a newer one has replaced is good until the overlap ends",
            "The neighbour: whatever uses the old one must have time to change over.",
            ENROL,
            ENROL,
            _asked(evidence, "", None, 200, who="device-before"),
        ),
        sequence(
            "newest-certificate-after-an-overlap",
            "N43",
            "The newest certificate stays when an overlap ends",
            "The neighbour of the one that it replaced.",
            ENROL,
            ENROL,
            _operator("let-overlap-end"),
            step("device", "attest", status=200, allow=True),
        ),
    ]


def _stale() -> list[Json]:
    why = "A device that nobody has judged for a day may be anything by now."
    return [
        sequence(
            "unseen-for-a-day",
            "N14 N43",
            "A device that has not been judged for a day loses its certificate",
            why,
            ENROL,
            _operator("let-a-day-pass-unseen"),
            _asked(_DOORS[-2][1], "", _REVOKED, 403),
        ),
        sequence(
            "unseen-for-an-hour",
            "N14 N43",
            "A device that has not been judged for an hour keeps its certificate",
            "The neighbour: whoever was off for a while is not punished for it.",
            ENROL,
            _operator("let-an-hour-pass-unseen"),
            _asked(_DOORS[-2][1], "", None, 200),
        ),
    ]


def _published() -> list[Json]:
    fallen = {
        "revoked-certificate": (ENROL, _operator("revoke-certificate")),
        "revoked-device": (ENROL, _operator("revoke-device")),
        "unseen-device": (ENROL, _operator("let-a-day-pass-unseen")),
        "fallen-device": (
            ENROL,
            step("device", "attest-tampered", "refused", "log-replay-mismatch", allow=False),
        ),
    }
    good = {
        "good-certificate": (ENROL,),
        "renewed-certificate": (ENROL, ENROL, _operator("let-overlap-end")),
    }
    return [
        sequence(
            f"{name}-{how}",
            "N43",
            f"What became of a {name.replace('-', ' ')} is in the next {how.replace('-', ' ')}",
            _SEEN if name in fallen else "The neighbour of the revoked certificate.",
            *steps,
            step("relying-party", f"check-by-{how}", "refused" if name in fallen else "accepted"),
        )
        for name, steps in {**fallen, **good}.items()
        for how in _CHECKS
    ]


def _events() -> list[Json]:
    unknown = "revocation-event-unknown"
    why = "An event without a rule is neither ignored nor guessed at: somebody is told."
    return [
        sequence(
            "unknown-event-raises-an-alarm",
            "N14",
            "An event without a rule raises an alarm",
            why,
            ENROL,
            step("operator", "tell-unheard-of-event", "warning", unknown),
        ),
        sequence(
            "unknown-event-revokes-nothing",
            "N14 N43",
            "An event without a rule revokes nothing",
            "The neighbour: whoever can name events must not be able to end a fleet with them.",
            ENROL,
            step("operator", "tell-unheard-of-event", "warning", unknown),
            step("device", "attest", status=200, allow=True),
        ),
    ]
