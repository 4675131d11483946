"""Cases of kind ``agent``: whether a key, a device and an owner stand behind an AI agent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.algorithms import HashAlgorithm
from attestation.evidence import Quote, certify_qualifying_data
from attestation.identity import DeviceId, agent_name
from attestation.tpm.templates import idevid_branches, policy_or
from device_agent.ports import KeyRole
from tests.conformance.generate.device import (
    NOW,
    FixedKey,
    FixedTpm,
    fixed_key,
    private_key,
    seed,
)
from tests.conformance.generate.freshness import DEVICE, LIFETIME, authority
from tests.conformance.generate.model import Json, blob, case
from tests.simulators.soft_ai_agent import thumbprint_of
from tests.simulators.soft_jose import b64, jws
from verifier.issuance.agents import agent_subject, owner_subject

NAME: Final = "planner"
OWNER: Final = "mailto:owner@fleet.example"
SCOPE: Final = ["calendar.read", "mail.read", "mail.send"]
SIGNED: Final = ["calendar.read", "mail.send"]
_DAY: Final = timedelta(days=1)
_RESIDES: Final = (
    "A certificate speaks of one key: request, certification by the device's TPM, and owner must "
    "all mean that one, or somebody else's key gets the agent's name."
)
_ANSWERS: Final = "Each proof must answer this challenge, for this agent of this device."
_OWNER: Final = (
    "An agent acts in an owner's name: only that owner's own signature over this key, in its "
    "time, gives that."
)
_SCOPE: Final = (
    "Whoever asks for more than everyone allows gets nothing: what is trimmed in silence is "
    "granted by accident elsewhere."
)
_STATE: Final = "What a device may give falls with its evidence; its agents fall with it."
_MISSING: Final = (
    "What a class wants is wanted of everybody; whoever comes with less is told all of it at once."
)
_TITLE: Final = "An AI agent {} is refused"


class Floor:
    """An honest agent of an honest device, and its owner."""

    def __init__(self) -> None:
        self.tpm = FixedTpm()
        self.key: FixedKey = fixed_key("agent planner", KeyRole.LDEVID)
        self.owner = private_key("owner")

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The agent's software key."""
        assert isinstance(self.key.private, ec.EllipticCurvePrivateKey)
        return self.key.private

    def binding(self, **changes: Any) -> str:
        """What the owner signs."""
        key = changes.pop("signed_by", self.owner)
        claims = {
            "cnf": {"jkt": thumbprint_of(self.private.public_key())},
            "owner": OWNER,
            "scope": SIGNED,
            "exp": int((NOW + 30 * _DAY).timestamp()),
            "nonce": b64(owner_nonce()),
        }
        return jws({"alg": "ES256", "typ": "owner-binding+jwt"}, claims | changes, key)

    def given(self, **changes: Any) -> Json:
        """The request and what a verifier knows; ``changes`` replace parts of it."""
        nonce = changes.pop("nonce", agent_nonce())
        witness: FixedTpm = changes.pop("witness", self.tpm)
        certified: FixedKey = changes.pop("certified", self.key)
        purpose = certify_qualifying_data(changes.pop("certified_for", nonce), f"agent:{NAME}")
        request = {
            "agent": NAME,
            "nonce": nonce.hex(),
            "agent_public": blob(self.key.public_area),
            "csr": blob(changes.pop("csr", csr(self.private))),
            "certify": _quote(witness.certify_other(certified, purpose)),
            "owner_binding": changes.pop("binding", self.binding()),
            "capabilities": changes.pop("capabilities", ["mail.send"]),
        }
        pem = self.owner.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        honest = {
            "at": NOW.isoformat(),
            "nonces": [
                _told(agent_nonce(), "agent", DEVICE),
                _told(agent_nonce(OTHER), "agent", OTHER),
                _told(owner_nonce(), "owner", DEVICE),
                _told(owner_nonce(OTHER), "owner", OTHER),
            ],
            "nonce_lifetime_s": int(LIFETIME.total_seconds()),
            "device": {"id": DEVICE, "iak_public": blob(self.tpm.public_area(KeyRole.IAK))},
            "result": {"status": "affirming", "expires_at": _after(timedelta(minutes=5))},
            "class": {
                "proofs": ["owner-binding", "pop", "residency", "result"],
                "scope": SCOPE,
            },
            "owners": [{"id": OWNER, "key_pem": pem.decode(), "scope": None}],
            "certified": [],
            "request": request,
        }
        return honest | changes


OTHER: Final = "box-0043"


