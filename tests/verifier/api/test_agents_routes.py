"""AI agents over HTTPS: identities of their own below their device's, and who does not get one."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.agent_certificate import AgentClaims, read_agent_claims
from attestation.errors import VerificationError
from attestation.identity import DeviceId, agent_name
from attestation.limits import MAX_AGENTS_PER_DEVICE
from attestation.refusals import RefusalCode as Code
from attestation.wire.agent_codec import encode_agent
from attestation.wire.wit import verify_wit
from device_agent.ports import KeyRole
from tests.simulators.soft_ai_agent import SoftAgentKey, SoftOwner
from tests.simulators.soft_device import LDEVID_ATTRIBUTES
from tests.simulators.soft_jose import holds, taken_apart, unb64
from tests.simulators.verifier_site import SiteDevice, VerifierSite, decode_nonce
from tests.verifier.api.agent_site import (
    certificate_in,
    challenge,
    device,
    enrol,
    enrolled,
    named,
    new_device,
    owner,
    refused,
    request_of,
    send,
    site,
    store,
    tokens,
)
from verifier.errors import Conflict
from verifier.services.decommission import Decommission

__all__ = ["device", "new_device", "owner", "site"]


# --- what an agent gets -------------------------------------------------------------------------


def test_challenge_says_what_the_class_wants(device: SiteDevice) -> None:
    told = challenge(device).json

    assert told["agent_id"] == f"spiffe://fleet.example/device/{device.device_id}/agent/planner"
    assert told["agent_class"] == "assistant"
    assert told["proofs"] == ["evidence", "owner-binding", "pop", "residency"]
    assert told["scope"] == ["calendar.read", "mail.read", "mail.send"]
    assert told["owner_expires_in_s"] == 7 * 86400
    assert told["nonce"] != told["owner_nonce"]


def test_two_agents_of_one_device_have_identities_of_their_own(
    device: SiteDevice, owner: SoftOwner
) -> None:
    """R3: their own subjects, keys and certificates; none is the device's."""
    agents = [named("planner"), named("mailer")]
    documents = [enrolled(device, agent, owner) for agent in agents]
    own = x509.load_pem_x509_certificates(device.chain_pem)[0]
    certificates = [own, *(certificate_in(document) for document in documents)]

    assert len({one.subject.rfc4514_string() for one in certificates}) == 3
    assert len({spki(one) for one in certificates}) == 3
    assert len({uri_of(one) for one in certificates}) == 3
    for agent, document, one in zip(agents, documents, certificates[1:], strict=True):
        assert one.public_key() == agent.private.public_key()
        assert uri_of(one) == document["agent_id"]
        assert uri_of(one).startswith(uri_of(own) + "/agent/")


def spki(certificate: x509.Certificate) -> bytes:
    from attestation.certificates import spki_der  # noqa: PLC0415 - one use

    return spki_der(certificate)


