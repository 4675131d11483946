from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.algorithms import HashAlgorithm
from attestation.errors import AttestationError, MalformedInput
from attestation.evidence import ImaPart
from attestation.refusals import RefusalCode
from attestation.result import AttestationResult, Claim, Finding, TrustTier
from tests.simulators.soft_ima import PrivateKey, SoftIma, entry, field, file_signature, ng, tagged
from tests.verifier.appraisal.courtroom import Courtroom, assert_refused, replayed_log
from verifier.appraisal.freshness import mark_seen
from verifier.appraisal.policy import load_policy
from verifier.appraisal.runtime_ledger import MAX_SAMPLES
from verifier.reference_values.golden import learn
from verifier.reference_values.model import ReferenceLibrary
from verifier.reference_values.runtime_policy_file import load_runtime_policy

FILES = {b"/usr/bin/env": b"env", b"/usr/bin/sh": b"sh", b"/usr/lib/with blank.so": b"lib"}

APPRAISAL = """
id = "edge/1"
description = "for tests"
[quote]
selection = "{selection}"
[[pcrs]]
indices = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14]
claim = "hardware"
known = 2
unknown = 33
missing = 32
coverage = "reported"
[[pcrs]]
indices = [10]
claim = "executables"
known = 3
unknown = 33
missing = 33
match = "log"
[ima]
policy = "box"
{ima}
"""
SELECTION = "sha256:0,1,2,3,4,5,6,7,8,9,10,11,14"


def rows(files: dict[bytes, bytes]) -> str:
    return "\n".join(
        f"sha256:{hashlib.sha256(content).hexdigest()}  {path.decode()}"
        for path, content in files.items()
    )


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Running(Courtroom):
    """A device under IMA, and a verifier with a runtime policy."""

    def __init__(
        self, more: str = "", *, ima: str = "", selection: str = SELECTION, padded: bool = False
    ) -> None:
        super().__init__()
        self.policy = load_policy(APPRAISAL.format(ima=ima, selection=selection), "test")
        self.kernel = SoftIma(self.tpm, padded=padded)
        self.runtime(more)
        for path, content in FILES.items():
            self.kernel.measure(path, content)

    def runtime(self, more: str = "", files: dict[bytes, bytes] | None = None) -> None:
        listed = rows(FILES if files is None else files)
        text = f"name = 'box'\nfiles = '''\n{listed}\n'''\n{more}\n"
        policy = load_runtime_policy(text, "test")
        values = self.tpm.read_pcrs(self.policy.selections)
        golden = learn("box", replayed_log(), values, self.policy.selections, self.at)
        self.reference = ReferenceLibrary(sets=(golden,), runtime={policy.name: policy})

    def look(self, content: bytes | None = None, *, offset: int | None = None) -> AttestationResult:
        """Judge what the device sends: all that is new, unless told otherwise."""
        progress = self.enrolment.progress
        if offset is None:
            offset = progress.entries if progress is not None else 0
        sent = self.kernel.list(offset) if content is None else content
        evidence = replace(self.evidence(), ima_list=ImaPart(offset=offset, content=sent))
        result = self.judge(evidence)
        assert result.clock is not None, result.reasons
        self.enrolment = self.enrolment.seen(mark_seen(result.clock, result.nonce), result.progress)
        self.at += timedelta(seconds=1)
        return result


def of(result: AttestationResult, code: str) -> Finding:
    (found,) = [one for one in result.findings if one.code == code]
    return found


def codes(result: AttestationResult) -> set[str]:
    return {one.code for one in result.findings if one.value >= 32}


def test_list_of_allowed_files_makes_executables_affirming() -> None:
    court = Running()

    result = court.look()

    found = of(result, "runtime-clean")
    assert (found.value, found.claim, found.step) == (2, Claim.EXECUTABLES, 5)
    assert "all 4 entries" in found.reason
    assert result.status is TrustTier.AFFIRMING, result.reasons
    assert result.progress is not None
    assert (result.progress.entries, result.progress.padded) == (4, False)


