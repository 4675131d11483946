"""Cases of kind ``passport``, and enrolments that show one: a result in place of evidence."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.base64url import base64url_text
from attestation.tpm.public import parse_public
from device_agent.ports import KeyRole
from tests.conformance.generate.device import NOW, FixedMaker, FixedTpm, fixed_key, private_key
from tests.conformance.generate.enrolments import SERIAL, Floor, certified
from tests.conformance.generate.model import Json, attack, blob, case
from tests.simulators.soft_jose import b64, jws

_refused = partial(attack, "passport", kind="passport")
DEVICE: Final = "box-0042"
OTHER: Final = "box-0666"
_OURS: Final = "ours"
_THEIRS: Final = "theirs"
_MINUTE: Final = timedelta(minutes=1)
_ACCEPTABLE: Final = "result-not-acceptable"
_SIGNED: Final = "result-signature-invalid"
_WHOSE: Final = (
    "Whoever signs a result stands in for the whole appraisal: only a verifier that the owner "
    "trusts may, and it is known by its key."
)
_SHOWN: Final = (
    "A result is a bearer's word unless it names the key that signed the evidence, and that key "
    "signs again for the one who shows it."
)
_NEWEST: Final = "What was true when a result was made may have ended since; the newest one counts."


def jwk(kid: str, label: str = "") -> Json:
    """A verifier's public key; the label says which, the kid what it is called."""
    key = private_key(f"verifier/{label or kid}").public_key()
    numbers = key.public_numbers()
    x, y = (b64(one.to_bytes(32)) for one in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y}


def iak_public(serial: str = SERIAL) -> bytes:
    """TPMT_PUBLIC of a device's attestation key."""
    return fixed_key(serial, KeyRole.IAK).public_area


def result(
    by: str = _THEIRS,
    *,
    kid: str = "",
    status: str = "affirming",
    device: str = DEVICE,
    serial: str | None = SERIAL,
    moved: timedelta = timedelta(0),
    header: Json | None = None,
    **changes: object,
) -> str:
    """A signed result of a minute ago, for ten minutes; ``serial`` says whose key it names."""
    made = NOW + moved - _MINUTE
    claims: Json = {
        "eat_profile": "tag:ietf.org,2026:rats/ear#03",
        "iat": int(made.timestamp()),
        "exp": int((made + 10 * _MINUTE).timestamp()),
        "sub": device,
        "ear_verifier_id": {"developer": "example", "build": "1"},
        "ear_status": status,
        "submods": {device: {"ear_status": status, "ear_appraisal_policy_ids": ["p"]}},
    }
    if serial is not None:
        name = parse_public(iak_public(serial)).name
        claims["cnf"] = {"kid": base64url_text(name)}
    claims = {word: told for word, told in {**claims, **changes}.items() if told is not None}
    key = private_key(f"verifier/{by}")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return jws({"typ": "JWT", "alg": "ES256", "kid": kid or by, **(header or {})}, claims, key)


def shown(token: str, **more: Any) -> Json:
    """A result as an unknown device shows it to a verifier that trusts one other."""
    return {
        "at": NOW.isoformat(),
        "device": DEVICE,
        "iak_public": blob(iak_public()),
        "result": token,
        "keys": {"ours": [jwk(_OURS)], "others": [jwk(_THEIRS)]},
        "known": None,
        "newest": None,
        **more,
    }


def known(status: str, at: datetime = NOW - _MINUTE, serial: str = SERIAL) -> Json:
    """What the verifier found itself of the device, last of all."""
    return {
        "known": {"iak_public": blob(iak_public(serial))},
        "newest": {"status": status, "at": at.isoformat()},
    }


def cases() -> list[Json]:
    """Every case of this file."""
    return [*_signers(), *_times(), *_statuses(), *_subjects(), *_standing(), *_enrolments()]


def _accepted(name: str, title: str, why: str, given: Json, kind: str = "passport") -> Json:
    return case(
        f"passport-{name}",
        "N10 N11 N14 N17 N39 N43",
        title,
        kind=kind,
        given=given,
        verdict="accepted",
        why=why,
        importance="critical",
    )