def agent_nonce(device: str = DEVICE) -> bytes:
    """The challenge for the agent of a device."""
    subject = agent_subject(DeviceId(device), agent_name(NAME))
    return authority().issue(subject, NOW, seed(f"agent nonce {device}", 16))


def owner_nonce(device: str = DEVICE) -> bytes:
    """The challenge that its owner signs."""
    subject = owner_subject(DeviceId(device), agent_name(NAME))
    return authority().issue(subject, NOW, seed(f"owner nonce {device}", 16))


def csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#10, the same each time."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    builder = x509.CertificateSigningRequestBuilder(subject)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _told(nonce: bytes, purpose: str, device: str) -> Json:
    return {"nonce": nonce.hex(), "for": purpose, "device": device, "agent": NAME}


def _quote(one: Quote) -> Mapping[str, object]:
    return {"attest": blob(one.attest), "signature": blob(one.signature)}


def _after(delta: timedelta) -> str:
    moment: datetime = NOW + delta
    return moment.isoformat()


def _refused(
    name: str, anchors: str, what: str, code: str, why: str, given: Json, **more: Any
) -> Json:
    return case(
        f"agent-{name}",
        anchors,
        _TITLE.format(what),
        kind="agent",
        given=given,
        verdict="refused",
        code=code,
        why=why,
        importance="critical",
        **more,
    )


def cases() -> list[Json]:
    """Every case of this file."""
    made = [_honest(), *_keys(), *_challenges(), *_owners(), *_scopes(), *_states()]
    return [*made, *_missing()]


def _honest() -> Json:
    return case(
        "agent-honest",
        "N10 N11 N14 N15 N17 N18 N39 N41 N43",
        "An AI agent with every proof is accepted",
        kind="agent",
        given=Floor().given(),
        verdict="accepted",
        why="The neighbour of every agent that is refused.",
    )


def _keys() -> list[Json]:
    floor, stranger = Floor(), fixed_key("agent stranger", KeyRole.LDEVID)
    before = {"certified": [_holder(floor)]}
    assert isinstance(stranger.private, ec.EllipticCurvePrivateKey)
    made = [
        ("csr-by-another-key", "whose request another key signed", "csr-key-mismatch",
         floor.given(csr=csr(stranger.private))),
        ("key-of-another-tpm", "whose key another TPM's attestation key certified",
         "certify-signature-invalid", floor.given(witness=FixedTpm("BOX-0043"))),
        ("another-key-certified", "in whose place another key was certified", "certify-mismatch",
         floor.given(certified=stranger)),
        ("key-of-another-holder", "with a key that was certified for somebody else",
         "key-already-certified", floor.given() | before),
    ]  # fmt: skip
    movable, idevid, iak = Floor(), Floor(), Floor()
    movable.key = fixed_key("agent planner", KeyRole.LDEVID, attributes=0x00040060)
    policy = policy_or(HashAlgorithm.SHA256, idevid_branches(HashAlgorithm.SHA256))
    idevid.key = replace(fixed_key("BOX-0042", KeyRole.IDEVID), policy=policy)
    iak.key = fixed_key("BOX-0042", KeyRole.IAK)
    wrong = "key-attributes-wrong"
    made += [
        ("key-may-leave", "whose key may leave its TPM", wrong, movable.given()),
        ("key-is-the-idevid", "with the device's IDevID key", wrong, idevid.given()),
        ("key-is-the-iak", "with the device's attestation key", wrong, iak.given()),
    ]
    rows = {"key-may-leave": "N18", "key-is-the-iak": "N18", "key-of-another-holder": "N39"}
    return [
        _refused(name, rows.get(name, "N17"), what, code, _RESIDES, given)
        for name, what, code, given in made
    ]


def _holder(floor: Floor) -> Json:
    spki = floor.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    holder = f"spiffe://fleet.example/device/{OTHER}/agent/mailer"
    return {"holder": holder, "spki_sha256": hashlib.sha256(spki).hexdigest()}


def _challenges() -> list[Json]:
    floor = Floor()
    made = [
        ("nonce-of-another-device", "that answers another device's challenge", "nonce-forged",
         floor.given(nonce=agent_nonce(OTHER))),
        ("nonce-for-the-owner", "that answers the challenge for its owner", "nonce-forged",
         floor.given(nonce=owner_nonce())),
        ("nonce-too-old", "that answers too late", "nonce-expired",
         floor.given(at=_after(LIFETIME + timedelta(seconds=1)))),
        ("certified-for-another-challenge", "certified for another challenge",
         "certify-mismatch", floor.given(certified_for=agent_nonce(OTHER))),
    ]  # fmt: skip
    return [
        _refused(name, "N10 N39", what, code, _ANSWERS, given) for name, what, code, given in made
    ]


