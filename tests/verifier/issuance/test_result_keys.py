"""Files with the keys of other verifiers: all of it usable, or the verifier does not start."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.errors import MalformedInput
from attestation.wire import jwk
from tests.simulators.made_authority import copy_authority
from tests.simulators.verifier_site import now
from verifier.errors import SettingsInvalid
from verifier.issuance.result_keys import MAX_KEYS_OF_A_VERIFIER, read_result_keys
from verifier.keys.jwk import public_jwk
from verifier.keys.ring import KeyRing
from verifier.keys.setup import initialise
from verifier.settings import load_settings
from verifier.sources import SystemEntropy, load_result_keys

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
OTHER = ec.generate_private_key(ec.SECP256R1()).public_key()


def key(**changes: object) -> dict[str, object]:
    return {name: value for name, value in {**public_jwk(KEY), **changes}.items() if value}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_of_several_verifiers_are_read() -> None:
    a, b = public_jwk(KEY), public_jwk(OTHER)

    found = read_result_keys([("a.json", key_set(a)), ("b.json", key_set(b))])

    assert found == {a["kid"]: a, b["kid"]: b}


def test_what_a_verifier_of_ours_publishes_is_read(tmp_path: Path) -> None:
    copy_authority(tmp_path / "keys", now())
    initialise(tmp_path / "keys", hostnames=("localhost",), at=now(), entropy=SystemEntropy())
    published: Any = KeyRing(tmp_path / "keys").key_set(now(), timedelta(hours=1))

    found = read_result_keys([("jwks.json", json.dumps(published).encode())])

    assert set(found) == {one["kid"] for one in published["keys"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "f.json is not JSON"),
        (b"\xff", "f.json is not JSON"),
        (b"[]", "f.json is no JWK set"),
        (b'{"keys": {}}', "f.json is no JWK set"),
        (key_set(), "f.json is no JWK set"),
        (key_set(*[key()] * (MAX_KEYS_OF_A_VERIFIER + 1)), "f.json is no JWK set"),
        (key_set("x"), "f.json: key 1 is no JSON object"),
        (key_set(key(d="AAAA")), "private member 'd'"),
        (key_set(key(x=None)), "no JWK of a public key"),
        (key_set(key(kid=None)), "has no kid"),
        (key_set(key(kid="k" * 257)), "has no kid"),
        (key_set(key(use="enc")), "not for ES256 signatures"),
        (key_set(key(alg="ES384")), "not for ES256 signatures"),
        (key_set(key(), key()), "f.json: key 2 has the kid of a key in f.json"),
        (
            key_set(jwk.public_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())),
            "f.json: key 1 is not a P-256 key",
        ),
        (
            key_set(jwk.public_jwk(rsa.generate_private_key(65537, 2048).public_key())),
            "f.json: key 1 is not a P-256 key",
        ),
    ],
)
def test_file_that_cannot_be_used_is_named(content: bytes, words: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        read_result_keys([("f.json", content)])

    assert words in caught.value.reason
    assert caught.value.reason.startswith("f.json")


def test_two_files_may_not_claim_one_key() -> None:
    with pytest.raises(MalformedInput, match=r"b\.json: key 1 has the kid of a key in a\.json"):
        read_result_keys([("a.json", key_set(key())), ("b.json", key_set(key()))])


def test_setting_says_which_file_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("no keys")
    for path in (wrong, tmp_path / "absent.json"):
        settings = load_settings(f'[trust]\nresult_keys = ["{path}"]\n', "v.toml", {})

        with pytest.raises(SettingsInvalid, match=f"trust.result_keys: {path}"):
            load_result_keys(settings)


def test_without_the_setting_no_other_verifier_is_believed() -> None:
    assert load_result_keys(load_settings("", "v.toml", {})) == {}
