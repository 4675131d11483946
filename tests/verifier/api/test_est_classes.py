"""EST labels choose among the classes of an enrolment policy; one class takes a passport."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from attestation import der
from attestation.der import DerReader
from attestation.wire.est import ENROLMENT_CLASSES, PATH, decode_body, encode_body
from attestation.wire.media_types import PKCS10
from tests.simulators.est import as_passport, challenge_of, csr_of, enrol, issued
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite, decode_nonce, in_use

POLICY = """
id = "by-label"
[[device]]
class = "edge"
match.labels = ["edge"]
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
[[device]]
class = "returning"
match.labels = ["returning"]
initial_trust = "idevid"
proofs = ["pop", "residency", "result"]
[[device]]
class = "barred"
match.labels = ["barred"]
initial_trust = ""
proofs = ["pop", "residency", "evidence"]
[[device]]
class = "plain"
match.labels = ["-"]
initial_trust = "idevid"
proofs = ["pop", "residency", "evidence"]
"""
_SERIALS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("labels")
    policy = folder / "enrolment.toml"
    policy.write_text(POLICY)
    with VerifierSite(
        folder / "site", SoftManufacturer(), extra=f'enrolment = "{policy}"\n'
    ) as running:
        yield running


@pytest.fixture
def device(site: VerifierSite) -> SiteDevice:
    return site.device(f"LABEL-{next(_SERIALS):04}")


def class_of(site: VerifierSite, name: str) -> str:
    record = site.running.store.device(name)  # type: ignore[arg-type]
    assert record is not None
    return record.enrolment.device_class


def described(site: VerifierSite, label: str) -> list[str]:
    """Return the names of the classes in ``csrattrs``."""
    answer = site.client().get(f"{PATH}{label and '/' + label}/csrattrs")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/csrattrs")
    (outer,) = der.children(wrapped(decode_body(answer.body)), "CsrAttrs")
    found = []
    for element in der.children(outer, "CsrAttrs"):
        if element.tag != der.SEQUENCE:
            continue
        fields = DerReader(element.body, "Attribute")
        if der.oid(fields.next("type", der.OID)) == ENROLMENT_CLASSES:
            classes = der.children(fields.next("values", der.SET), "Attribute")
            found += [der.children(one, "EnrolmentClass")[0].body.decode() for one in classes]
    return sorted(found)


def wrapped(raw: bytes) -> der.Element:
    return der.Element(tag=der.SEQUENCE, raw=raw, body=raw)


@pytest.mark.parametrize(("label", "chosen"), [("", "plain"), ("edge", "edge")])
def test_label_chooses_the_class(
    site: VerifierSite, device: SiteDevice, label: str, chosen: str
) -> None:
    answer = enrol(device, label=label)

    issued(answer)
    assert class_of(site, device.tpm.serial.lower()) == chosen
    assert described(site, label) == [chosen]


def test_label_of_a_class_that_trusts_nobody_is_denied(device: SiteDevice) -> None:
    answer = enrol(device, label="barred")

    assert (answer.status, answer.json["code"]) == (403, "enrolment-denied")


def test_plain_request_is_told_what_the_label_wants(device: SiteDevice) -> None:
    device.tpm.create_ldevid()
    bare = replace(
        device.enrolment_request(challenge_of(device.idevid_client(), "returning")),
        **dict.fromkeys(("iak_public", "ldevid_public", "evidence"), b""),
        ldevid_certify=None,
        idevid_certify=None,
        iak_chain=(),
    )

    answer = device.idevid_client().post(
        f"{PATH}/returning/simpleenroll", encode_body(csr_of(device, bare)), PKCS10
    )

    assert (answer.status, answer.json["code"]) == (403, "proofs-missing")
    assert answer.json["missing"] == ["residency", "result"]


def test_result_of_ours_is_a_passport_where_the_class_wants_one(
    site: VerifierSite, device: SiteDevice
) -> None:
    device.enrol()
    site.learn("passport", device)
    in_use()
    attested = device.attest().json
    assert attested["status"] == "affirming", attested["reasons"]
    client = device.idevid_client()
    challenge = challenge_of(client, "returning")
    request = device.enrolment_request(challenge)

    passport = as_passport(attested["result"], decode_nonce(challenge))(request)
    answer = client.post(
        f"{PATH}/returning/simpleenroll", encode_body(csr_of(device, passport)), PKCS10
    )

    issued(answer)
    assert class_of(site, device.device_id) == "returning"


def test_passport_without_the_nonce_is_refused(site: VerifierSite, device: SiteDevice) -> None:
    device.enrol()
    token = device.attest().json["result"]
    client = device.idevid_client()
    request = device.enrolment_request(challenge_of(client, "returning"))

    answer = client.post(
        f"{PATH}/returning/simpleenroll",
        encode_body(csr_of(device, as_passport(token, b"")(request))),
        PKCS10,
    )

    assert answer.status in {400, 403}
    assert answer.json["code"] == "nonce-malformed"