def test_each_kind_of_trouble_is_named_with_its_worth() -> None:
    court = Running(f"denied = '''\n{digest(b'bad')}  vulnerable sudo\n'''")
    court.kernel.measure(b"/opt/new", b"new")
    court.kernel.measure(b"/usr/bin/bad", b"bad")
    court.kernel.violate(b"/var/log/wtmp")

    result = court.look()

    assert of(result, RefusalCode.IMA_FILE_UNKNOWN).value == 33
    assert "/opt/new" in of(result, RefusalCode.IMA_FILE_UNKNOWN).reason
    assert of(result, RefusalCode.IMA_FILE_DENIED).value == 96
    assert "vulnerable sudo" in of(result, RefusalCode.IMA_FILE_DENIED).reason
    assert of(result, RefusalCode.IMA_VIOLATION).value == 33
    assert "/var/log/wtmp" in of(result, RefusalCode.IMA_VIOLATION).reason
    assert "runtime-clean" not in {one.code for one in result.findings}
    assert result.status is TrustTier.CONTRAINDICATED


def test_worth_follows_the_appraisal_policy() -> None:
    court = Running(ima='unknown = 97\nviolation = 40\nclaim = "file-system"')
    court.kernel.measure(b"/opt/new", b"new")
    court.kernel.violate(b"/x")

    result = court.look()

    assert of(result, RefusalCode.IMA_FILE_UNKNOWN).value == 97
    assert of(result, RefusalCode.IMA_FILE_UNKNOWN).claim is Claim.FILE_SYSTEM
    assert of(result, RefusalCode.IMA_VIOLATION).value == 40


# --- proof ---------------------------------------------------------------------------------------
def test_n35_list_ahead_of_the_quote_is_believed_up_to_the_quote() -> None:
    court = Running()
    ahead = court.kernel.list() + entry(ng(b"/opt/later", b"later")) * 3

    result = court.look(ahead)

    assert of(result, "runtime-clean").reason.endswith("3 newer ones are judged next time")
    assert result.progress is not None
    assert result.progress.entries == 4


def test_n35_shorter_list_than_the_quote_is_contradicted() -> None:
    court = Running()
    court.kernel.measure(b"/opt/evil", b"evil")

    result = court.look(b"".join(court.kernel.pieces[:-1]))

    assert_refused(result, RefusalCode.IMA_REPLAY_MISMATCH, step=4)
    assert result.progress is None


@pytest.mark.parametrize("drop", [0, 1, 2, 3])
def test_list_with_an_entry_left_out_is_contradicted(drop: int) -> None:
    court = Running()
    pieces = [one for number, one in enumerate(court.kernel.pieces) if number != drop]

    assert_refused(court.look(b"".join(pieces)), RefusalCode.IMA_REPLAY_MISMATCH, step=4)


def test_edited_data_is_told_as_a_template_hash_that_does_not_fit() -> None:
    court = Running()
    content = court.kernel.list().replace(b"/usr/bin/sh", b"/usr/bin/ls")

    result = court.look(content)

    assert_refused(result, RefusalCode.IMA_TEMPLATE_MISMATCH, step=4)
    assert "entry 2" in of(result, RefusalCode.IMA_TEMPLATE_MISMATCH).reason


def test_edited_template_hash_alone_changes_nothing_that_is_believed() -> None:
    court = Running()
    court.kernel.measure(b"/opt/new", b"new")
    honest = court.look()
    data = ng(b"/opt/new", b"new")
    content = court.kernel.list().replace(hashlib.sha1(data).digest(), b"\x01" * 20)  # noqa: S324

    result = court.look(content, offset=0)

    assert of(result, RefusalCode.IMA_FILE_UNKNOWN) == of(honest, RefusalCode.IMA_FILE_UNKNOWN)