def _owners() -> list[Json]:
    floor, sign = Floor(), Floor().binding
    other = thumbprint_of(private_key("stranger").public_key())
    ended = int((NOW - timedelta(seconds=1)).timestamp())
    made = [
        ("owner-signature-by-another-key", "N41", "for whom another key than its owner's signed",
         "owner-signature-invalid", sign(signed_by=private_key("stranger"))),
        ("owner-unknown", "N41", "of an owner whom nobody knows", "owner-unknown",
         sign(owner="mailto:nobody@fleet.example")),
        ("binding-of-another-key", "N17", "with its owner's word for another key",
         "owner-binding-mismatch", sign(cnf={"jkt": other})),
        ("binding-of-another-device", "N10 N39", "with its owner's word for another device",
         "owner-binding-mismatch", sign(nonce=b64(owner_nonce(OTHER)))),
        ("binding-expired", "N43", "whose owner's word has ended", "owner-binding-expired",
         sign(exp=ended)),
    ]  # fmt: skip
    return [
        _refused(name, anchors, what, code, _OWNER, floor.given(binding=binding))
        for name, anchors, what, code, binding in made
    ]


def _scopes() -> list[Json]:
    floor = Floor()
    bounded = floor.given()
    bounded["owners"] = [{**bounded["owners"][0], "scope": ["calendar.read"]}]
    named = floor.binding(scope=["calendar.read", "mail.delete"])
    made = [
        ("scope-beyond-the-binding", "that asks for more than its owner signed",
         floor.given(capabilities=["mail.read", "mail.send"])),
        ("scope-beyond-the-class", "that asks for more than its class allows",
         floor.given(capabilities=["mail.delete"], binding=named)),
        ("scope-beyond-the-owner", "that is given more than its owner may give", bounded),
        ("scope-by-its-beginning", "that asks for a word which one allowed begins with",
         floor.given(capabilities=["mail"])),
    ]  # fmt: skip
    return [
        _refused(name, "N15", what, "scope-exceeded", _SCOPE, given) for name, what, given in made
    ]


def _states() -> list[Json]:
    floor, soon = Floor(), _after(timedelta(minutes=5))
    states = {
        "contraindicated": {"status": "contraindicated", "expires_at": soon},
        "not-affirming": {"status": "warning", "expires_at": soon},
    }
    made = [
        _refused(
            f"device-{name}",
            "N14",
            f"of a device that is {name.replace('-', ' ')}",
            "result-not-acceptable",
            _STATE,
            floor.given(result=result),
        )
        for name, result in states.items()
    ]
    ended = floor.given(result={"status": "affirming", "expires_at": NOW.isoformat()})
    stale = _refused(
        "device-stale", "N14", "of a device whose result has ended", "proofs-missing", _STATE, ended
    )
    spared = floor.given(result=states["contraindicated"])
    spared["class"] = {**spared["class"], "proofs": ["owner-binding", "pop", "residency"]}
    whatever = _refused(
        "device-contraindicated-though-no-state-is-wanted",
        "N14",
        "of a contraindicated device, though its class wants no state,",
        "result-not-acceptable",
        _STATE,
        spared,
    )
    return [*made, stale, whatever]


def _missing() -> list[Json]:
    """Nothing but a name and a key, and each proof left out of an honest request."""
    wanted = ["pop", "residency", "evidence", "result", "owner-binding"]
    agent_files = ["aibom", "provider-endorsement"]
    honest = Floor().given(**{"class": {"proofs": wanted[:2] + wanted[3:], "scope": SCOPE}})
    bare = Floor().given(**{"class": {"proofs": wanted + agent_files, "scope": SCOPE}})
    bare["result"] = {"status": "affirming", "expires_at": NOW.isoformat()}
    left = {"pop": "csr", "residency": "certify", "owner-binding": "owner_binding"}
    for part in left.values():
        bare["request"].pop(part)
    made = [
        _refused(
            "nothing-shown",
            "N15",
            "that shows nothing",
            "proofs-missing",
            _MISSING,
            bare,
            facts={"missing": [*wanted[:4], *agent_files, wanted[4]]},
        )
    ]
    for proof, part in left.items():
        given = {**honest, "request": {k: v for k, v in honest["request"].items() if k != part}}
        made.append(
            _refused(
                f"without-{proof}",
                "N15",
                f"that leaves out its proof {proof}",
                "proofs-missing",
                _MISSING,
                given,
                facts={"missing": [proof]},
            )
        )
    return made
