"""Boot facts that lie: N1 (relabelled types), N2 (second variable), N3 (second separator), N4 (boot
loader measured after the firmware was left), N5 (content that is not what was measured).

The machine really holds what the log replays to: only ``[boot]`` stands between the lie and the
verdict, for the policy here compares nothing with reference values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from attestation.logs.event_types import EventType
from attestation.logs.replay import replay
from attestation.logs.tcg import UnverifiedEvent, parse_firmware_log
from attestation.refusals import RefusalCode as Code
from attestation.result import AttestationResult, TrustTier
from tests.verifier.appraisal.courtroom import DATA, SHA256, Courtroom, assert_refused
from tests.verifier.attacks.log_forge import Edit, first, forge, measured
from verifier.appraisal.policy import AppraisalPolicy, Match

Events = list[UnverifiedEvent]
OFF = DATA / "google_go-eventlog/tpm/ubuntu-2104-no-dbx.bin"
UNKNOWN_TYPE = 0x80000123


def by_log_alone(policy: AppraisalPolicy) -> AppraisalPolicy:
    """The shipped policy without reference values: what [boot] says is all there is."""
    return replace(policy, rules=tuple(replace(rule, match=Match.LOG) for rule in policy.rules))


@pytest.fixture
def court() -> Courtroom:
    made = Courtroom()
    made.policy = by_log_alone(made.policy)
    return made


@pytest.fixture
def off() -> Courtroom:
    """A machine that booted with Secure Boot off, and would have it otherwise."""
    made = Courtroom(log=OFF)
    made.policy = by_log_alone(made.policy)
    return made


def boots(court: Courtroom, edit: Edit) -> AttestationResult:
    """The machine's PCRs really hold what the edited log says."""
    assert court.log is not None
    court.log = forge(court.log, edit)
    court.tpm.load_pcrs(replay(parse_firmware_log(court.log), (SHA256,)).pcrs)
    return court.judge()


def value_of(result: AttestationResult, rule: str) -> tuple[str, int]:
    (found,) = [one for one in result.findings if one.rule == rule]
    return str(found.code), found.value


def variable(events: Events, name: str) -> int:
    wanted = name.encode("utf-16-le")
    return next(
        place
        for place, event in enumerate(events)
        if event.type == EventType.EFI_VARIABLE_DRIVER_CONFIG
        and event.event[32 : 32 + len(wanted) + 2].startswith(wanted)
        and event.event[16] == len(name)
    )


def secure_boot(event: UnverifiedEvent, *, on: bool) -> UnverifiedEvent:
    return measured(
        event,
        pcr=7,
        kind=EventType.EFI_VARIABLE_DRIVER_CONFIG,
        content=event.event[:-1] + bytes([on]),
    )


def test_honest_boot_meets_the_policy(court: Courtroom) -> None:
    result = court.judge()

    assert result.status is TrustTier.AFFIRMING, result.reasons
    assert value_of(result, "boot.secure_boot") == ("boot-as-required", 0)


def test_honest_boot_without_secure_boot_is_named(off: Courtroom) -> None:
    result = off.judge()

    assert value_of(result, "boot.secure_boot") == (Code.SECURE_BOOT_OFF, 32)
    assert result.status is TrustTier.WARNING


@pytest.mark.parametrize("kind", [UNKNOWN_TYPE, int(EventType.UNUSED)])
def test_n1_relabelled_variable_is_contraindicated_and_tells_nothing(
    off: Courtroom, kind: int
) -> None:
    """The digest stays, the type goes: a real "off" hidden behind an "on" of one's own."""

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = variable(events, "SecureBoot")
        real = events[place]
        return [
            *events[:place],
            real._replace(type=kind),
            secure_boot(real, on=True),
            *events[place + 1 :],
        ]

    result = boots(off, edit)

    assert_refused(result, Code.EVENT_TYPE_UNKNOWN, step=4)
    assert value_of(result, "boot.secure_boot") == (Code.BOOT_FACT_MISSING, 36)


def test_n2_second_secure_boot_variable_does_not_win(off: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = variable(events, "SecureBoot")
        return [*events, secure_boot(events[place], on=True)]

    result = boots(off, edit)

    assert value_of(result, "boot.secure_boot")[0] != "boot-as-required"
    assert result.status is TrustTier.CONTRAINDICATED


def test_n3_second_separator_leaves_nothing_proven(court: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 7, EventType.SEPARATOR)
        return [*events, events[place]]

    result = boots(court, edit)

    assert result.status is TrustTier.CONTRAINDICATED
    assert value_of(result, "boot.secure_boot")[0] == Code.BOOT_FACT_MISSING


def test_n4_boot_loader_measured_after_the_firmware_was_left_is_no_boot_loader(
    court: Courtroom,
) -> None:
    """Whoever owns the machine extends the digest of a boot loader that never ran."""
    honest = court.judge().boot
    assert honest is not None

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = first(events, 4, EventType.EFI_BOOT_SERVICES_APPLICATION)
        good = tuple((alg, b"\x66" * len(digest)) for alg, digest in events[place].digests)
        return [*events, events[place]._replace(digests=good)]

    result = boots(court, edit)

    told = result.boot.images if result.boot is not None else ()
    assert b"\x66" * 32 not in {fact.value.digest for fact in told}
    assert result.status is TrustTier.CONTRAINDICATED


def test_n4_log_that_never_leaves_the_firmware_proves_no_boot_loader(court: Courtroom) -> None:
    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        return [event for event in events if b"Exit Boot Services" not in event.event]

    result = boots(court, edit)

    assert value_of(result, "boot.exit_boot_services")[0] in {
        Code.EXIT_BOOT_SERVICES_MISSING,
        Code.BOOT_FACT_MISSING,
    }
    assert result.status > TrustTier.AFFIRMING


def test_n5_content_that_was_not_measured_is_no_fact(off: Courtroom) -> None:
    """Without the check of contents, the fact itself is held to its digest."""
    off.policy = replace(off.policy, check_event_contents=False)

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = variable(events, "SecureBoot")
        events[place] = events[place]._replace(event=events[place].event[:-1] + b"\x01")
        return events

    result = boots(off, edit)

    assert value_of(result, "boot.secure_boot")[0] == Code.BOOT_FACT_MISSING
    assert result.status is TrustTier.CONTRAINDICATED


def test_command_line_that_opens_a_shell_is_refused(court: Courtroom) -> None:
    prefix = b"grub_kernel_cmdline "

    def edit(events: Events) -> Sequence[UnverifiedEvent]:
        place = next(n for n, one in enumerate(events) if one.event.startswith(prefix))
        line = events[place].event.removeprefix(prefix).rstrip(b"\0") + b" init=/bin/sh"
        real = measured(events[place], pcr=8, kind=EventType.IPL, content=line)
        events[place] = real._replace(event=prefix + line + b"\0")
        return events

    assert_refused(boots(court, edit), Code.COMMAND_LINE_REFUSED, step=4)