def test_n34_measured_file_dressed_as_a_violation_is_contradicted() -> None:
    court = Running()
    court.kernel.measure(b"/opt/evil", b"evil")
    last = entry(ng(b"/opt/evil", b"evil"), digest=bytes(20))

    result = court.look(b"".join(court.kernel.pieces[:-1]) + last)

    assert_refused(result, RefusalCode.IMA_REPLAY_MISMATCH, step=4)


def test_n34_violation_dressed_as_an_allowed_file_is_contradicted() -> None:
    court = Running()
    court.kernel.violate(b"/usr/bin/sh")

    result = court.look(b"".join(court.kernel.pieces[:-1]) + entry(ng(b"/usr/bin/sh", b"sh")))

    assert_refused(result, RefusalCode.IMA_REPLAY_MISMATCH, step=4)


def test_n35_entries_for_another_selected_pcr_must_lead_to_it() -> None:
    court = Running()
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)
    honest = court.look()
    forged = court.kernel.list().replace(entry(ng(b"/usr/bin/env", b"env"), pcr=11), b"")

    assert RefusalCode.IMA_REPLAY_MISMATCH not in codes(honest), honest.reasons
    assert honest.progress is not None
    assert set(honest.progress.pcrs[HashAlgorithm.SHA256]) == {10, 11}
    lie = court.look(forged + entry(ng(b"/usr/bin/sh", b"sh"), pcr=11), offset=0)
    assert_refused(lie, RefusalCode.IMA_REPLAY_MISMATCH, step=4)
    assert lie.progress is None


def test_n35_entry_for_another_pcr_after_the_last_of_the_main_one_is_proven() -> None:
    court = Running()
    court.kernel.measure(b"/opt/new", b"new", pcr=11)

    result = court.look()

    assert "/opt/new" in of(result, RefusalCode.IMA_FILE_UNKNOWN).reason
    assert result.progress is not None
    assert result.progress.entries == 5


def test_n35_entries_for_a_pcr_that_is_not_quoted_prove_nothing_and_are_told() -> None:
    court = Running()
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=12)
    court.kernel.measure(b"/usr/bin/sh", b"sh")

    result = court.look()

    found = of(result, RefusalCode.PCR_NOT_COVERED)
    assert (found.value, "1 entries" in found.reason, "PCR 12" in found.reason) == (33, True, True)
    assert "runtime-clean" not in {one.code for one in result.findings}


def test_something_else_extending_an_earlier_pcr_of_the_list_is_contradicted() -> None:
    court = Running()
    court.kernel.measure(b"/usr/bin/env", b"env", pcr=11)
    court.look()
    court.tpm.extend(HashAlgorithm.SHA256, 11, b"\x07" * 32)

    assert_refused(court.look(), RefusalCode.IMA_REPLAY_MISMATCH, step=4)


def test_both_banks_must_hold_where_both_are_quoted() -> None:
    both = f"{SELECTION}+{SELECTION.replace('sha256', 'sha1')}"
    court = Running(selection=both, ima='boot_aggregate = "reported"')

    assert "runtime-clean" in {one.code for one in court.look().findings}

    court.tpm.extend(HashAlgorithm.SHA1, 10, b"\x07" * 20)
    assert_refused(court.look(offset=0), RefusalCode.IMA_REPLAY_MISMATCH, step=4)


def test_kernel_before_5_8_is_read_by_its_own_rule_and_remembered() -> None:
    court = Running(padded=True)

    first = court.look()
    court.kernel.measure(b"/usr/bin/env", b"env")
    second = court.look()

    for result, entries in ((first, 4), (second, 5)):
        assert result.progress is not None, result.reasons
        assert (result.progress.padded, result.progress.entries) == (True, entries)


def test_missing_list_is_contradicted_or_told_as_the_policy_says() -> None:
    required, reported = Running(), Running(ima='list = "reported"')

    assert_refused(required.judge(), RefusalCode.IMA_LIST_MISSING, step=4)
    told = of(reported.judge(), RefusalCode.IMA_LIST_MISSING)
    assert told.value == 0


