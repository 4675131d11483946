"""Tokens whose class wants proof of the agent's key (RFC 9449): asked for over HTTPS, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.refusals import RefusalCode as Code
from attestation.wire.wit import verify_wit
from tests.simulators.soft_ai_agent import SoftAgentKey
from tests.simulators.soft_jose import b64, jws
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import Answer, Client, SiteDevice, VerifierSite, decode_nonce
from tests.verifier.api.agent_site import challenge, enrolled, named, new_device, refused, tokens
from verifier.errors import SettingsInvalid
from verifier.settings import load_settings
from verifier.sources import load_enrolment_rules

__all__ = ["new_device"]

URL = "https://verifier.fleet.example:8443"
PATH = "/enrol/v1/agents/planner/tokens"
POLICY = """
id = "proofs-test"
[[device]]
class = "default"
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
[[agent]]
class = "bare"
match = { name = "bare-*" }
proofs = ["pop"]
[[agent]]
class = "proving"
proofs = ["pop", "residency"]
token_proof = "dpop"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("proofs")
    (folder / "enrolment.toml").write_text(POLICY)
    with VerifierSite(
        folder,
        SoftManufacturer(),
        server=f'port = 0\npublic_url = "{URL}"',
        extra=f'enrolment = "{folder}/enrolment.toml"\n'
        "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n",
    ) as running:
        yield running


def send(client: Client, proofs: Sequence[str], body: str = "{}") -> Answer:
    """Ask with as many header fields as there are proofs."""
    line = client.connection
    line.putrequest("POST", PATH)
    for name, value in (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        *(("DPoP", proof) for proof in proofs),
    ):
        line.putheader(name, value)
    line.endheaders(body.encode())
    got = line.getresponse()
    return Answer(got.status, {}, got.read())


class Bench:
    """A device with an enrolled agent."""

    def __init__(self, device: SiteDevice, name: str = "planner") -> None:
        self.device, self.agent = device, named(name)
        self.certify(self.agent)

    def certify(self, agent: SoftAgentKey) -> None:
        enrolled(self.device, agent, None, evidence=b"", capabilities=())

    def nonce(self, name: str = "planner") -> str:
        asked = challenge(self.device, name)
        assert asked.status == 200, asked.body
        return b64(decode_nonce(asked.json))

    def proof(
        self,
        key: ec.EllipticCurvePrivateKey | None = None,
        *,
        header: object = None,
        **claims: object,
    ) -> str:
        """An honest proof, made by hand; what is given takes the place of its parts."""
        key = key or self.agent.private
        numbers = key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        told = {
            "typ": "dpop+jwt",
            "alg": "ES256",
            "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
        }
        if isinstance(header, dict):
            told |= header
        honest: dict[str, object] = {
            "jti": "one",
            "htm": "POST",
            "htu": URL + PATH,
            "iat": int(datetime.now(UTC).timestamp()),
        }
        if "nonce" not in claims:
            honest["nonce"] = self.nonce()
        wanted = {name: value for name, value in (honest | claims).items() if value is not None}
        return jws(told, wanted, key)

    def ask(self, *proofs: str, key: str = "") -> Answer:
        body = json.dumps({"key": key} if key else {})
        return send(self.device.client, proofs, body)


@pytest.fixture
def bench(new_device: Callable[[], SiteDevice]) -> Bench:
    return Bench(new_device())


def test_token_is_given_for_a_proof_by_the_certified_key(bench: Bench) -> None:
    answer = bench.ask(bench.proof())

    assert answer.status == 200, answer.body
    jwks = bench.device.site.client().get("/.well-known/jwks.json").json
    found = verify_wit(
        answer.json["token"], jwks, trust_domain="fleet.example", at=datetime.now(UTC)
    )
    assert found.key == bench.agent.private.public_key()


def test_token_without_proof_is_refused_and_what_is_wanted_is_named(bench: Bench) -> None:
    answer = bench.ask()

    refused(answer, Code.PROOFS_MISSING)
    assert answer.json["missing"] == ["dpop"]
    assert "proving" in answer.json["detail"]


def test_proof_is_taken_once(bench: Bench) -> None:
    proof = bench.proof()
    assert bench.ask(proof).status == 200
    refused(bench.ask(proof), Code.NONCE_REUSED)
    again = bench.proof(nonce=bench.nonce())
    assert bench.ask(again).status == 200


def test_one_challenge_gives_one_token_though_asked_with_many_proofs_at_once(
    bench: Bench,
) -> None:
    nonce = bench.nonce()
    proofs = [bench.proof(nonce=nonce, jti=str(number)) for number in range(6)]
    clients = [bench.device.new_client() for _ in proofs]

    def ask(number: int) -> int:
        return send(clients[number], [proofs[number]]).status

    with ThreadPoolExecutor(len(proofs)) as pool:
        statuses = sorted(pool.map(ask, range(len(proofs))))

    assert statuses == [200, *[403] * 5]


def test_proof_by_another_key_is_refused(bench: Bench) -> None:
    refused(bench.ask(bench.proof(named("x").private)), Code.TOKEN_PROOF_INVALID)


