"""Cases around the classes of an enrolment policy: who is of none, and who is on no list."""

from __future__ import annotations

import hashlib
from typing import Final

from attestation.tpm.public import parse_public
from device_agent.ports import KeyRole
from tests.conformance.generate import agents, enrolments
from tests.conformance.generate.device import FixedKey, fixed_key
from tests.conformance.generate.http import ENROL, sequence, step
from tests.conformance.generate.model import Json, blob, case

_NONE: Final = "enrolment-class-unknown"
_CLASS: Final = (
    "Whoever fits none of the owner's classes is let in by none: a last resort that nobody wrote "
    "down must not be there."
)


def _named_ek(listed: str) -> Json:
    """A device that may enrol by either, names an endorsement key, and shows its identity."""
    given = _of_class("BOX-*", "idevid OR ek-allow-list")
    given["request"]["ek_public"] = blob(_ek("BOX-0042").public_area)
    spki = parse_public(_ek(listed).public_area).spki_der
    given["listed_eks"] = [hashlib.sha256(spki).hexdigest()]
    return given


def _ek(serial: str) -> FixedKey:
    return fixed_key(f"{serial} ek", KeyRole.LDEVID)


def _of_class(serial: str, trust: str = "idevid") -> Json:
    given = enrolments.Floor().request()
    proofs = ["pop", "residency", "evidence"]
    given["class"] = {"serial": serial, "initial_trust": trust, "proofs": proofs}
    return given


def cases() -> list[Json]:
    """Every case of this file."""
    return [
        enrolments.refused(
            "of-no-class",
            "N41",
            "A device that no class of the owner's is for is refused",
            _NONE,
            _CLASS,
            _of_class("PUMP-*"),
        ),
        case(
            "enrolment-of-a-class",
            "N41",
            "A device whose serial a class is for is enrolled",
            kind="enrolment",
            given=_of_class("BOX-*"),
            verdict="accepted",
            why="The neighbour of the device that is of no class.",
        ),
        enrolments.refused(
            "ek-on-no-list",
            "N11 N41",
            "A device that names an endorsement key which is not on the owner's list is refused",
            "ek-not-listed",
            "A list of what is bought is worth something only if what is not on it stays out.",
            _named_ek("BOX-0666"),
        ),
        case(
            "enrolment-ek-on-the-list",
            "N11 N41",
            "A device that names a listed endorsement key beside its identity is enrolled",
            kind="enrolment",
            given=_named_ek("BOX-0042"),
            verdict="accepted",
            why="The neighbour of the device whose endorsement key is on no list.",
        ),
        *_agents(),
    ]


def _agents() -> list[Json]:
    made = []
    for name, asked, code in (("another", "administrator", _NONE), ("its-own", "assistant", None)):
        given = agents.Floor().given()
        given["request"]["class"] = asked
        made.append(
            case(
                f"agent-of-{name}-class",
                "N15 N41",
                f"An AI agent that asks to be of {name.replace('-', ' ')} class is "
                + ("refused" if code else "accepted"),
                kind="agent",
                given=given,
                verdict="refused" if code else "accepted",
                code=code,
                why="An agent is of the class that its device and name make it, not of its choice."
                if code
                else "The neighbour of the agent that asks for another class.",
                importance="critical",
            )
        )
    tokens = "POST /enrol/v1/agents/planner/tokens"
    return [
        *made,
        sequence(
            "token-of-an-unknown-agent",
            "N15",
            "A device is given no token of an agent that it has not enrolled",
            "A token names an agent for which somebody has vouched.",
            ENROL,
            step("device", tokens, "refused", "agent-unknown", status=404),
        ),
    ]