def test_list_of_a_kernel_that_measured_nothing_is_no_list() -> None:
    court = Running()
    court.tpm.load_pcrs({bank: {10: bytes(bank.size)} for bank in court.kernel.banks})

    result = court.look()

    assert_refused(result, RefusalCode.IMA_LIST_MISSING, step=4)
    assert "runtime-clean" not in {one.code for one in result.findings}


def test_n45_pcr_10_is_the_lists_and_never_a_false_alarm_of_the_firmware_log() -> None:
    court = Running()

    with_list, without = court.look(), court.judge()

    assert not [one for one in with_list.findings if one.code == RefusalCode.PCR_NOT_COVERED]
    assert RefusalCode.PCR_NOT_COVERED in {one.code for one in without.findings if one.pcr == 10}


# --- boot_aggregate ------------------------------------------------------------------------------
def aggregate(content: bytes, algorithm: str = "sha256") -> bytes:
    return field(tagged(content, algorithm)) + field(b"boot_aggregate\0")


def other_boot(court: Running, data: bytes) -> None:
    """Begin the list anew with another first entry."""
    court.tpm.load_pcrs({bank: {10: bytes(bank.size)} for bank in court.kernel.banks})
    court.kernel.pieces.clear()
    court.kernel.measure_data(data)


def test_n36_list_of_another_boot_is_contradicted() -> None:
    court = Running()
    other_boot(court, aggregate(b"another boot"))

    found = of(court.look(), RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH)

    assert found.value == 96


def test_n36_list_that_does_not_begin_with_boot_aggregate_is_contradicted() -> None:
    court = Running()
    other_boot(court, ng(b"/usr/bin/env", b"env"))

    assert of(court.look(), RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH).value == 96


def test_n36_second_boot_aggregate_after_kexec_must_hold_too() -> None:
    court = Running()
    court.kernel.begin("sha256")
    good = court.look()
    court.kernel.measure_data(aggregate(b"another boot"))
    bad = court.look()

    assert "runtime-clean" in {one.code for one in good.findings}
    assert of(bad, RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH).value == 96


def test_n36_aggregate_of_older_kernels_over_pcr_0_to_7_holds() -> None:
    court = Running()
    values = court.tpm.read_pcrs(court.policy.selections)[HashAlgorithm.SHA256]
    other_boot(court, aggregate(b"".join(values[index] for index in range(8))))
    court.kernel.measure(b"/usr/bin/env", b"env")

    assert "runtime-clean" in {one.code for one in court.look().findings}


def test_n36_aggregate_over_a_bank_that_is_not_quoted_is_said_and_never_silently_fine() -> None:
    required, reported = Running(), Running(ima='boot_aggregate = "reported"')
    for court in (required, reported):
        other_boot(court, aggregate(b"whatever", "sha1"))

    strict, lenient = required.look(), reported.look()

    assert of(strict, RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH).value == 33
    told = of(lenient, RefusalCode.IMA_BOOT_AGGREGATE_MISMATCH)
    assert (told.value, "cannot be recomputed" in told.reason) == (0, True)


# --- piece by piece ------------------------------------------------------------------------------
def test_pieces_of_a_list_find_what_the_whole_finds() -> None:
    pieces, whole = Running(), Running()
    for number in range(12):
        for court in (pieces, whole):
            court.kernel.measure(b"/opt/new%d" % number, b"%d" % number)
            if number % 5 == 0:
                court.kernel.violate(b"/x%d" % number)
        result = pieces.look()

    judged = whole.look()

    assert result.progress == judged.progress
    assert [one for one in result.findings if one.step == 5] == [
        one for one in judged.findings if one.step == 5
    ]
    assert result.progress is not None
    assert result.progress.counts == {"ima-file-unknown": 12, "ima-violation": 3}


def test_what_was_run_stays_told_when_nothing_new_is_sent() -> None:
    court = Running()
    court.kernel.measure(b"/opt/evil", b"evil")
    court.look()

    again = court.look(b"")

    assert "/opt/evil" in of(again, RefusalCode.IMA_FILE_UNKNOWN).reason


