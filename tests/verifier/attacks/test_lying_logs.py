"""Logs that lie: N3 (separators), N5 (contents), N21 (empty bank), N22 (stripped), N23 (locality),
N32 (EV_NO_ACTION), N45 (PCRs extended after the log ends).

The device's TPM is honest and holds what really was measured; only the log is edited, and quoted
again so that the binding holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from attestation.algorithms import HashAlgorithm
from attestation.errors import InputError
from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, Claim, Finding, TrustTier
from tests.simulators.soft_device import SoftTpm
from tests.verifier.appraisal.courtroom import SHA256, Courtroom, assert_refused
from tests.verifier.attacks.log_forge import Edit, first, forge, measured, sha256_of

Events = list[UnverifiedEvent]


@pytest.fixture
def court() -> Courtroom:
    return Courtroom()


def with_log(court: Courtroom, edit: Edit) -> AttestationResult:
    assert court.log is not None
    court.log = forge(court.log, edit)
    return court.judge()


def also_boot(court: Courtroom, edit: Edit) -> AttestationResult:
    """The PCRs really hold what the edited log says: the log lies about what that was."""
    assert court.log is not None
    court.log = forge(court.log, edit)
    court.tpm.load_pcrs(replay(parse_firmware_log(court.log), (SHA256,)).pcrs)
    return court.judge()


def deciding(result: AttestationResult, pcr: int) -> list[Finding]:
    return [one for one in result.findings if one.pcr == pcr and one.value >= 96]


def test_extend_that_no_log_explains_is_contraindicated(court: Courtroom) -> None:
    court.tpm.extend(SHA256, 4, b"\x66" * 32)

    result = court.judge()

    assert_refused(result, Code.LOG_REPLAY_MISMATCH, step=4)
    (finding,) = deciding(result, 4)
    assert (finding.claim, finding.value, finding.bank) == (Claim.EXECUTABLES, 96, "sha256")
    assert result.vector.as_claims() == {
        Claim.INSTANCE_IDENTITY: 2,
        Claim.HARDWARE: 2,
        Claim.CONFIGURATION: 2,
        Claim.EXECUTABLES: 96,
    }


def test_replay_mismatch_names_pcr_bank_and_both_values(court: Courtroom) -> None:
    expected = court.tpm.read_pcrs(court.policy.selections)[SHA256][4].hex()[:16]
    court.tpm.extend(SHA256, 4, b"\x66" * 32)
    held = court.tpm.read_pcrs(court.policy.selections)[SHA256][4].hex()[:16]

    (finding,) = deciding(court.judge(), 4)

    assert finding.reason == (
        f"PCR 4 (sha256) holds {held}… but the firmware log replays to {expected}…: something was "
        "measured that no log explains. Compare the boot loader on this machine with the "
        "reference, or re-install it"
    )


def test_every_pcr_that_differs_is_named(court: Courtroom) -> None:
    court.tpm.extend(SHA256, 0, b"\x66" * 32)
    court.tpm.extend(SHA256, 7, b"\x66" * 32)

    result = court.judge()

    seen = {one.pcr for one in result.findings if one.code == Code.LOG_REPLAY_MISMATCH}
    assert seen == {0, 7}
    assert (result.vector.hardware, result.vector.configuration) == (96, 96)


def test_log_with_one_digest_changed_does_not_replay(court: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        digests = tuple((alg, bytes(len(digest))) for alg, digest in events[place].digests)
        events[place] = events[place]._replace(digests=digests)
        return events

    result = with_log(court, edit)

    assert_refused(result, Code.LOG_REPLAY_MISMATCH, step=4)
    assert [one.pcr for one in result.findings if one.value >= 96] == [4]


def test_log_with_an_event_removed_does_not_replay(court: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        del events[first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)]
        return events

    assert_refused(with_log(court, edit), Code.LOG_REPLAY_MISMATCH, step=4)


def exchanged(pcr: int) -> Callable[[Events], Sequence[UnverifiedEvent]]:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        places = [n for n, event in enumerate(events) if event.pcr == pcr][:2]
        events[places[0]], events[places[1]] = events[places[1]], events[places[0]]
        return events

    return edit


def test_log_with_two_events_exchanged_does_not_replay(court: Courtroom) -> None:
    assert_refused(with_log(court, exchanged(4)), Code.LOG_REPLAY_MISMATCH, step=4)


def test_log_of_a_late_pcr_that_does_not_lead_to_its_known_value_tells_nothing(
    court: Courtroom,
) -> None:
    """The value is known to be good, so nobody is accused; no fact comes from such events."""
    result = with_log(court, exchanged(8))

    assert result.status is not TrustTier.CONTRAINDICATED
    assert [one.pcr for one in result.findings if one.code == Code.PCR_NOT_COVERED] == [8]
    assert result.boot is not None
    assert not any(proof.pcr == 8 for fact in result.boot.loader_commands for proof in fact.proofs)
    assert Code.BOOT_FACT_MISSING in {one.code for one in result.findings}


def test_content_that_is_not_what_was_measured_is_contraindicated(court: Courtroom) -> None:
    """N5: digest and replay are right, the words beside the digest are not."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        content = bytearray(events[place].event)
        content[-1] ^= 1
        events[place] = events[place]._replace(event=bytes(content))
        return events

    result = with_log(court, edit)

    assert_refused(result, Code.LOG_EVENT_CONTRADICTS, step=4)
    assert [one.pcr for one in result.findings if one.value >= 96] == [7]