def test_proof_by_the_key_of_another_agent_is_refused(bench: Bench) -> None:
    other = named("other")
    bench.certify(other)
    refused(bench.ask(bench.proof(other.private)), Code.TOKEN_PROOF_INVALID)


def test_proof_that_names_another_key_than_signed_it_is_refused(bench: Bench) -> None:
    numbers = named("x").private.public_key().public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    refused(bench.ask(bench.proof(header={"jwk": jwk})), Code.TOKEN_PROOF_INVALID)


def test_proof_that_the_named_key_did_not_sign_is_refused(bench: Bench) -> None:
    signed, _, made = bench.proof().rpartition(".")
    other = bench.proof().rpartition(".")[2]
    assert made != other
    refused(bench.ask(f"{signed}.{other}"), Code.TOKEN_PROOF_INVALID)


@pytest.mark.parametrize(
    "claims",
    [
        {"htu": f"{URL}/enrol/v1/agents/other/tokens"},
        {"htu": f"https://elsewhere.example{PATH}"},
        {"htu": f"{URL}{PATH}?a=b"},
        {"htu": PATH},
        {"htm": "GET"},
        {"htm": "post"},
    ],
)
def test_proof_for_another_request_is_refused(bench: Bench, claims: dict[str, object]) -> None:
    refused(bench.ask(bench.proof(**claims)), Code.TOKEN_PROOF_INVALID)


@pytest.mark.parametrize("away_s", [-320, 320])
def test_proof_out_of_its_time_is_refused(bench: Bench, away_s: int) -> None:
    made = int(datetime.now(UTC).timestamp()) + away_s
    refused(bench.ask(bench.proof(iat=made)), Code.TOKEN_PROOF_EXPIRED)


@pytest.mark.parametrize("away_s", [-270, 270])
def test_clocks_may_differ(bench: Bench, away_s: int) -> None:
    made = int(datetime.now(UTC).timestamp()) + away_s
    assert bench.ask(bench.proof(iat=made)).status == 200


def test_proof_over_another_agents_or_devices_challenge_is_refused(
    bench: Bench, new_device: Callable[[], SiteDevice]
) -> None:
    other = Bench(new_device())
    for nonce in (bench.nonce("other"), other.nonce(), b64(bytes(56))):
        refused(bench.ask(bench.proof(nonce=nonce)), Code.NONCE_FORGED)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": None},
        {"nonce": "*"},
        {"nonce": 7},
        {"nonce": "AB"},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 4000},
        {"htm": None},
        {"htu": None},
        {"iat": None},
        {"iat": "1"},
        {"iat": True},
        {"iat": 10**40},
    ],
)
def test_proof_that_lacks_something_is_malformed(bench: Bench, claims: dict[str, object]) -> None:
    refused(bench.ask(bench.proof(**claims)), Code.TOKEN_PROOF_MALFORMED, 400)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "wpt+jwt"},
        {"jwk": None},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"crit": ["x"]},
        {"x5c": []},
    ],
)
def test_proof_with_another_header_is_malformed(bench: Bench, header: dict[str, object]) -> None:
    refused(bench.ask(bench.proof(header=header)), Code.TOKEN_PROOF_MALFORMED, 400)


def test_proof_that_says_alg_none_is_refused(bench: Bench) -> None:
    refused(bench.ask(bench.proof(header={"alg": "none"})), Code.TOKEN_PROOF_INVALID)


def test_private_key_in_a_proof_is_refused_and_not_repeated(bench: Bench) -> None:
    secret = b64(bench.agent.private.private_numbers().private_value.to_bytes(32, "big"))
    numbers = bench.agent.private.public_key().public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": secret}

    answer = bench.ask(bench.proof(header={"jwk": jwk}))

    refused(answer, Code.TOKEN_PROOF_MALFORMED, 400)
    assert secret not in answer.body.decode()


def test_two_proofs_are_refused(bench: Bench) -> None:
    refused(bench.ask(bench.proof(), bench.proof()), Code.TOKEN_PROOF_MALFORMED, 400)


def test_proof_must_be_by_the_key_that_the_token_is_for(bench: Bench) -> None:
    answer = bench.ask(bench.proof(), key=bench.agent.thumbprint)
    assert answer.status == 200, answer.body


def test_class_that_wants_no_proof_gives_tokens_without(bench: Bench) -> None:
    bare = named("bare-one")
    bench.certify(bare)
    assert tokens(bench.device, "bare-one").status == 200


def test_policy_that_wants_proofs_does_not_start_without_our_url(tmp_path: Path) -> None:
    policy = tmp_path / "enrolment.toml"
    policy.write_text(POLICY)
    text = f'[policy]\nenrolment = "{policy}"\n'
    with pytest.raises(SettingsInvalid, match=r"class proving .* set server\.public_url"):
        load_enrolment_rules(load_settings(text, "x.toml", {}))

    told = f'[server]\npublic_url = "{URL}"\n'
    assert load_enrolment_rules(load_settings(text + told, "x.toml", {})).policy.agents


@pytest.mark.parametrize("url", ["verifier.example", "https://v.example/", "ftp://v.example"])
def test_public_url_is_a_url(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"server\.public_url in x\.toml"):
        load_settings(f'[server]\npublic_url = "{url}"\n', "x.toml", {})