def _signers() -> list[Json]:
    unsigned = result(header={"alg": "none"}).rpartition(".")[0] + "."
    head, _, made = result().split(".")
    altered = f"{head}.{result(device=OTHER).split('.')[1]}.{made}"
    return [
        _accepted(
            "of-a-trusted-verifier",
            "A device never seen here shows the result of a verifier that is trusted",
            "The neighbour of every refused result.",
            shown(result()),
        ),
        *(
            _refused(f"{name}", anchors, title, _SIGNED, _WHOSE, given)
            for name, anchors, title, given in (
                (
                    "of-a-stranger",
                    "N41",
                    "A result of a verifier that nobody trusts is refused",
                    shown(result("nobody")),
                ),
                (
                    "under-a-trusted-name",
                    "N41",
                    "A result that only bears the name of a trusted key is refused",
                    shown(result("nobody", kid=_THEIRS)),
                ),
                (
                    "that-brings-its-key",
                    "N41",
                    "A result that brings the key it is to be checked with is refused",
                    shown(result(header={"jwk": jwk(_THEIRS)})),
                ),
                ("unsigned", "N19", "A result that nobody signed is refused", shown(unsigned)),
                (
                    "altered",
                    "N41",
                    "A result whose claims were changed after it was signed is refused",
                    shown(altered, device=OTHER, iak_public=blob(iak_public(OTHER))),
                ),
                (
                    "under-our-own-name",
                    "N41",
                    "Another verifier's key under the name of one of ours signs nothing",
                    shown(
                        result(kid=_OURS),
                        keys={"ours": [jwk(_OURS)], "others": [jwk(_OURS, _THEIRS)]},
                        **known("affirming"),
                    ),
                ),
            )
        ),
    ]


def _times() -> list[Json]:
    return [
        _refused(
            "that-has-ended",
            "N10 N43",
            "A result that has ended is refused",
            "result-expired",
            _NEWEST,
            shown(result(moved=-10 * _MINUTE)),
        ),
        _refused(
            "before-its-time",
            "N10 N43",
            "A result from the future is refused",
            "result-not-yet-valid",
            "Clocks differ by seconds; what is made in an hour was made by somebody's wish.",
            shown(result(moved=60 * _MINUTE)),
        ),
        _refused(
            "without-an-end",
            "N10 N43",
            "A result without an end is malformed",
            "result-malformed",
            "What never ends can never be taken back from whoever keeps a copy.",
            shown(result(exp=None)),
            verdict="malformed",
        ),
    ]


def _statuses() -> list[Json]:
    why = "A signed verdict is still a verdict: that it was appraised does not say that it is good."
    two_faced = {DEVICE: {"ear_status": "contraindicated", "ear_appraisal_policy_ids": ["p"]}}
    return [
        *(
            _refused(
                status,
                "N14",
                f"A genuine result that says {status} lets nobody in",
                _ACCEPTABLE,
                why,
                shown(result(status=status)),
            )
            for status in ("warning", "contraindicated", "none")
        ),
        _refused(
            "better-than-its-parts",
            "N14",
            "A result whose status is better than that of its part is malformed",
            "result-malformed",
            why,
            shown(result(submods=two_faced)),
            verdict="malformed",
        ),
    ]


def _subjects() -> list[Json]:
    part = {"ear_status": "affirming", "ear_appraisal_policy_ids": ["p"]}
    return [
        _refused(
            "of-another-device",
            "N11 N39",
            "A genuine result about another device is refused",
            _ACCEPTABLE,
            _SHOWN,
            shown(result(device=OTHER)),
        ),
        _refused(
            "of-two-devices",
            "N11 N39",
            "A result that speaks of a second device beside this one is refused",
            _ACCEPTABLE,
            _SHOWN,
            shown(result(submods={DEVICE: part, OTHER: part})),
        ),
        _refused(
            "of-another-key",
            "N11 N39",
            "A genuine result about another attestation key of the same device id is refused",
            _ACCEPTABLE,
            _SHOWN + " Serial numbers are unique for one maker only.",
            shown(result(serial="BOX-0666")),
        ),
        _refused(
            "that-names-no-key",
            "N11 N39",
            "Another verifier's result that names no attestation key is refused",
            _ACCEPTABLE,
            _SHOWN,
            shown(result(serial=None)),
        ),
    ]