def test_content_is_not_held_to_its_digest_where_the_policy_says_so(court: Courtroom) -> None:
    court.policy = replace(court.policy, check_event_contents=False, boot=None)

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 7, EventType.EFI_VARIABLE_DRIVER_CONFIG)
        events[place] = events[place]._replace(event=events[place].event + b"\x01")
        return events

    assert with_log(court, edit).status is TrustTier.AFFIRMING


def test_extending_event_relabelled_no_action_does_not_replay(court: Courtroom) -> None:
    """N32."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        events[place] = events[place]._replace(type=int(EventType.NO_ACTION))
        return events

    assert_refused(with_log(court, edit), Code.LOG_REPLAY_MISMATCH, step=4)


def test_no_action_event_explains_no_extend(court: Courtroom) -> None:
    """N32: an extend hidden in an event type that extends nothing."""
    court.tpm.extend(SHA256, 4, HashAlgorithm.SHA256.digest(b"loader"))

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4)
        hidden = measured(events[place], pcr=4, kind=EventType.NO_ACTION, content=b"loader")
        return [*events, hidden]

    assert_refused(with_log(court, edit), Code.LOG_REPLAY_MISMATCH, step=4)


@pytest.mark.parametrize("locality", [0, 4])
def test_forged_startup_locality_does_not_replay(court: Courtroom, locality: int) -> None:
    """N23: the device started in locality 3 and says another."""

    def three(events: Events) -> Sequence[UnverifiedEvent]:
        return [stated(events[0], 3), *without_locality(events)]

    assert also_boot(court, three).findings
    court.log = forge(court.log or b"", lambda e: [stated(e[0], locality), *without_locality(e)])

    result = court.judge()

    assert_refused(result, Code.LOG_REPLAY_MISMATCH, step=4)
    assert deciding(result, 0)


def stated(like: UnverifiedEvent, locality: int) -> UnverifiedEvent:
    digests = tuple((alg, bytes(len(digest))) for alg, digest in like.digests)
    content = b"StartupLocality\x00" + bytes([locality])
    return like._replace(pcr=0, type=int(EventType.NO_ACTION), digests=digests, event=content)


def without_locality(events: Events) -> Events:
    return [one for one in events if not one.event.startswith(b"StartupLocality")]


@pytest.mark.parametrize("pcr", range(8))
def test_log_stripped_of_all_events_of_a_pcr_is_contraindicated(court: Courtroom, pcr: int) -> None:
    """N22: an absent PCR is not a PCR that agrees."""
    result = with_log(court, lambda events: [one for one in events if one.pcr != pcr])

    assert_refused(result, Code.PCR_NOT_COVERED, step=4)
    assert deciding(result, pcr)[0].code == Code.PCR_NOT_COVERED


def test_no_log_at_all_is_contraindicated(court: Courtroom) -> None:
    """N22."""
    court.log = None

    result = court.judge()

    assert_refused(result, Code.PCR_NOT_COVERED, step=4)
    assert "no firmware log was sent" in result.reasons[0]


def test_late_pcr_without_events_is_reported_and_rests_on_its_value(court: Courtroom) -> None:
    """N45: never silently fine."""
    result = with_log(court, lambda events: [one for one in events if one.pcr != 9])

    (told,) = [one for one in result.findings if one.code == Code.PCR_NOT_COVERED]
    assert (told.pcr, told.value) == (9, 0)
    assert result.status is TrustTier.AFFIRMING


def test_late_pcr_without_events_and_with_another_value_is_contraindicated(
    court: Courtroom,
) -> None:
    """N45."""
    court.tpm.extend(SHA256, 9, b"\x01" * 32)

    result = with_log(court, lambda events: [one for one in events if one.pcr != 9])

    assert_refused(result, Code.REFERENCE_MISMATCH, step=5)
    assert deciding(result, 9)


def test_late_pcr_at_its_start_value_needs_no_event(court: Courtroom) -> None:
    tpm = SoftTpm(serial="BOX-0042", manufacturer=court.maker)
    values = dict(court.tpm.read_pcrs(court.policy.selections)[SHA256])
    tpm.keys, values[9] = court.tpm.keys, bytes(32)
    tpm.load_pcrs({SHA256: values})
    court.tpm = tpm

    result = with_log(court, lambda events: [one for one in events if one.pcr != 9])

    assert Code.PCR_NOT_COVERED not in [one.code for one in result.findings]


def test_bank_that_the_firmware_never_wrote_is_contraindicated(court: Courtroom) -> None:
    """N21: CVE-2021-42299. The log has no separators, and the PCRs agree with it."""
    result = also_boot(
        court, lambda events: [one for one in events if one.type != EventType.SEPARATOR]
    )

    assert_refused(result, Code.LOG_EVENT_CONTRADICTS, step=4)
    assert "0 separators" in " ".join(result.reasons)


def test_second_separator_is_contraindicated(court: Courtroom) -> None:
    """N3: what follows the first one was measured after the firmware was done."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        again = events[first(events, 4, EventType.SEPARATOR)]
        return [*events, again]

    result = also_boot(court, edit)

    assert_refused(result, Code.LOG_EVENT_CONTRADICTS, step=4)
    assert "2 separators" in " ".join(result.reasons)


