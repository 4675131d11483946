"""Cases of kind ``token-proof``: whether an agent's own key is there when a token is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.wire.jwk import public_jwk
from tests.conformance.generate.agents import NAME, agent_nonce
from tests.conformance.generate.device import NOW, private_key
from tests.conformance.generate.model import Json, case
from tests.simulators.soft_jose import b64, jws

TARGET: Final = f"https://verifier.example:8443/enrol/v1/agents/{NAME}/tokens"
_MINUTES: Final = timedelta(minutes=5)
_KEY: Final = (
    "A token is for whoever holds the certified key; a key that comes with the proof proves itself."
)
_HERE: Final = "A proof for one request must be of no use for another, and of none for long."
_FORM: Final = "What a proof must say is said, or two readers read two proofs."


def _given(**changes: Any) -> Json:
    """An honest proof; ``changes`` replace claims, ``header`` header members, ``by`` the signer."""
    own = private_key("agent planner")
    by: ec.EllipticCurvePrivateKey = changes.pop("by", own)
    header = {
        "typ": "dpop+jwt",
        "alg": "ES256",
        "jwk": public_jwk(by.public_key()),
        **changes.pop("header", {}),
    }
    claims = {
        "jti": "proof-1",
        "htm": "POST",
        "htu": TARGET,
        "iat": _made(timedelta()),
        "nonce": b64(agent_nonce()),
        **changes,
    }
    said = {name: value for name, value in claims.items() if value is not None}
    return {
        "at": NOW.isoformat(),
        "key": public_jwk(own.public_key()),
        "target": TARGET,
        "nonce": agent_nonce().hex(),
        "proof": jws(header, said, by),
    }


def _made(after: timedelta) -> int:
    return int((NOW + after).timestamp())


def _case(name: str, title: str, code: str | None, why: str, given: Json) -> Json:
    malformed = code == "token-proof-malformed"
    return case(
        f"token-proof-{name}",
        "N10" if code in {"token-proof-expired", "nonce-forged"} else "N15",
        title,
        kind="token-proof",
        given=given,
        verdict="malformed" if malformed else "refused" if code else "accepted",
        code=code,
        why=why,
        importance="critical",
    )


def cases() -> list[Json]:
    """Every case of this file."""
    return [*_honest(), *_keys(), *_requests(), *_forms()]


def _honest() -> list[Json]:
    near = "The neighbour of every proof that is refused."
    return [
        _case("honest", "A proof by the certified key is taken", None, near, _given()),
        _case(
            "at-its-last-moment",
            "A proof is taken up to five minutes after it was made",
            None,
            near,
            _given(iat=_made(-_MINUTES)),
        ),
    ]


def _keys() -> list[Json]:
    stranger = private_key("stranger")
    own = public_jwk(private_key("agent planner").public_key())
    unsigned = _given(header={"alg": "none"})
    unsigned["proof"] = unsigned["proof"].rpartition(".")[0] + "."
    wrong = "token-proof-invalid"
    return [
        _case("by-another-key", "A proof by another key, which it brings, is refused", wrong, _KEY,
              _given(by=stranger)),
        _case("under-the-certified-key", "A proof that another key signed in the certified one's "
              "name is refused", wrong, _KEY, _given(by=stranger, header={"jwk": own})),
        _case("unsigned", "A proof without a signature is refused", wrong, _KEY,
              unsigned),
    ]  # fmt: skip


def _requests() -> list[Json]:
    wrong, late = "token-proof-invalid", "token-proof-expired"
    elsewhere = TARGET.replace("verifier.", "another.")
    second = timedelta(seconds=1)
    return [
        _case("for-another-host", "A proof for another verifier is refused", wrong, _HERE,
              _given(htu=elsewhere)),
        _case("for-another-agent", "A proof for another agent's token is refused", wrong, _HERE,
              _given(htu=TARGET.replace(NAME, "mailer"))),
        _case("for-another-method", "A proof for another method is refused", wrong, _HERE,
              _given(htm="GET")),
        _case("too-old", "A proof that was made too long ago is refused", late, _HERE,
              _given(iat=_made(-_MINUTES - second))),
        _case("from-the-future", "A proof from the future is refused", late, _HERE,
              _given(iat=_made(_MINUTES + second))),
        _case("of-another-challenge", "A proof over another device's challenge is refused",
              "nonce-forged", _HERE, _given(nonce=b64(agent_nonce("box-0043")))),
    ]  # fmt: skip


def _forms() -> list[Json]:
    malformed = "token-proof-malformed"
    return [
        _case("without-a-nonce", "A proof that answers no challenge is refused", malformed, _FORM,
              _given(nonce=None)),
        _case("of-another-type", "A token of another kind is no proof", malformed, _FORM,
              _given(header={"typ": "wit+jwt"})),
    ]  # fmt: skip