def _standing() -> list[Json]:
    return [
        _accepted(
            "of-ours",
            "A device that was judged here last as affirming may show that result",
            "The neighbour of results that no longer stand.",
            shown(result(_OURS), **known("affirming")),
        ),
        _accepted(
            "of-ours-without-a-key",
            "A result of ours may leave the key out: our own records know it",
            "The neighbour of another verifier's result that names no key.",
            shown(result(_OURS, serial=None), **known("affirming")),
        ),
        _refused(
            "of-ours-for-a-stranger",
            "N11 N13",
            "A result of ours about a device that nothing is known of here is refused",
            _ACCEPTABLE,
            "A verifier that has signed a result remembers the device, or something is amiss.",
            shown(result(_OURS)),
        ),
        _refused(
            "of-ours-after-the-key-changed",
            "N11 N13",
            "A result of ours without a key is refused to another attestation key than was judged",
            _ACCEPTABLE,
            _SHOWN,
            shown(result(_OURS, serial=None), **known("affirming", serial="BOX-0666")),
        ),
        _refused(
            "replayed-after-a-fall",
            "N10 N14",
            "A good result of ours, shown again after the device was found contraindicated",
            _ACCEPTABLE,
            _NEWEST,
            shown(result(_OURS), **known("contraindicated", NOW)),
        ),
        _refused(
            "of-others-after-a-fall-here",
            "N10 N14",
            "Another verifier's good result does not outweigh what was found here since",
            _ACCEPTABLE,
            _NEWEST,
            shown(result(), **known("contraindicated", NOW)),
        ),
        _accepted(
            "of-others-after-a-mend-there",
            "Another verifier's result that is newer than what was found here counts",
            "The neighbour of the fall that came later.",
            shown(result(), **known("contraindicated", NOW - 60 * _MINUTE)),
        ),
    ]


def _enrolled(floor: Floor, at: datetime = NOW, **parts: Any) -> Json:
    nonce = floor.nonce(parts.get("presented", b""))
    given = floor.request(evidence=b"", result=result(), nonce=nonce, **parts)
    given["class"] = {"initial_trust": "idevid", "proofs": ["pop", "residency", "result"]}
    return {**given, "at": at.isoformat(), "result_keys": [jwk(_THEIRS)]}


def _enrolments() -> list[Json]:
    twin = Floor()
    role = KeyRole.IAK
    twin.tpm.keys[role] = fixed_key("BOX-0042 twin", role)
    certified(twin.tpm, twin.maker)
    other = certified(FixedTpm("BOX-0666"), FixedMaker())
    return [
        _accepted(
            "enrols",
            "A device enrols with another verifier's result in place of evidence",
            "The neighbour of every refused enrolment that shows a result.",
            _enrolled(Floor()),
            kind="enrolment",
        ),
        _refused(
            "shown-by-another-tpm",
            "N11 N39",
            "A device's result is of no use to another TPM with the same serial number",
            _ACCEPTABLE,
            _SHOWN,
            _enrolled(twin),
            kind="enrolment",
        ),
        _refused(
            "request-replayed",
            "N10",
            "A recorded enrolment is refused while the result in it is still good",
            "nonce-expired",
            "The result is not fresh for this request; the certifications that answer the nonce "
            "must be.",
            _enrolled(Floor(), NOW + 3 * _MINUTE),
            kind="enrolment",
        ),
        _refused(
            "relayed",
            "N39",
            "A result is refused over the connection of another device",
            "client-certificate-wrong",
            "Whoever forwards a genuine request is not the device.",
            _enrolled(Floor(), presented=other.certificates[KeyRole.IDEVID]),
            kind="enrolment",
        ),
    ]
