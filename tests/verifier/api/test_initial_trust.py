"""Initial trust over real TLS: each way in, each way of not getting in, and whose code it has."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from attestation.wire.enrolment_codec import (
    ActivationRequest,
    CloudStatement,
    EkStatement,
    EnrolmentRequest,
    encode_activation,
)
from attestation.wire.est import PATH, encode_body
from attestation.wire.media_types import ACTIVATION, ENROLMENT, PKCS10
from device_agent.ports import KeyRole
from tests.simulators import soft_tpm_maker
from tests.simulators.est import csr_of, issued
from tests.simulators.soft_cloud import RESOURCE, SoftAzure
from tests.simulators.soft_device import SoftTpm
from tests.simulators.soft_endorsement import SoftEk
from tests.simulators.trust_yard import CLASSES, OTHER_REGION, TrustYard, without_idevid
from tests.simulators.verifier_site import Answer, Client, SiteDevice

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrustYard]:
    made = TrustYard(tmp_path_factory.mktemp("yard"))
    with made.site:
        yield made


@pytest.fixture
def new(yard: TrustYard) -> Callable[[str], SiteDevice]:
    return lambda kind: yard.device(f"{kind}-{next(_NUMBERS):04}")


def refused(answer: Answer, code: str, status: int = 403) -> Answer:
    assert (answer.json.get("code"), answer.status) == (code, status), answer.body
    return answer


def alarms(yard: TrustYard) -> set[tuple[str, str]]:
    return {(one.code, one.subject) for one in yard.site.running.store.alarms()}


def instance(yard: TrustYard, number: int, **changes: object) -> CloudStatement:
    content = yard.aws.content(instanceId=f"i-{number:017x}", **changes)
    return CloudStatement(aws_iid=yard.aws.document(content))


def machine(yard: TrustYard, number: int, **changes: object) -> CloudStatement:
    claims = {"xms_mirid": RESOURCE.replace("vm-1", f"vm-{number}"), **changes}
    return CloudStatement(azure_msi=yard.azure.token(datetime.now(UTC), **claims))


def by_est(client: Client, device: SiteDevice, request: EnrolmentRequest) -> Answer:
    return client.post(f"{PATH}/simpleenroll", encode_body(csr_of(device, request)), PKCS10)


# --- by endorsement key --------------------------------------------------------------------


def test_device_with_nothing_but_an_endorsement_key_enrols_attests_and_renews(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    device, ek = new("ANY"), yard.certified_ek()

    answer = yard.enrol(device, ek=ek, idevid=False)

    assert answer.status == 201, answer.body
    assert device.device_id == f"ek-{ek.digest.hex()[:32]}"
    record = yard.site.running.store.device(device.device_id)
    assert record is not None
    assert record.enrolment.device_class == "endorsed"
    assert device.attest().json["status"] == "warning"
    challenge = device.client.post("/enrol/v1/challenges").json
    renewed = yard.send(device.client, device, without_idevid(device.enrolment_request(challenge)))
    assert (renewed.status, renewed.json["device_id"]) == (201, device.device_id)
    assert device.attest().status == 200


def test_stranger_with_an_endorsement_key_enrols_by_est(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    device, ek, client = new("ANY"), yard.certified_ek(), yard.site.client()
    begun = yard.begin(client, device, ek).json
    bare = without_idevid(device.enrolment_request(begun))
    whole = replace(bare, ek=yard.activated(begun, device, ek))

    assert by_est(client, device, bare).status == 403
    certificate = issued(by_est(client, device, whole))

    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert [one.value for one in names] == [f"ek-{ek.digest.hex()[:32]}"]
    refused(client.get(f"{PATH}/nonce"), "client-certificate-required", 401)


def test_listed_key_without_a_certificate_enrols_and_another_does_not(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("ANY"), ek=yard.listed, idevid=False).status == 201
    refused(yard.enrol(new("ANY"), ek=SoftEk(), idevid=False), "ek-not-listed")


def test_listed_key_is_believed_though_its_certificate_has_ended(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("ANY"), ek=yard.ended, idevid=False).status == 201


def test_key_of_another_maker_is_refused_before_anything_is_wrapped_to_it(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    foreign = SoftEk.made_by(soft_tpm_maker.root("Maker Root"))

    refused(yard.begin(yard.site.client(), new("ANY"), foreign), "ek-certificate-untrusted")


def test_tpm_that_runs_firmware_with_a_known_hole_is_refused_until_it_is_updated(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    """By what the TPM says now under its attestation key: its certificate says 7.63 all along."""
    device, ek = new("ANY"), yard.certified_ek()
    device.tpm.firmware_version = 7 << 48 | 61 << 32

    denied = refused(yard.enrol(device, ek=ek, idevid=False), "tpm-firmware-denied")
    device.tpm.firmware_version = 7 << 48 | 62 << 32
    mended = yard.enrol(device, ek=ek, idevid=False)

    assert "IFX firmware 7.61.0.0 falls to CVE-2017-15361" in denied.json["detail"]
    assert mended.status == 201, mended.body


def test_certificate_of_another_key_is_refused(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    mixed = SoftEk(chain=yard.certified_ek().chain)

    refused(yard.begin(yard.site.client(), new("ANY"), mixed), "ek-mismatch")


def test_attestation_key_of_another_tpm_is_not_resident(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    """N11: the right TPM answers for its own key, and the request names another's."""
    honest, liar, ek = new("ANY"), new("ANY"), yard.certified_ek()
    client = yard.site.client()
    begun = yard.begin(client, honest, ek).json
    statement = yard.activated(begun, honest, ek)
    request = without_idevid(liar.enrolment_request(begun))

    answer = yard.send(client, liar, replace(request, ek=statement))

    refused(answer, "ak-not-resident")


