"""Verifier and credential authority are two (R24): results of another verifier, over real TLS.

The judge appraises; the issuer has never seen the device, and gives it a certificate for a result
that the judge has signed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.wire.ear import key_id_text
from device_agent.ports import KeyRole
from tests.simulators.command_line import runner
from tests.simulators.two_verifiers import Door, Traveller, TwoVerifiers, claims_of
from tests.simulators.verifier_site import Answer, SiteDevice, boot_log

_SERIALS = itertools.count(1)
DOORS = (Door("cbor"), Door("est"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoVerifiers]:
    with TwoVerifiers(tmp_path_factory.mktemp("two")) as running:
        yield running


@pytest.fixture
def traveller(two: TwoVerifiers) -> Traveller:
    return two.traveller(f"FAR-{next(_SERIALS):04}")


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request: pytest.FixtureRequest) -> Door:
    chosen = request.param
    assert isinstance(chosen, Door)
    return chosen


def refused(answer: Answer, code: str, words: str = "") -> None:
    assert (answer.json.get("code"), answer.status) == (code, 403), answer.body
    assert words in answer.json["detail"]


def test_device_never_seen_here_enrols_by_the_other_verifiers_result(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    result = traveller.result()

    answer = door.enrol(traveller.issued, result)

    assert answer.status == door.accepted, answer.body
    store = two.issuer.running.store
    record = store.device(traveller.judged.device_id)  # type: ignore[arg-type]
    assert record is not None
    assert record.enrolment.device_class == "judged-elsewhere"
    assert record.enrolment.ak_name == traveller.judged.tpm.keys[KeyRole.IAK].name
    entry = json.loads([one for one in store.log_entries() if one.kind == "issued"][-1].entry)
    assert entry["ear"] == hashlib.sha256(result.encode()).hexdigest()
    assert (entry["proofs"], entry["evidence"]) == (["idevid", "pop", "residency", "result"], "")


def test_result_names_the_attestation_key_that_signed_the_evidence(traveller: Traveller) -> None:
    name = traveller.judged.tpm.keys[KeyRole.IAK].name

    assert claims_of(traveller.result())["cnf"] == {"kid": key_id_text(name)}


def test_result_names_no_key_if_the_quote_is_not_by_it(
    two: TwoVerifiers, traveller: Traveller
) -> None:
    """The signature failed: nobody was proven to hold the enrolled key."""
    other = SiteDevice(site=two.judge, tpm=two.judge.device("OTHER-1").tpm)
    challenge = traveller.judged.ask()

    answer = traveller.judged.submit(other.evidence(challenge))

    assert answer.json["status"] == "contraindicated", answer.body
    assert "cnf" not in claims_of(answer.json["result"])


def test_result_by_a_verifier_that_is_not_trusted_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with TwoVerifiers(tmp_path_factory.mktemp("strangers"), two.maker) as strangers:
        there = SiteDevice(site=strangers.judge, tpm=traveller.judged.tpm)
        assert there.enrol().status == 201
        result = Traveller(there, traveller.issued).result()

    refused(door.enrol(traveller.issued, result), "result-signature-invalid")


@pytest.mark.parametrize(
    ("moved", "code"), [(-3600, "result-expired"), (3600, "result-not-yet-valid")]
)
def test_result_out_of_its_time_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door, moved: int, code: str
) -> None:
    def move(claims: dict[str, Any]) -> None:
        claims["iat"] += moved
        claims["exp"] += moved

    result = two.resigned(traveller.result(), move)

    refused(door.enrol(traveller.issued, result), code)


def test_result_of_another_device_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    other = two.traveller(f"FAR-{next(_SERIALS):04}")

    answer = door.enrol(traveller.issued, other.result())

    refused(answer, "result-not-acceptable", "about another device")


def test_result_of_another_key_of_the_same_serial_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    """R23: another TPM with the same serial number, endorsed by the same maker."""
    twin = two.issuer.device(traveller.judged.tpm.serial)

    answer = door.enrol(twin, traveller.result())

    refused(answer, "result-not-acceptable", "another attestation key")


def test_result_that_names_no_key_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    result = two.resigned(traveller.result(), lambda claims: claims.pop("cnf"))

    refused(door.enrol(traveller.issued, result), "result-not-acceptable", "does not name")


def test_result_that_names_its_key_otherwise_is_refused(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    """RFC 7800 knows other ways; we could not hold a TPM key to them."""
    jwk = {"cnf": {"jwk": {"kty": "EC"}}}
    result = two.resigned(traveller.result(), lambda claims: claims.update(jwk))

    refused(door.enrol(traveller.issued, result), "result-not-acceptable", "does not name")


def test_result_of_a_boot_that_nobody_knows_is_refused(traveller: Traveller, door: Door) -> None:
    traveller.judged.boot(boot_log(b"kernel of somebody else"))
    result = traveller.result()
    assert claims_of(result)["ear_status"] == "warning"

    answer = door.enrol(traveller.issued, result)

    refused(answer, "result-not-acceptable", "it is warning, wanted affirming")


def test_result_of_a_device_that_was_tampered_with_is_refused(
    traveller: Traveller, door: Door
) -> None:
    traveller.judged.tamper()
    result = traveller.result()

    answer = door.enrol(traveller.issued, result)

    refused(answer, "result-not-acceptable", "it is contraindicated")


def test_result_of_ours_counts_only_for_a_device_judged_here(
    two: TwoVerifiers, traveller: Traveller, door: Door
) -> None:
    """The same claims, key and all, under the issuer's own signature: its store knows better."""
    claims = claims_of(traveller.result())
    result = two.issuer.running.ring.sign_claims(claims)

    answer = door.enrol(traveller.issued, result)

    refused(answer, "result-not-acceptable", "was appraised here")


def test_doctor_tells_whose_results_count_and_which_file_is_wrong(
    two: TwoVerifiers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken, absent = tmp_path / "v.toml", tmp_path / "absent.json"
    broken.write_text(two.issuer.config.read_text().replace(str(two.keys), str(absent)))

    def told(config: Path) -> dict[str, str]:
        _, out, _ = runner(monkeypatch, capfd, "-c", config)("check", "--json")
        (one,) = [one for one in json.loads(out) if one["name"] == "result keys"]
        return one  # type: ignore[no-any-return]

    good, bad, alone = told(two.issuer.config), told(broken), told(two.judge.config)

    assert (good["verdict"], good["reason"]) == ("ok", "2 keys of other verifiers in 1 files")
    assert bad["verdict"] == "failed"
    assert f"trust.result_keys: {absent}: No such file" in bad["reason"]
    assert "/.well-known/jwks.json" in bad["mend"]
    assert alone["reason"] == "only our own results count"
