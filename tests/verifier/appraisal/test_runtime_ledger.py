"""What signatures of files may cost: nothing before the list is proven, and never without end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.evidence import ImaPart
from attestation.logs.ima.framing import walk
from attestation.refusals import RefusalCode as Code
from tests.simulators.soft_ima import entry, field, file_signature, ng
from tests.verifier.appraisal.courtroom import assert_refused
from tests.verifier.appraisal.test_runtime import Running
from verifier.appraisal.runtime_ledger import MAX_SIGNATURES, Ledger
from verifier.reference_values.runtime_policy import RuntimePolicy

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
SIGNER = f"[[signers]]\nname = 'packages'\npem = '''{PUBLIC}'''"


def policy_of(court: Running) -> RuntimePolicy:
    return court.reference.runtime["box"]


def verified(court: Running) -> int:
    """How many signatures the keyring has verified: it remembers each."""
    return len(policy_of(court).keyring._remembered)


def signed(number: int) -> bytes:
    """One entry with a good signature of its own."""
    content = b"tool %d" % number
    made = file_signature(KEY, content)
    return entry(ng(b"/opt/%d" % number, content) + field(made), template=b"ima-sig")


def test_signatures_of_a_proven_list_are_verified() -> None:
    court = Running(SIGNER)
    for number in range(3):
        content = b"tool %d" % number
        court.kernel.measure_signed(b"/opt/%d" % number, content, file_signature(KEY, content))

    assert "runtime-clean" in {one.code for one in court.look().findings}
    assert verified(court) == 3


@pytest.mark.parametrize("where", ["all invented", "after the quote"])
def test_signatures_that_nothing_proves_are_never_verified(where: str) -> None:
    """Whoever may send evidence could have any number of them verified otherwise."""
    court = Running(SIGNER)
    invented = b"".join(signed(number) for number in range(5))

    if where == "after the quote":
        result = court.look(court.kernel.list() + invented)
        assert result.progress is not None
        assert result.progress.entries == 4
    else:
        result = court.look(court.kernel.pieces[0] + invented)
        assert_refused(result, Code.IMA_REPLAY_MISMATCH, step=4)

    assert verified(court) == 0


def test_signatures_of_a_list_with_one_edited_entry_are_never_verified() -> None:
    court = Running(SIGNER)
    for number in range(3):
        content = b"tool %d" % number
        court.kernel.measure_signed(b"/opt/%d" % number, content, file_signature(KEY, content))
    edited = court.kernel.list().replace(b"/usr/bin/env", b"/usr/bin/vim")

    assert_refused(court.look(edited), Code.IMA_TEMPLATE_MISMATCH, step=4)
    assert verified(court) == 0


def test_what_was_told_before_a_restart_is_never_judged() -> None:
    """A list is followed anew for kernels before 5.8, or when it extends several PCRs."""
    court = Running(SIGNER)
    ledger = Ledger(policy_of(court), {}, None)
    wrong = entry(ng(b"/x", b"x") + field(file_signature(KEY, b"y")), template=b"ima-sig")
    for number, one in enumerate(walk(wrong * 3), 1):
        ledger.judge(number, one)
    before = dict(ledger.counts)
    ledger.restart()
    ledger.settle({})

    assert before == ledger.counts == {}
    assert verified(court) == 0


def test_more_signatures_than_one_evidence_may_cost_are_judged_as_none() -> None:
    """Of a stranger's key, so that what is counted is who was asked, not the time it took."""
    court = Running(SIGNER)
    stranger = ec.generate_private_key(ec.SECP256R1())
    made = file_signature(stranger, b"tool")
    surplus = 3
    court.kernel.measure(b"/opt/unsigned", b"x")
    for number in range(MAX_SIGNATURES + surplus):
        court.kernel.measure_signed(b"/opt/%d" % number, b"tool", made)
    evidence = replace(court.evidence(), ima_list=ImaPart(offset=0, content=court.kernel.list()))

    result = court.judge(evidence)

    assert result.progress is not None, result.reasons
    assert result.progress.counts == {
        Code.IMA_SIGNER_UNKNOWN: MAX_SIGNATURES,
        Code.IMA_FILE_UNKNOWN: surplus + 1,
    }