def uri_of(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri


def test_certificate_says_what_was_proven_and_nothing_of_the_csr(
    device: SiteDevice, owner: SoftOwner
) -> None:
    document = enrolled(
        device,
        named("planner"),
        owner,
        capabilities=("calendar.read", "mail.send"),
        locator="https://agents.example/planner",
        validation_methods=("wpt",),
    )
    certificate = certificate_in(document)

    assert read_agent_claims(certificate) == AgentClaims(
        owner=owner.name,
        capabilities=("calendar.read", "mail.send"),
        locator="https://agents.example/planner",
        validation_methods=("wpt",),
    )
    assert not certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert document["owner"] == owner.name
    assert document["capabilities"] == ["calendar.read", "mail.send"]


def test_openssl_verifies_the_chain_and_shows_the_identity(
    device: SiteDevice, owner: SoftOwner, tmp_path: Path
) -> None:
    document = enrolled(device, named("planner"), owner)
    path = tmp_path / "agent.pem"
    path.write_text(document["certificate_chain_pem"])
    roots = tmp_path / "roots.pem"
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - one use

    roots.write_bytes(
        b"".join(one.public_bytes(Encoding.PEM) for one in device.site.running.authority.roots())
    )

    told = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(roots),
         "-untrusted", str(path), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert told.returncode == 0, told.stderr
    assert f"URI:{document['agent_id']}" in shown
    assert "TLS Web Client Authentication" in shown
    assert f"OU = {device.device_id}, name = planner" in shown


def test_token_is_a_wit_over_the_key_of_the_certificate(
    device: SiteDevice, owner: SoftOwner
) -> None:
    """R7, R35, R36; checked here by hand from draft-ietf-wimse-workload-creds, 3.1."""
    agent = named("planner")
    document = enrolled(device, agent, owner, locator="https://agents.example/planner")
    jwks = device.site.client().get("/.well-known/jwks.json").json
    header, claims, _ = taken_apart(document["token"])
    (key,) = [one for one in jwks["keys"] if one["kid"] == header["kid"]]

    assert (header["typ"], header["alg"]) == ("wit+jwt", "ES256")
    signer = ec.EllipticCurvePublicNumbers(
        int.from_bytes(unb64(key["x"])), int.from_bytes(unb64(key["y"])), ec.SECP256R1()
    ).public_key()
    assert holds(document["token"], signer)
    assert claims["sub"] == document["agent_id"] == uri_of(certificate_in(document))
    assert claims["iss"] == "spiffe://fleet.example"
    assert "aud" not in claims
    numbers = agent.private.public_key().public_numbers()
    cnf = claims["cnf"]
    assert isinstance(cnf, dict)
    assert cnf["jwk"]["alg"] == "ES256"
    assert (int.from_bytes(unb64(cnf["jwk"]["x"])), int.from_bytes(unb64(cnf["jwk"]["y"]))) == (
        numbers.x,
        numbers.y,
    )
    assert len(unb64(str(claims["jti"]))) == 16
    assert claims["exp"] - claims["iat"] == 3600  # type: ignore[operator]
    found = verify_wit(document["token"], jwks, trust_domain="fleet.example", at=datetime.now(UTC))
    assert found.owner == owner.name
    assert found.capabilities == ("mail.send",)
    assert found.locator == "https://agents.example/planner"


def test_one_enrolment_of_a_device_gives_certificate_and_token(site: VerifierSite) -> None:
    """R7: same SPIFFE id, same public key."""
    device = site.device("AGT-7777")
    document = device.enrol().json
    jwks = site.client().get("/.well-known/jwks.json").json
    certificate = certificate_in(document)

    found = verify_wit(document["token"], jwks, trust_domain="fleet.example", at=datetime.now(UTC))

    assert found.subject == uri_of(certificate) == document["device_uri"]
    assert found.key == certificate.public_key()
    assert found.capabilities == ()


def test_token_is_no_result_and_result_no_token(device: SiteDevice, owner: SoftOwner) -> None:
    """One key signs both: their ``typ`` and claims keep them apart."""
    from attestation.errors import AttestationError  # noqa: PLC0415 - one use
    from attestation.wire.ear import verify_ear_jwt  # noqa: PLC0415 - one use

    document = enrolled(device, named("planner"), owner)
    jwks = device.site.client().get("/.well-known/jwks.json").json
    at = datetime.now(UTC)

    verify_ear_jwt(document["result"], jwks, at=at)
    with pytest.raises(AttestationError):
        verify_ear_jwt(document["token"], jwks, at=at)
    with pytest.raises(AttestationError):
        verify_wit(document["result"], jwks, trust_domain="fleet.example", at=at)


def test_log_links_certificate_result_evidence_and_owner(
    device: SiteDevice, owner: SoftOwner
) -> None:
    """R31."""
    request = request_of(device, named("planner"), owner)
    answer = send(device, request)
    assert answer.status == 201, answer.body
    certificate = certificate_in(answer.json)
    stored = store(device).certificate_by_serial(certificate.serial_number)
    assert stored is not None
    (entry,) = store(device).log_entries(after=stored.number - 1, limit=1)
    told = json.loads(entry.entry)

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    assert told["holder"] == answer.json["agent_id"]
    assert told["ear"] == digest(answer.json["result"].encode())
    assert told["evidence"] == digest(request.evidence)
    assert told["owner"] == digest(request.owner_binding.encode())
    assert told["proofs"] == ["evidence", "owner-binding", "pop", "residency", "result"]
    newest = store(device).newest_result(DeviceId(device.device_id))
    assert newest is not None
    assert newest.ear == answer.json["result"]


# --- renewal ------------------------------------------------------------------------------------


def test_renewal_with_a_new_key_leaves_the_old_one_for_the_overlap(
    device: SiteDevice, owner: SoftOwner
) -> None:
    old, new = named("planner"), named("planner")
    first = enrolled(device, old, owner)
    second = enrolled(device, new, owner)

    assert second["agent_id"] == first["agent_id"]
    stored = store(device).certificate_by_serial(certificate_in(first).serial_number)
    assert stored is not None
    assert stored.revoked_at is None
    assert stored.ends_at is not None
    assert timedelta(minutes=59) < stored.ends_at - datetime.now(UTC) <= timedelta(hours=1)
    for key, agent in (("", new), (new.thumbprint, new), (old.thumbprint, old)):
        token = tokens(device, "planner", key).json["token"]
        _, claims, _ = taken_apart(token)
        x = claims["cnf"]["jwk"]["x"]  # type: ignore[index]
        assert int.from_bytes(unb64(x)) == agent.private.public_key().public_numbers().x


def test_renewal_with_the_same_key_and_binding(device: SiteDevice, owner: SoftOwner) -> None:
    agent = named("planner")
    request = request_of(device, agent, owner)
    assert send(device, request).status == 201

    again = enrolled(device, agent, None, owner_binding=request.owner_binding)

    assert again["owner"] == owner.name


def test_request_is_answered_once(device: SiteDevice) -> None:
    asked = challenge(device, "short-a").json
    agent = named("short-a")
    request = agent.request(device.tpm, decode_nonce(asked), evidence=device.evidence(asked))
    assert send(device, request).status == 201
    answer = send(device, request)
    assert answer.status == 403, answer.body


def test_request_without_evidence_is_answered_once_too(device: SiteDevice) -> None:
    request = request_of(device, named("bare-c"), None, evidence=b"", capabilities=())
    assert send(device, request).status == 201
    refused(send(device, request), Code.NONCE_REUSED)


def test_agent_lasts_no_longer_than_its_class_says(device: SiteDevice) -> None:
    document = enrolled(device, named("short-b"), None)
    record = store(device).agent(DeviceId(device.device_id), "short-b")

    assert record is not None
    assert record.decommission_at is not None
    assert record.decommission_at - record.enrolled_at == timedelta(days=1)
    assert certificate_in(document).not_valid_after_utc <= record.decommission_at
    again = enrolled(device, named("short-b"), None)
    assert certificate_in(again).not_valid_after_utc <= record.decommission_at


def test_operators_word_on_an_agents_end_stays_over_enrolments(device: SiteDevice) -> None:
    said, name, now = Decommission(store(device)), DeviceId(device.device_id), datetime.now(UTC)
    enrolled(device, named("short-w"), None)
    for ends in (now + timedelta(hours=5), now + timedelta(days=9), None):
        said.plan(name, ends, now, agent="short-w")
        document = enrolled(device, named("short-w"), None)
        record = store(device).agent(name, "short-w")
        assert record is not None
        assert (record.decommission_at, record.decommission_told) == (ends, True)
        assert ends is None or certificate_in(document).not_valid_after_utc <= ends


# --- who does not get one -----------------------------------------------------------------------


def test_key_of_another_agent_is_refused_and_alarmed(device: SiteDevice, owner: SoftOwner) -> None:
    agent = named("planner")
    enrolled(device, agent, owner)
    thief = SoftAgentKey(name=agent_name("mailer"), key=agent.key)

    refused(enrol(device, thief, owner), Code.KEY_ALREADY_CERTIFIED, 409)

    alarm = store(device).alarms()[0]
    assert alarm.code == Code.KEY_ALREADY_CERTIFIED
    assert alarm.subject == device.device_id
    assert alarm.reason.startswith("agent mailer: ")
    assert store(device).agent(DeviceId(device.device_id), "mailer") is None


def test_key_of_the_device_is_refused_and_alarmed(device: SiteDevice, owner: SoftOwner) -> None:
    agent = SoftAgentKey(name=agent_name("mailer"), key=device.tpm.keys[KeyRole.LDEVID])
    refused(enrol(device, agent, owner), Code.KEY_ALREADY_CERTIFIED, 409)


def test_idevid_key_of_any_device_is_no_agents_key(
    new_device: Callable[[], SiteDevice],
) -> None:
    """Its public area is told as another: only the TPM could show it, which this class spares."""
    one, other = new_device(), new_device()
    key = replace(one.tpm.keys[KeyRole.IDEVID], policy=b"", attributes=LDEVID_ATTRIBUTES)
    agent = SoftAgentKey(name=agent_name("bare-one"), key=key)

    for asking in (one, other):
        answer = enrol(asking, agent, None, certify=None, evidence=b"", capabilities=())
        refused(answer, Code.KEY_ALREADY_CERTIFIED, 409)
        assert one.device_id in answer.json["detail"]
        assert store(asking).alarms()[0].subject == asking.device_id


def test_device_that_tries_many_names_hides_no_other_alarm(
    new_device: Callable[[], SiteDevice],
) -> None:
    """Names cost nothing: an operator hears of the device, once until somebody has seen it."""
    device = new_device()
    agent = named("bare-one")
    enrolled(device, agent, None, certify=None, evidence=b"", capabilities=())

    for number in range(5):
        thief = SoftAgentKey(name=agent_name(f"bare-{number}"), key=agent.key)
        answer = enrol(device, thief, None, certify=None, evidence=b"", capabilities=())
        refused(answer, Code.KEY_ALREADY_CERTIFIED, 409)

    told = [one for one in store(device).alarms() if device.device_id in one.subject]
    assert [one.reason.partition(": ")[0] for one in told] == ["agent bare-0"]


def test_key_of_an_agent_of_another_device_is_refused(
    new_device: Callable[[], SiteDevice], owner: SoftOwner
) -> None:
    one, other, agent = new_device(), new_device(), named("planner")
    enrolled(one, agent, owner)
    refused(enrol(other, agent, owner), Code.KEY_ALREADY_CERTIFIED, 409)


def test_scope_beyond_the_owners_is_refused(device: SiteDevice, owner: SoftOwner) -> None:
    answer = enrol(device, named("planner"), owner, capabilities=("mail.read", "mail.send"))
    refused(answer, Code.SCOPE_EXCEEDED)
    assert "mail.read" in answer.json["detail"]


def test_missing_proofs_are_all_named(device: SiteDevice) -> None:
    answer = enrol(device, named("planner"), None, certify=None, evidence=b"")
    refused(answer, Code.PROOFS_MISSING)
    for proof in ("residency", "evidence", "owner-binding"):
        assert proof in answer.json["detail"]


def test_agent_that_no_class_is_for_is_refused(device: SiteDevice) -> None:
    refused(challenge(device, "zebra"), Code.ENROLMENT_CLASS_UNKNOWN)


def test_contraindicated_device_gets_nothing(device: SiteDevice, owner: SoftOwner) -> None:
    device.tamper()
    answer = enrol(device, named("planner"), owner)
    refused(answer, Code.EVIDENCE_NOT_ACCEPTABLE)


@pytest.mark.parametrize("fall", ["judged anew", "revoked"])
def test_device_that_fell_meanwhile_gets_nothing(device: SiteDevice, fall: str) -> None:
    """What was judged must still stand when it is written; here without evidence of its own."""
    services = device.site.running.services
    record = store(device).device(DeviceId(device.device_id))
    assert record is not None
    request = request_of(device, named("bare-a"), None, evidence=b"", capabilities=())
    if fall == "revoked":
        with store(device).work() as work:
            work.revoke(record.device, "stolen", datetime.now(UTC))
    else:
        device.tamper()
        device.attest()
        assert store(device).newest_result(record.device).status == 96  # type: ignore[union-attr]
    with pytest.raises((Conflict, VerificationError)) as caught:
        services.agents.enrol(record, encode_agent(request), datetime.now(UTC))

    wanted = Code.CONFLICT if fall == "revoked" else Code.RESULT_NOT_ACCEPTABLE
    assert caught.value.code is wanted
    assert store(device).agent(record.device, "bare-a") is None


def test_good_news_in_between_ask_for_another_try(device: SiteDevice) -> None:
    """The device was judged anew, and well: the row moved on, so the request is repeated."""
    services = device.site.running.services
    record = store(device).device(DeviceId(device.device_id))
    assert record is not None
    request = request_of(device, named("bare-b"), None, evidence=b"", capabilities=())
    assert device.attest().status == 200

    with pytest.raises(Conflict) as caught:
        services.agents.enrol(record, encode_agent(request), datetime.now(UTC))

    assert caught.value.code is Code.CONFLICT
    enrolled(device, named("bare-b"), None, evidence=b"", capabilities=())


def test_revoked_agent_gets_nothing_and_stays_revoked(device: SiteDevice, owner: SoftOwner) -> None:
    agent = named("planner")
    enrolled(device, agent, owner)
    request = request_of(device, agent, owner)
    with store(device).work() as work:
        assert work.revoke_agent(
            DeviceId(device.device_id), "planner", 9, "lost its mind", datetime.now(UTC)
        )

    refused(send(device, request), Code.AGENT_REVOKED)
    refused(challenge(device), Code.AGENT_REVOKED)
    refused(tokens(device, "planner"), Code.AGENT_REVOKED)


def test_revoked_device_gets_nothing(device: SiteDevice, owner: SoftOwner) -> None:
    request = request_of(device, named("planner"), owner)
    with store(device).work() as work:
        work.revoke(DeviceId(device.device_id), "stolen", datetime.now(UTC))

    refused(send(device, request), Code.DEVICE_REVOKED)
    refused(device.client.post("/enrol/v1/tokens"), Code.DEVICE_REVOKED)


def test_challenge_of_one_device_is_of_no_use_to_another(
    new_device: Callable[[], SiteDevice], owner: SoftOwner
) -> None:
    one, other = new_device(), new_device()
    refused(send(other, request_of(one, named("planner"), owner)), Code.NONCE_FORGED)


def test_only_a_device_may_ask(site: VerifierSite, device: SiteDevice, owner: SoftOwner) -> None:
    """Neither a stranger, nor a maker's certificate, nor an agent with its own."""
    agent = named("planner")
    document = enrolled(device, agent, owner)
    as_agent = site.client(document["certificate_chain_pem"].encode(), agent.private)
    for path in ("/enrol/v1/tokens", "/enrol/v1/agents/planner/tokens"):
        assert site.client().post(path).status == 401
        assert device.idevid_client().post(path).status == 401
        refused(as_agent.post(path), Code.CLIENT_CERTIFICATE_WRONG, 401)


def test_wrong_media_type_and_wrong_json_are_refused(device: SiteDevice) -> None:
    assert device.client.post("/enrol/v1/agents", b"x", "application/json").status == 415
    for body in (b"", b"{}", b"[]", b'{"agent": 5}', b'{"agent": "a", "x": 1}'):
        answer = device.client.post("/enrol/v1/agents/challenges", body, "application/json")
        assert answer.status == 400, body
    refused(challenge(device, "UPPER"), Code.AGENT_NAME_INVALID, 400)


def test_device_has_only_so_many_agents(device: SiteDevice, owner: SoftOwner) -> None:
    """Each is a row for good; those that are there go on."""
    enrolled(device, named("planner"), owner)
    known = store(device).agent(DeviceId(device.device_id), "planner")
    assert known is not None
    with store(device).work() as work:
        for number in range(MAX_AGENTS_PER_DEVICE - 1):
            work.put_agent(replace(known, name=f"bulk-{number:03}", version=0))

    refused(challenge(device, "mailer"), Code.TOO_MANY, 413)
    enrolled(device, named("planner"), owner)