def test_separator_hidden_under_another_type_is_contraindicated(court: Courtroom) -> None:
    """N3: the type is not in the digest; a second one then pretends to be the first."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.SEPARATOR)
        genuine = events[place]
        events[place] = genuine._replace(type=int(EventType.ACTION))
        return [*events, genuine]

    assert_refused(also_boot(court, edit), Code.LOG_EVENT_CONTRADICTS, step=4)


def test_event_that_only_calls_itself_a_separator_is_contraindicated(court: Courtroom) -> None:
    """N3."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        events[place] = events[place]._replace(type=int(EventType.SEPARATOR))
        return events

    assert_refused(with_log(court, edit), Code.LOG_EVENT_CONTRADICTS, step=4)


def test_log_of_another_bank_than_quoted_is_contraindicated(court: Courtroom) -> None:
    """N21, N26: a SHA-1 log explains no SHA-256 PCR."""
    assert court.log is not None
    log = parse_firmware_log(court.log)
    court.log = b"".join(
        event.pcr.to_bytes(4, "little")
        + event.type.to_bytes(4, "little")
        + dict(event.digests)[HashAlgorithm.SHA1]
        + len(event.event).to_bytes(4, "little")
        + event.event
        for event in log.events[1:]
    )

    result = court.judge()

    assert_refused(result, Code.LOG_BANK_MISSING, step=4)


def test_first_event_that_no_reference_knows_is_named(court: Courtroom) -> None:
    """A new boot loader, honestly logged: the finding says which event to look at."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        digests = tuple((alg, b"\x77" * len(digest)) for alg, digest in events[place].digests)
        events[place] = events[place]._replace(digests=digests)
        return events

    result = also_boot(court, edit)

    assert_refused(result, Code.REFERENCE_MISMATCH, step=5)
    (finding,) = deciding(result, 4)
    assert "EV_EFI_BOOT_SERVICES_APPLICATION, 7777777777777777…" in finding.reason
    assert "box/1" in finding.reason


def test_known_events_in_another_order_are_not_known(court: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        places = [n for n, event in enumerate(events) if event.pcr == 8]
        assert sha256_of(events[places[0]]) != sha256_of(events[places[1]])
        events[places[0]], events[places[1]] = events[places[1]], events[places[0]]
        return events

    (finding,) = deciding(also_boot(court, edit), 8)

    assert finding.code == Code.REFERENCE_MISMATCH
    assert "another order" in finding.reason


def test_truncated_log_is_malformed_and_nobody_is_accused(court: Courtroom) -> None:
    """N24."""
    assert court.log is not None
    court.log = court.log[:-3]

    with pytest.raises(InputError) as caught:
        court.judge()

    assert caught.value.code is Code.TRUNCATED


def test_log_that_claims_an_event_of_three_gigabytes_is_refused(court: Courtroom) -> None:
    """N24."""
    assert court.log is not None
    court.log += (4).to_bytes(4, "little") + (5).to_bytes(4, "little") + (3).to_bytes(4, "little")
    for alg, size in ((4, 20), (11, 32), (12, 48)):
        court.log += alg.to_bytes(2, "little") + bytes(size)
    court.log += (3 * 1024**3).to_bytes(4, "little")

    with pytest.raises(InputError) as caught:
        court.judge()

    assert caught.value.code in {Code.TRUNCATED, Code.TOO_LARGE}