def test_samples_are_few_and_hostile_names_are_escaped_and_cut() -> None:
    court = Running()
    for number in range(50):
        court.kernel.measure(b"/opt/\x1b[31m\nevil\xff%d" % number + b"A" * 4000, b"%d" % number)

    result = court.look()

    assert result.progress is not None
    assert len(result.progress.samples["ima-file-unknown"]) == MAX_SAMPLES
    reason = of(result, RefusalCode.IMA_FILE_UNKNOWN).reason
    assert reason.isprintable()
    assert "and 45 more" in reason
    assert len(reason) < 1500


def refused_offset(court: Running) -> None:
    with pytest.raises(MalformedInput) as refused:
        court.look()
    assert refused.value.code is RefusalCode.IMA_OFFSET_UNKNOWN


def test_reboot_asks_for_the_whole_list() -> None:
    court = Running()
    court.look()
    court.tpm.reset_count += 1

    refused_offset(court)
    assert "runtime-clean" in {one.code for one in court.look(offset=0).findings}


def test_change_of_the_runtime_policy_asks_for_the_whole_list_even_in_the_same_version() -> None:
    court = Running()
    court.kernel.measure(b"/usr/bin/sh", b"sh")
    court.look()
    court.runtime(files={b"/usr/bin/env": b"env"})

    refused_offset(court)
    again = court.look(offset=0)
    assert again.progress is not None
    assert again.progress.counts == {"ima-file-unknown": 3}


def test_verifier_that_lost_its_progress_asks_for_the_whole_list() -> None:
    court = Running()
    court.look()
    court.enrolment = replace(court.enrolment, progress=None)

    with pytest.raises(MalformedInput) as refused:
        court.look(offset=4)
    assert refused.value.code is RefusalCode.IMA_OFFSET_UNKNOWN


@pytest.mark.parametrize("offset", [1, 3, 5])
def test_list_from_another_entry_than_the_verifiers_is_not_judged(offset: int) -> None:
    court = Running()
    court.look()

    with pytest.raises(MalformedInput) as refused:
        court.look(b"", offset=offset)
    assert refused.value.code is RefusalCode.IMA_OFFSET_UNKNOWN


# --- runtime policy ------------------------------------------------------------------------------
def test_absent_runtime_policy_is_never_clean() -> None:
    court = Running()
    court.reference = replace(court.reference, runtime={})

    result = court.look()

    assert of(result, RefusalCode.REFERENCE_MISSING).value == 33
    assert "runtime-clean" not in {one.code for one in result.findings}


def test_n37_left_out_paths_match_whole_and_a_denied_digest_wins() -> None:
    court = Running(
        "exclude = ['/var/cache/**', '/usr/bin/s?']\n"
        f"denied = '''\n{digest(b'bad')}  known bad\n'''"
    )
    for path, content in (
        (b"/var/cache/apt/x", b"1"),
        (b"/var/cacheevil", b"2"),
        (b"/opt/var/cache/x", b"3"),
        (b"/var/cache/bad", b"bad"),
        (b"/usr/bin/sh", b"not the listed sh"),
        (b"/usr/bin/st", b"left out"),
    ):
        court.kernel.measure(path, content)

    result = court.look()

    unknown = of(result, RefusalCode.IMA_FILE_UNKNOWN).reason
    assert result.progress is not None
    assert result.progress.counts == {"ima-file-unknown": 3, "ima-file-denied": 1}
    assert all(path in unknown for path in ("/var/cacheevil", "/opt/var/cache/x", "/usr/bin/sh"))


