"""IMA lists over HTTPS: sent once, gone on from, asked for anew, and never believed unproven."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from attestation.identity import DeviceId
from attestation.logs.ima.progress import RuntimeProgress
from attestation.result import TrustTier
from device_agent.ports import KeyRole
from tests.simulators.runtime_site import DENIED, POLICY, digest_of, know_files, write_policy
from tests.simulators.soft_manufacturer import SoftManufacturer
from tests.simulators.verifier_site import SiteDevice, VerifierSite
from verifier.api.evidence import SMALL_BYTES
from verifier.api.limits import BIG_BYTES
from verifier.appraisal.policy_file import load_policy
from verifier.appraisal.policy_model import AppraisalPolicy
from verifier.reference_values.model import ReferenceLibrary
from verifier.reference_values.runtime_policy import RuntimePolicy
from verifier.services.dry_run import Change, DryRun, Row, Terms
from verifier.services.reference_values import ReferenceShelf
from verifier.store.tables import devices

_SERIALS = itertools.count(1)
KNOWN = tuple(b"/usr/bin/%d" % number for number in range(20))
LIMITS = "[limits]\nrequests_per_s = 1000.0\nburst = 100000\n"
AFTER_REFRESH = 0.6


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierSite]:
    folder = tmp_path_factory.mktemp("runtime")
    with VerifierSite(
        folder, SoftManufacturer(), policy=write_policy(folder), extra=LIMITS
    ) as running:
        know_files(running, KNOWN)
        yield running


@pytest.fixture
def device(site: VerifierSite, tmp_path: Path) -> SiteDevice:
    """An enrolled device whose kernel has measured its start and two files."""
    made = site.device(f"IMA-{next(_SERIALS):04}")
    kernel = made.measures(tmp_path / "ima")
    run(made, KNOWN[0], KNOWN[1])
    answer = made.enrol()
    assert answer.status == 201, answer.body
    assert answer.json["ima_next"] == len(kernel.entries) == 3
    return made


def run(device: SiteDevice, *paths: bytes) -> None:
    assert device.kernel is not None
    for path in paths:
        device.kernel.measure(path, digest_of(path))


def sent(device: SiteDevice) -> int:
    """How many entries the next evidence holds."""
    assert device.kernel is not None
    return len(device.kernel.entries) - device.ima_next


def progress_of(site: VerifierSite, device: SiteDevice) -> RuntimeProgress | None:
    record = site.running.store.device(DeviceId(device.device_id))
    assert record is not None
    return record.enrolment.progress


def test_each_entry_travels_once(site: VerifierSite, device: SiteDevice) -> None:
    assert sent(device) == 0
    assert device.attest().json["status"] == "affirming"

    run(device, KNOWN[2])
    assert sent(device) == 1
    answer = device.attest().json

    assert (answer["status"], answer["ima_next"]) == ("affirming", 4)
    assert sent(device) == 0
    progress = progress_of(site, device)
    assert progress is not None
    assert (progress.entries, progress.reset_count) == (4, device.tpm.reset_count)


def test_whole_list_is_always_welcome(device: SiteDevice) -> None:
    run(device, KNOWN[2])
    device.ima_next = 0

    answer = device.attest().json

    assert (answer["status"], answer["ima_next"]) == ("affirming", 4)


def test_entries_ahead_of_the_quote_are_not_counted_and_sent_again(device: SiteDevice) -> None:
    assert device.kernel is not None
    run(device, KNOWN[2])
    device.kernel.list_only(KNOWN[3], digest_of(KNOWN[3]))

    ahead = device.attest().json
    assert (ahead["status"], ahead["ima_next"]) == ("affirming", 4)

    device.kernel.entries.pop()
    run(device, KNOWN[3], KNOWN[4])
    caught_up = device.attest().json

    assert (caught_up["status"], caught_up["ima_next"]) == ("affirming", 6)


def test_verifier_that_lost_its_state_asks_for_the_whole_list(
    site: VerifierSite, device: SiteDevice
) -> None:
    with site.running.store._engine.begin() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == device.device_id)
            .values(progress="damaged", version=devices.c.version + 1)
        )
    run(device, KNOWN[2])
    before = site.running.store.history(DeviceId(device.device_id))
    site.running.services.cache._by_fingerprint.clear()

    refused = device.attest()
    assert (refused.status, refused.json["code"]) == (409, "ima-offset-unknown")
    assert site.running.store.history(DeviceId(device.device_id)) == before
    device.ima_next = 0

    assert device.attest().json["ima_next"] == 4


def test_machine_that_booted_again_begins_a_new_list(device: SiteDevice) -> None:
    assert device.log is not None
    device.tpm.reboot()
    stale = device.ima_next
    device.boot(device.log)
    run(device, *KNOWN[5:10])
    device.ima_next = stale

    refused = device.attest()
    assert (refused.status, refused.json["code"]) == (409, "ima-offset-unknown")
    device.ima_next = 0
    answer = device.attest().json

    assert (answer["status"], answer["ima_next"]) == ("affirming", 6)


def test_failed_proof_after_a_boot_does_not_send_the_device_to_the_old_boots_entry(
    site: VerifierSite, device: SiteDevice
) -> None:
    assert device.log is not None
    assert device.kernel is not None
    old = progress_of(site, device)
    device.tpm.reboot()
    device.boot(device.log)
    run(device, KNOWN[5], KNOWN[6])
    hidden = device.kernel.entries.pop(1)

    answer = device.attest().json

    assert (answer["status"], answer["ima_next"]) == ("contraindicated", 0)
    assert progress_of(site, device) == old
    device.kernel.entries.insert(1, hidden)
    assert device.attest().json["ima_next"] == 3


def test_denied_file_is_told_until_the_machine_boots_again(device: SiteDevice) -> None:
    assert device.log is not None
    run(device, DENIED)
    caught = device.attest().json
    run(device, KNOWN[2])
    later = device.attest().json
    device.ima_next = 0
    whole = device.attest().json
    device.tpm.reboot()
    device.boot(device.log)
    run(device, KNOWN[0])

    for answer in (caught, later, whole):
        assert (answer["status"], answer["allow"]) == ("contraindicated", False)
        assert answer["reasons"][0].startswith("ima-file-denied")
    assert (caught["ima_next"], later["ima_next"]) == (4, 5)
    assert device.attest().json["status"] == "affirming"


def test_list_that_hides_an_entry_proves_nothing_and_moves_nothing(
    site: VerifierSite, device: SiteDevice
) -> None:
    assert device.kernel is not None
    before = progress_of(site, device)
    run(device, DENIED, KNOWN[2])
    hidden = device.kernel.entries.pop(-2)

    lied = device.attest().json

    assert (lied["status"], lied["ima_next"]) == ("contraindicated", 3)
    assert lied["reasons"][0].startswith("ima-replay-mismatch")
    assert progress_of(site, device) == before
    device.kernel.entries.insert(-1, hidden)
    told = device.attest().json
    assert told["reasons"][0].startswith("ima-file-denied")
    assert told["ima_next"] == 5


def test_entry_cannot_be_skipped_by_naming_a_later_one(device: SiteDevice) -> None:
    run(device, DENIED, KNOWN[2])
    device.ima_next = 4

    refused = device.attest()

    assert (refused.status, refused.json["code"]) == (409, "ima-offset-unknown")


def test_list_cannot_be_left_out(device: SiteDevice) -> None:
    run(device, DENIED)
    kernel, device.kernel = device.kernel, None

    answer = device.attest().json

    device.kernel = kernel
    assert answer["status"] == "contraindicated"
    assert answer["reasons"][0].startswith("ima-list-missing")


def test_older_evidence_does_not_roll_the_list_back(site: VerifierSite, device: SiteDevice) -> None:
    run(device, KNOWN[2])
    older = device.evidence(device.ask())
    run(device, DENIED)
    device.attest()
    proven = progress_of(site, device)

    again = device.submit(older)

    assert again.json["status"] == "contraindicated"
    assert again.json["reasons"][0].startswith("nonce-reused")
    assert again.json["ima_next"] == 5
    assert progress_of(site, device) == proven


def test_message_with_a_new_list_above_the_small_size_goes_on_too(device: SiteDevice) -> None:
    assert device.kernel is not None
    for number in range(200):
        device.kernel.measure(b"/opt/%d" % number, digest_of(b"other %d" % number))
    assert sum(map(len, device.kernel.entries[device.ima_next :])) > SMALL_BYTES

    answer = device.attest().json

    assert (answer["status"], answer["ima_next"]) == ("warning", 203)
    assert answer["reasons"][0].startswith("ima-file-unknown: 200 files were")


def test_list_of_a_long_day_is_judged_while_others_are_answered(
    site: VerifierSite, device: SiteDevice, tmp_path: Path
) -> None:
    assert device.kernel is not None
    kernel, write = device.kernel, device.kernel.write
    kernel.write = lambda: None  # type: ignore[method-assign]
    for number in range(50_000):
        kernel.measure(b"/var/lib/some/long/path/of/a/file/%08d" % number, digest_of(b""))
    kernel.write = write  # type: ignore[method-assign]
    device.ima_next = 0
    message = device.evidence(device.ask())
    assert len(message) > BIG_BYTES
    other = site.device(f"IMA-{next(_SERIALS):04}")
    other.measures(tmp_path / "other")
    assert other.enrol().status == 201
    answers = []
    sender = threading.Thread(target=lambda: answers.append(device.submit(message)))

    sender.start()
    meanwhile = [other.attest().status for _ in range(5)]
    sender.join()

    assert meanwhile == [200] * 5
    assert answers[0].json["ima_next"] == 50_003
    assert answers[0].json["reasons"][0].startswith("ima-file-unknown: 50000 files were")


def test_replica_that_is_behind_looks_before_it_asks_for_the_list(
    site: VerifierSite, device: SiteDevice
) -> None:
    """Two verifiers on one store: what one has proven, the other goes on from."""
    with site.replica() as replica:
        here = device.client
        there = replica.client(device.chain_pem, device.tpm.keys[KeyRole.LDEVID].private)
        answers = []
        for number, client in enumerate((here, there, here, there, there, here), 2):
            device._client = client
            run(device, KNOWN[number])
            device.challenge = {}
            answers.append(device.attest())

    assert [answer.status for answer in answers] == [200] * 6
    assert [answer.json["ima_next"] for answer in answers] == [4, 5, 6, 7, 8, 9]


def test_changed_runtime_policy_asks_for_the_whole_list(
    site: VerifierSite, device: SiteDevice
) -> None:
    """What was found under the old policy says nothing about the new one."""
    know_files(site, KNOWN[1:], version=2)
    threading.Event().wait(AFTER_REFRESH)
    try:
        refused = device.attest()
        device.ima_next = 0
        answer = device.attest()
    finally:
        know_files(site, KNOWN, version=3)
        threading.Event().wait(AFTER_REFRESH)

    assert (refused.status, refused.json["code"]) == (409, "ima-offset-unknown")
    assert answer.json["reasons"][0].startswith("ima-file-unknown: 1 file was")


def test_evidence_that_goes_on_from_earlier_can_be_judged_again(
    site: VerifierSite, device: SiteDevice
) -> None:
    """What was proven before is kept beside the last evidence, for a dry run of another policy."""
    run(device, b"/opt/stranger")
    assert device.attest().json["ima_next"] == 4
    run(device, KNOWN[2])
    assert device.attest().json["ima_next"] == 5
    verifier, at = site.running, datetime.now(UTC)
    present = Terms(policy=verifier.policy, reference=ReferenceShelf(verifier.store).current(at))
    harsh = load_policy(POLICY + "unknown = 96\n", "harsh")
    other = RuntimePolicy(name="box", version=99)
    renewed = replace(present.reference, runtime={"box": other})

    def judged(policy: AppraisalPolicy, reference: ReferenceLibrary) -> Row:
        proposed = Terms(policy=policy, reference=reference)
        run = DryRun(verifier.store, verifier.anchors, present, proposed)
        return next(row for row in run.rows() if row.device == device.device_id)

    assert judged(present.policy, present.reference).change is Change.SAME
    worse = judged(harsh, present.reference)
    assert (worse.change, worse.before, worse.after) == (
        Change.WORSE,
        TrustTier.WARNING,
        TrustTier.CONTRAINDICATED,
    )
    apart = judged(present.policy, renewed)
    assert apart.change is Change.NOT_JUDGED
    assert "only the newest piece" in apart.reason


def test_policy_without_ima_takes_a_list_and_says_nothing_of_it(tmp_path: Path) -> None:
    text = POLICY.partition("[ima]")[0]
    (tmp_path / "plain.toml").write_text(text)
    with VerifierSite(
        tmp_path / "plain", SoftManufacturer(), policy=str(tmp_path / "plain.toml"), extra=LIMITS
    ) as plain:
        device = plain.device("IMA-PLAIN")
        device.measures(tmp_path / "ima")
        assert device.enrol().status == 201

        answer = device.attest().json

    assert answer["ima_next"] == 0
    assert not [reason for reason in answer["reasons"] if reason.startswith("ima")]