def test_tpm_without_the_attestation_key_cannot_answer(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    honest, liar, ek = new("ANY"), new("ANY"), yard.certified_ek()
    client = yard.site.client()
    begun = yard.begin(client, liar, ek).json
    statement = yard.activated(begun, honest, ek)

    answer = yard.send(
        client, liar, replace(without_idevid(liar.enrolment_request(begun)), ek=statement)
    )

    refused(answer, "credential-activation-failed")


def test_activation_has_one_try(yard: TrustYard, new: Callable[[str], SiteDevice]) -> None:
    """N12: after a wrong answer the right one comes too late, at any replica."""
    device, ek = new("ANY"), yard.certified_ek()
    client = yard.site.client()
    begun = yard.begin(client, device, ek).json
    statement = yard.activated(begun, device, ek)
    request = replace(without_idevid(device.enrolment_request(begun)), ek=statement)
    guess = replace(request, ek=replace(statement, answer=bytes(32)))

    refused(yard.send(client, device, guess), "credential-activation-failed")
    refused(yard.send(client, device, request), "credential-activation-spent")
    twin = yard.site.replica()
    with twin:
        other = twin.client()
        refused(yard.send(other, device, request), "credential-activation-spent")


def test_activation_begun_at_one_replica_is_taken_at_another(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    device, ek = new("ANY"), yard.certified_ek()
    begun = yard.begin(yard.site.client(), device, ek).json
    statement = yard.activated(begun, device, ek)
    request = replace(without_idevid(device.enrolment_request(begun)), ek=statement)

    with yard.site.replica() as twin:
        assert yard.send(twin.client(), device, request).status == 201


def test_activation_of_one_connection_does_not_do_for_another(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    """Begun without a certificate, used beside one: the nonce is another's, and so is this."""
    device, ek = new("BOTH"), yard.certified_ek()
    begun = yard.begin(yard.site.client(), device, ek).json
    statement = yard.activated(begun, device, ek)
    client = device.idevid_client()
    request = device.enrolment_request(client.post("/enrol/v1/challenges").json)

    answer = yard.send(client, device, replace(request, ek=statement))

    refused(answer, "credential-activation-spent")


def test_second_device_with_the_same_endorsement_key_is_refused_and_alarmed(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    first, second, ek = new("ANY"), new("ANY"), yard.certified_ek()
    assert yard.enrol(first, ek=ek, idevid=False).status == 201

    refused(yard.enrol(second, ek=ek, idevid=False), "device-id-taken", 409)

    assert ("device-id-taken", first.device_id) in alarms(yard)
    assert first.attest().status == 200


def test_endorsement_key_of_one_device_does_not_name_a_second_one(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    first, second, ek = new("BOTH"), new("BOTH"), yard.certified_ek()
    assert yard.enrol(first, ek=ek).status == 201

    answer = refused(yard.enrol(second, ek=ek), "identity-taken", 409)

    assert first.device_id in answer.json["detail"]
    assert ("identity-taken", second.tpm.serial.lower()) in alarms(yard)


def test_endorsement_key_that_was_only_named_belongs_to_nobody_yet(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    """Key and certificate of a TPM are no secrets: whoever names them has not proven them."""
    thief, victim, ek = new("EITHER"), new("EITHER"), yard.certified_ek()
    named = EkStatement(public=ek.public_area, chain=ek.chain)
    client = thief.idevid_client()
    request = thief.enrolment_request(client.post("/enrol/v1/challenges").json)
    assert yard.send(client, thief, replace(request, ek=named)).status == 201

    answer = yard.enrol(victim, ek=ek)

    assert answer.status == 201, answer.body


def test_activation_needs_a_request_that_can_be_read(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    client, device = yard.site.client(), new("ANY")
    unrestricted = ActivationRequest(
        ek_public=yard.listed.public_area,
        ek_chain=(),
        iak_public=device.tpm.public_area(KeyRole.IDEVID),
    )
    refused(client.post("/enrol/v1/activations", b"\xff", ACTIVATION), "cbor-malformed", 400)
    refused(client.post("/enrol/v1/activations", b"\xa0", "text/plain"), "media-type-wrong", 415)
    refused(
        client.post("/enrol/v1/activations", encode_activation(unrestricted), ACTIVATION),
        "ak-not-restricted",
    )


def test_strangers_together_have_little_room_and_take_none_from_known_devices(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    narrow = TrustYard(tmp_path_factory.mktemp("narrow"), limits="strangers_per_s = 0.01")
    with narrow.site:
        stranger, device = narrow.device("ANY-1"), narrow.device("EITHER-1")

        answers = [narrow.begin(narrow.site.client(), stranger, narrow.listed) for _ in range(3)]

        assert [one.status for one in answers] == [200, 429, 429]
        assert answers[1].json["code"] == "rate-limited"
        assert int(answers[1].headers["retry-after"]) > 60
        assert narrow.enrol(device).status == 201


def test_strangers_have_as_little_room_by_est(tmp_path_factory: pytest.TempPathFactory) -> None:
    narrow = TrustYard(tmp_path_factory.mktemp("narrow-est"), limits="strangers_per_s = 0.01")
    with narrow.site:
        stranger, client = narrow.device("ANY-1"), narrow.site.client()
        request = without_idevid(
            stranger.enrolment_request(narrow.begin(client, stranger, narrow.listed).json)
        )

        assert by_est(client, stranger, request).status == 429
        assert client.get(f"{PATH}/cacerts").status == 200


def test_nobody_without_a_certificate_passes_the_door_where_every_way_goes_by_idevid(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shut = TrustYard(tmp_path_factory.mktemp("shut"), classes={"plain": CLASSES["plain"]})
    with shut.site:
        device, client = shut.device("PLAIN-1"), shut.site.client()

        answer = shut.begin(client, device, shut.certified_ek())
        refused(answer, "client-certificate-required", 401)
        big = client.post("/enrol/v1/requests", bytes(1024), ENROLMENT)
        refused(big, "client-certificate-required", 401)
        refused(shut.begin(device.idevid_client(), device, shut.listed), "enrolment-denied")


# --- expressions ---------------------------------------------------------------------------


def test_class_that_wants_both_takes_both_and_neither_alone(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("BOTH"), ek=yard.certified_ek()).status == 201
    answer = refused(yard.enrol(new("BOTH")), "initial-trust-missing")
    assert answer.json["missing"] == ["initial trust: idevid AND tpm-ek"]


def test_listed_key_does_not_do_where_a_certificate_is_wanted(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    refused(yard.enrol(new("BOTH"), ek=yard.listed), "initial-trust-missing")
    refused(yard.enrol(new("BOTH"), ek=yard.ended), "certificate-expired")


def test_class_that_wants_either_takes_each(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("EITHER")).status == 201
    assert yard.enrol(new("EITHER"), ek=yard.certified_ek()).status == 201


def test_empty_expression_lets_nobody_in_whatever_is_shown(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    refused(yard.enrol(new("SHUT")), "enrolment-denied")
    refused(yard.enrol(new("SHUT"), ek=yard.certified_ek()), "enrolment-denied")


def test_device_of_no_class_is_refused(yard: TrustYard, new: Callable[[str], SiteDevice]) -> None:
    refused(yard.enrol(new("NOBODY")), "enrolment-class-unknown")


def test_all_that_is_missing_is_told_at_once(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    answer = yard.enrol(new("BOTH"), csr=b"", ldevid_certify=None)

    refused(answer, "proofs-missing")
    assert answer.json["missing"] == ["pop", "residency", "initial trust: idevid AND tpm-ek"]


def test_stranger_without_any_key_is_told_what_is_missing(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    device = new("ANY")
    begun = yard.begin(yard.site.client(), device, yard.listed).json

    answer = yard.send(yard.site.client(), device, without_idevid(device.enrolment_request(begun)))

    assert answer.status == 403
    assert answer.json["code"] in {"enrolment-class-unknown", "initial-trust-missing"}


def test_idevid_in_a_request_without_a_certificate_on_the_connection_is_refused(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    device = new("EITHER")
    begun = yard.begin(yard.site.client(), device, yard.listed).json

    answer = yard.send(yard.site.client(), device, device.enrolment_request(begun))

    refused(answer, "client-certificate-wrong")


# --- clouds --------------------------------------------------------------------------------


def test_instance_with_its_clouds_word_beside_its_identity_enrols(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("AWS"), cloud=instance(yard, 1)).status == 201
    assert yard.enrol(new("AZURE"), cloud=machine(yard, 1)).status == 201
    assert yard.enrol(new("CLOUD"), cloud=instance(yard, 2)).status == 201
    assert yard.enrol(new("CLOUD"), cloud=machine(yard, 2)).status == 201


def test_clouds_word_alone_is_never_enough(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    """No policy file can say so; a device that shows nothing else has no identity at all."""
    device = new("AWS")
    begun = yard.begin(yard.site.client(), device, yard.listed).json
    request = without_idevid(device.enrolment_request(begun))

    answer = yard.send(yard.site.client(), device, replace(request, cloud=instance(yard, 3)))

    assert answer.json["code"] in {"enrolment-class-unknown", "initial-trust-missing"}
    refused(yard.enrol(new("CLOUD")), "initial-trust-missing")


def test_documents_that_do_not_hold_have_each_their_code(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    good = instance(yard, 4).aws_iid
    torn = good[:200] + (b"A" if good[200:201] != b"A" else b"B") + good[201:]
    elsewhere = yard.aws.document(yard.aws.content(region=OTHER_REGION))
    unknown = yard.aws.document(yard.aws.content(region="ap-south-1"))
    foreign = yard.aws.document(yard.aws.content(accountId="999999999999"))
    for document, codes in (
        (torn, {"aws-signature-invalid", "aws-document-malformed"}),
        (elsewhere, {"aws-signature-invalid"}),
        (unknown, {"aws-signature-invalid"}),
        (foreign, {"aws-document-foreign"}),
        (b"{}", {"aws-document-malformed"}),
    ):
        answer = yard.enrol(new("AWS"), cloud=CloudStatement(aws_iid=document))
        assert answer.status in {400, 403}
        assert answer.json["code"] in codes


def test_tokens_that_do_not_hold_have_each_their_code(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    now = datetime.now(UTC)
    good = machine(yard, 5).azure_msi
    torn = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
    for token, code in (
        (torn, "azure-signature-invalid"),
        (SoftAzure(1).token(now), "azure-signature-invalid"),
        (machine(yard, 5, iss="https://sts.windows.net/other/").azure_msi, "azure-token-foreign"),
        (machine(yard, 5, aud="api://else").azure_msi, "azure-token-foreign"),
        (machine(yard, 5, xms_mirid="/subscriptions/0/vm").azure_msi, "azure-token-foreign"),
        (yard.azure.token(now - timedelta(days=1)), "azure-token-expired"),
        ("a.b.c", "azure-token-malformed"),
    ):
        answer = yard.enrol(new("AZURE"), cloud=CloudStatement(azure_msi=token))
        assert answer.json["code"] == code, answer.body


def test_owners_word_that_nobody_has_looked_at_is_no_proof_in_the_log(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    assert yard.enrol(new("PLAIN"), proofs={"owner-binding": b"signed by nobody"}).status == 201

    newest = yard.site.running.store.log_head()
    assert newest is not None
    assert json.loads(newest.entry)["proofs"] == ["evidence", "idevid", "pop", "residency"]


@pytest.mark.parametrize("kind", ["AWS", "AZURE"])
def test_second_device_that_claims_an_instance_is_refused_and_alarmed(
    yard: TrustYard, new: Callable[[str], SiteDevice], kind: str
) -> None:
    word = instance(yard, 77) if kind == "AWS" else machine(yard, 77)
    first, second = new(kind), new(kind)
    assert yard.enrol(first, cloud=word).status == 201
    assert yard.enrol(first, cloud=word).status == 201

    answer = refused(yard.enrol(second, cloud=word), "identity-taken", 409)

    assert first.device_id in answer.json["detail"]
    assert ("identity-taken", second.tpm.serial.lower()) in alarms(yard)
    assert yard.site.running.store.device(second.tpm.serial.lower()) is None  # type: ignore[arg-type]


# --- one identity, one device --------------------------------------------------------------


def test_second_tpm_with_the_serial_of_another_is_refused_and_alarmed(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    first = new("PLAIN")
    assert yard.enrol(first).status == 201
    thief = SiteDevice(site=yard.site, tpm=SoftTpm(yard.site.manufacturer, serial=first.tpm.serial))

    refused(yard.enrol(thief), "device-id-taken", 409)

    assert ("device-id-taken", first.device_id) in alarms(yard)


def test_attestation_key_of_one_device_under_another_serial_is_refused_and_alarmed(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    first, copy = new("PLAIN"), new("PLAIN")
    assert yard.enrol(first).status == 201
    copy.tpm.keys.update(first.tpm.keys)
    for role in (KeyRole.IDEVID, KeyRole.IAK):
        copy.tpm.certificates[role] = yard.site.manufacturer.issue(
            role, copy.tpm.keys[role].private.public_key(), copy.tpm.serial
        )

    answer = yard.enrol(copy)

    assert answer.status == 409
    assert answer.json["code"] in {"identity-taken", "key-already-certified"}
    assert (answer.json["code"], copy.tpm.serial.lower()) in alarms(yard)


def test_ldevid_key_of_one_device_is_not_certified_for_another(
    yard: TrustYard, new: Callable[[str], SiteDevice]
) -> None:
    first, second = new("PLAIN"), new("PLAIN")
    assert yard.enrol(first).status == 201
    second.tpm.keys[KeyRole.LDEVID] = first.tpm.keys[KeyRole.LDEVID]

    refused(yard.enrol(second), "key-already-certified", 409)

    assert ("key-already-certified", second.tpm.serial.lower()) in alarms(yard)
