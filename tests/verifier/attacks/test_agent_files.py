"""What an attacker does to the AI agent's files and log, and what a policy may ask of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.errors import InputError
from attestation.logs.cel import Measurement, RecordKind, encode_content
from attestation.result import Claim
from tests.verifier.appraisal.courtroom import assert_refused
from tests.verifier.attacks.agent_court import (
    PCR,
    SHA256,
    AgentCourt,
    encode,
    files_of,
    policy,
    reasons,
)


@pytest.fixture
def court() -> AgentCourt:
    return AgentCourt()


def test_agent_as_its_provider_made_it_is_affirmed(court: AgentCourt) -> None:
    court.install()

    result = court.verdict()

    assert result.vector.file_system == 2
    assert result.vector.executables == 3
    assert "all 4 files are as AIBOM field-assistant 2.1" in reasons(result, "agent-files-matched")


def test_model_swapped_before_it_was_measured_is_contraindicated(court: AgentCourt) -> None:
    court.install(**{"models__tiny.onnx": b"poisoned weights"})

    result = court.verdict()

    assert_refused(result, "agent-file-changed", step=5)
    assert "models/tiny.onnx" in reasons(result, "agent-file-changed")
    assert result.vector.executables == 96


def test_file_changed_after_it_was_measured_is_contraindicated(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FILE, path="agent.py", digest=bytes(32)))

    assert_refused(court.verdict(), "agent-file-changed", step=5)


def test_file_changed_and_put_back_is_remembered_until_the_next_boot(court: AgentCourt) -> None:
    court.install()
    good = files_of({})[0]
    court.measure(replace(good, digest=bytes(32)), good)

    result = court.verdict()

    assert result.vector.executables == 32
    assert "something else earlier in this boot: agent.py" in reasons(result, "agent-file-changed")


def test_foreign_program_run_and_removed_is_remembered_until_the_next_boot(
    court: AgentCourt,
) -> None:
    court.install(**{"evil.py": b"evil"})
    evil = next(one for one in files_of({"evil.py": b"evil"}) if one.path == "evil.py")
    court.measure(replace(evil, kind=RecordKind.REMOVED))

    result = court.verdict()

    assert result.vector.file_system == 32
    told = reasons(result, "agent-file-unlisted")
    assert "there earlier in this boot and not listed in AIBOM field-assistant 2.1: evil.py" in told
    assert not reasons(result, "agent-files-matched")


def test_many_foreign_programs_removed_give_one_bounded_finding(court: AgentCourt) -> None:
    junk = {f"junk-{number:04}": b"j" for number in range(300)}
    court.install(**junk)
    court.measure(
        *(
            replace(one, kind=RecordKind.REMOVED)
            for one in files_of(dict(junk))
            if one.path.startswith("junk-")
        )
    )

    told = [one.reason for one in court.verdict().findings if one.code == "agent-file-unlisted"]

    assert len(told) == 1
    assert told[0].endswith("and 292 more")


def test_unlisted_file_that_changed_and_is_still_there_is_told_once(court: AgentCourt) -> None:
    court.install(extra=b"1")
    court.measure(*(one for one in files_of({"extra": b"2"}) if one.path == "extra"))

    told = [one.reason for one in court.verdict().findings if one.code == "agent-file-unlisted"]

    assert told == ["there and not listed in AIBOM field-assistant 2.1: extra"]


def test_foreign_aibom_measured_and_switched_back_is_remembered_until_the_next_boot(
    court: AgentCourt,
) -> None:
    court.install()
    foreign = replace(court.aibom, digest=bytes(range(32)))
    court.measure(foreign, court.aibom)

    result = court.verdict()

    assert result.vector.executables == 32
    assert foreign.digest.hex() in reasons(result, "aibom-unknown")


def test_aibom_that_we_hold_may_have_been_measured_before_the_present_one(
    court: AgentCourt,
) -> None:
    bom = court.load()
    older = replace(bom, name="field-assistant 2.0", sha256=bytes(range(32)))
    court.measure(replace(court.aibom, digest=older.sha256))
    court.install()
    court.reference = replace(court.reference, aiboms={bom.sha256: bom, older.sha256: older})

    result = court.judge(court.heard(court.agent_log))

    assert result.vector.executables == 3
    assert not reasons(result, "aibom-unknown")


def test_changed_setting_speaks_against_the_file_system(court: AgentCourt) -> None:
    court.install(**{"config__agent.toml": b"goal = 'take over'"})

    result = court.verdict()

    assert result.vector.file_system == 96
    assert result.vector.executables == 3


def test_missing_file_is_named(court: AgentCourt) -> None:
    court.install(**{"agent.py": None})

    result = court.verdict()

    assert_refused(result, "agent-file-missing", step=5)
    assert "agent.py" in reasons(result, "agent-file-missing")


def test_removed_file_is_missing(court: AgentCourt) -> None:
    court.install()
    court.measure(replace(files_of({})[0], kind=RecordKind.REMOVED))

    assert_refused(court.verdict(), "agent-file-missing", step=5)


def test_extra_file_is_named_and_its_name_cannot_write_the_report(court: AgentCourt) -> None:
    court.install(**{"\x1b[2Jok\n\u202egood.py": b"evil"})

    result = court.verdict()

    told = reasons(result, "agent-file-unlisted")
    assert result.vector.file_system == 32
    assert r"\x1b[2Jok\n\u202egood.py" in told
    assert told.isprintable()


def test_many_extra_files_give_one_bounded_finding(court: AgentCourt) -> None:
    court.install(**{f"junk-{number:04}": b"j" for number in range(300)})

    told = [one.reason for one in court.verdict().findings if one.code == "agent-file-unlisted"]

    assert len(told) == 1
    assert told[0].endswith("and 292 more")


@pytest.mark.parametrize(
    "kind", [RecordKind.OUTSIDE, RecordKind.SPECIAL, RecordKind.UNREADABLE, RecordKind.UNSTEADY]
)
def test_listed_file_that_could_not_be_measured_counts_as_changed(
    court: AgentCourt, kind: RecordKind
) -> None:
    court.install()
    court.measure(Measurement(kind=kind, path="agent.py"))

    result = court.verdict()

    assert_refused(result, "agent-file-changed", step=5)
    assert f"agent.py ({kind.value})" in reasons(result, "agent-file-changed")


def test_unmeasured_record_with_a_good_digest_is_not_good(court: AgentCourt) -> None:
    court.install()
    court.measure(replace(files_of({})[0], kind=RecordKind.UNSTEADY))

    assert_refused(court.verdict(), "agent-file-changed", step=5)


def test_device_that_excludes_more_than_the_policy_admits_is_warned_of(court: AgentCourt) -> None:
    court.install()
    pattern = Measurement(kind=RecordKind.EXCLUDED, path="**/*.so")
    court.measure(pattern)
    told = reasons(court.verdict(), "agent-file-unlisted")
    court.policy = policy('exclude = ["**/*.so"]')

    assert "**/*.so" in told
    assert court.verdict().vector.file_system == 2


def test_full_log_does_not_vouch_for_what_came_after(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FULL, path="."))

    assert_refused(court.verdict(), "agent-log-full", step=5)


def test_changed_model_claim_is_never_affirming(court: AgentCourt) -> None:
    court.install(**{"models__tiny.onnx": b"x"})

    claims = court.verdict().vector.as_claims()

    assert claims[Claim.EXECUTABLES] == 96
    assert Claim.FILE_SYSTEM not in claims


# --- the log ------------------------------------------------------------------------------------


def test_log_that_was_left_out_is_missed(court: AgentCourt) -> None:
    court.install()
    bom = court.load()
    court.reference = replace(court.reference, aiboms={bom.sha256: bom})

    result = court.judge(court.heard(None))

    assert_refused(result, "agent-log-missing", step=4)


def test_edited_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    honest = encode([court.aibom, *files_of({})])

    assert_refused(court.verdict(honest), "agent-replay-mismatch", step=4)


def test_edited_content_under_the_old_digests_contradicts_itself(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    good, bad = files_of({})[0], files_of({"agent.py": b"evil"})[0]
    edited = court.agent_log.replace(encode_content(bad), encode_content(good))
    assert edited != court.agent_log

    result = court.verdict(edited)

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "not that of its content" in reasons(result, "agent-replay-mismatch")


def test_truncated_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install()
    court.measure(Measurement(kind=RecordKind.FILE, path="evil.py", digest=bytes(32)))
    cut = encode([court.aibom, *files_of({})])

    assert_refused(court.verdict(cut), "agent-replay-mismatch", step=4)


def test_relabelled_record_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install()
    evil = Measurement(kind=RecordKind.FILE, path="evil.py", digest=bytes(32))
    court.measure(evil)
    relabelled = encode([court.aibom, *files_of({}), replace(evil, kind=RecordKind.REMOVED)])

    assert_refused(court.verdict(relabelled), "agent-replay-mismatch", step=4)


def test_reordered_log_does_not_lead_to_the_quoted_pcr(court: AgentCourt) -> None:
    court.install(**{"agent.py": b"evil"})
    court.measure(*files_of({}))
    swapped = encode([court.aibom, *files_of({}), *files_of({"agent.py": b"evil"})])

    assert_refused(court.verdict(swapped), "agent-replay-mismatch", step=4)


def test_bank_that_was_never_extended_does_not_pass_for_another(court: AgentCourt) -> None:
    """The device extends SHA-256 alone and leaves SHA-1, which the policy quotes too."""
    for one in (court.aibom, *files_of({})):
        court.tpm.extend(SHA256, PCR, SHA256.digest(encode_content(one)))
    court.agent_log = encode([court.aibom, *files_of({})], banks=(SHA256,))

    result = court.verdict()

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "no sha1 digests" in reasons(result, "agent-replay-mismatch")


def test_log_of_a_resettable_pcr_explains_no_other(court: AgentCourt) -> None:
    court.install()
    other = encode([court.aibom, *files_of({})], pcr=16)

    result = court.verdict(other)

    assert_refused(result, "agent-replay-mismatch", step=4)
    assert "is that of PCR 16" in reasons(result, "agent-replay-mismatch")


def test_log_that_does_not_begin_with_an_aibom_is_malformed(court: AgentCourt) -> None:
    court.measure(*files_of({}))

    with pytest.raises(InputError) as caught:
        court.verdict()
    assert caught.value.code == "agent-log-malformed"


def test_same_log_is_judged_once(court: AgentCourt) -> None:
    court.install()
    first = court.verdict()
    court.accept(first)
    again = court.judge(court.heard(court.agent_log))

    assert again.findings[-1] is first.findings[-1]


# --- the policy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pcr", [0, 7, 10, 16, 17, 23])
def test_policy_for_a_pcr_that_others_extend_or_reset_is_refused(pcr: int) -> None:
    with pytest.raises(InputError, match=r"agent\.pcr"):
        policy(f"pcr = {pcr}")


def test_policy_that_does_not_quote_the_agents_pcr_is_refused() -> None:
    with pytest.raises(InputError, match=r"agent\.pcr"):
        policy("pcr = 14")


@pytest.mark.parametrize(
    "rules", ["changed = 2", "unlisted = 0", 'deny = "x"', "colour = 1", "require_endorsement = 1"]
)
def test_agent_rules_that_soften_nothing_by_accident(rules: str) -> None:
    with pytest.raises(InputError, match=r"agent\."):
        policy(rules)