def test_n33_unknown_template_and_malformed_fields_fail_closed() -> None:
    court = Running(f"digests = '''\n{digest(b'env')}\n'''")
    good = tagged(b"env")
    for template, data in (
        (b"ima-new", ng(b"/usr/bin/env", b"env")),
        (b"evm-sig", ng(b"/usr/bin/env", b"env")),
        (b"ima-ng", field(good) + field(b"/usr/bin/env")),
        (b"ima-ng", field(good) + field(b"/usr/bin/env\0")[:-1]),
        (b"ima-ng", (4096).to_bytes(4, "little") + good + field(b"/usr/bin/env\0")),
        (b"ima-ng", field(good) + field(b"/x\0/usr/bin/env\0")),
        (b"ima-sig", ng(b"/usr/bin/env", b"env") + (99).to_bytes(4, "little")),
        (b"ima-ng", ng(b"/usr/bin/env", b"env") + b"\0"),
    ):
        kernel = SoftIma(court.tpm)
        other_boot(court, aggregate(b"x"))
        kernel.pieces = court.kernel.pieces[:]
        kernel.measure_data(data, template=template)
        with pytest.raises(AttestationError):
            court.look(kernel.list(), offset=0)


def public(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_signed_files_are_known_by_their_signer(kind: str) -> None:
    key: PrivateKey = (
        rsa.generate_private_key(65537, 2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    stranger = ec.generate_private_key(ec.SECP256R1())
    court = Running(f"[[signers]]\nname = 'packages'\npem = '''{public(key)}'''")
    made = file_signature(key, b"tool")
    court.kernel.measure_signed(b"/opt/tool", b"tool", made)
    clean = court.look()
    court.kernel.measure_signed(b"/opt/other", b"other", made)
    court.kernel.measure_signed(b"/opt/strange", b"x", file_signature(stranger, b"x"))
    court.kernel.measure_signed(b"/opt/unsigned", b"y", b"")
    court.kernel.measure_signed(b"/usr/bin/env", b"env", b"")
    court.kernel.measure_signed(b"/opt/cut", b"z", made[:20])
    court.kernel.measure_signed(b"/opt/evm", b"e", b"\x05" + made[1:])

    result = court.look()

    assert "runtime-clean" in {one.code for one in clean.findings}
    assert result.progress is not None
    assert result.progress.counts == {
        "ima-signature-invalid": 2,
        "ima-signer-unknown": 1,
        "ima-file-unknown": 2,
    }
    assert of(result, RefusalCode.IMA_SIGNATURE_INVALID).value == 96
    assert of(result, RefusalCode.IMA_SIGNER_UNKNOWN).value == 33


def test_key_id_of_a_trusted_key_on_a_strangers_signature_is_a_wrong_signature() -> None:
    key, stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    court = Running(f"[[signers]]\nname = 'packages'\npem = '''{public(key)}'''")
    key_id = file_signature(key, b"x")[3:7]
    court.kernel.measure_signed(b"/opt/x", b"x", file_signature(stranger, b"x", key_id=key_id))

    assert of(court.look(), RefusalCode.IMA_SIGNATURE_INVALID).value == 96


def test_policy_that_asks_for_a_pcr_outside_the_quote_is_no_policy() -> None:
    with pytest.raises(MalformedInput, match=r"ima\.pcr") as refused:
        Running(ima="pcr = 12")
    assert refused.value.code is RefusalCode.POLICY_INVALID


@pytest.mark.parametrize(
    ("ima", "words"),
    [
        ("polcy = 1", "polcy"),
        ("unknown = 2", "ima.unknown"),
        ("pcr = 24", "ima.pcr"),
        ('claim = "hardware"', "ima.claim"),
        ('list = "maybe"', "ima.list"),
    ],
)
def test_wrong_ima_section_is_refused_by_its_key(ima: str, words: str) -> None:
    with pytest.raises(MalformedInput, match=words):
        load_policy(APPRAISAL.format(ima=ima, selection=SELECTION), "test")


@pytest.mark.parametrize("also", ["", "digests = '''\n{}\n'''\n"])
def test_denied_digest_wins_over_every_list_that_allows_it(also: str) -> None:
    court = Running(f"{also.format(digest(b'env'))}denied = '''\n{digest(b'env')}  hole\n'''")

    assert of(court.look(), RefusalCode.IMA_FILE_DENIED).value == 96
